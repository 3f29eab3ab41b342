"""report.html: well-formed, alone, true to the run's numbers, and safe whatever classes are called."""

import base64
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import launch
from experiments.settings import DataSettings, setting
from wna_jax import Analysis, analyse, figures, noise, statistics
from wna_jax.analysis import report

SHAPE = (6, 6, 1)
TEMPLATES = np.random.default_rng(0).standard_normal((3, 36)).astype(np.float32)
NAMES = ["a", "</script><script>document.title = 'taken'</script>", "never"]


def logits(images: jax.Array) -> jax.Array:
    """The last class is never called."""
    return ((images.reshape(len(images), -1) - 0.5) @ TEMPLATES.T).at[:, 2].add(-1_000)


class Settings(DataSettings):
    """Of a toy experiment."""

    size: int = setting(3, "A number.")
    quick: bool = setting(True, "A switch.")


class Page(HTMLParser):
    """Elements with their attributes, the text by element, and whether each end has its start."""

    VOID = ("meta", "link", "input", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open += [] if tag in self.VOID else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.text.setdefault(self._open[-1], []).append(data)

    @property
    def data(self) -> Any:
        return json.loads(self.text["script"][0])


def decoded(text: str, kind: str = "<f4") -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


@pytest.fixture(scope="module")
def found() -> Analysis:
    how: dict[str, Any] = {"num_samples": 3_000, "sampling": "independent", "batch_size": 250, "permutations": 19}
    return analyse(logits, noise.uniform(SHAPE), **how, class_names=NAMES)


def written(folder: Path, **options: Any) -> Page:
    report.write(folder, "A run", **options)
    return Page((folder / "report.html").read_text())


def test_a_saved_analysis_has_a_page_that_needs_nothing_else(found: Analysis, tmp_path: Path) -> None:
    found.save(tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "poster", "srcset"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    assert not re.search(r"https?:|@import|url\(", (report._TEMPLATE).read_text())
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert policy
    assert policy.startswith("default-src 'none'; img-src 'self' file: data:")
    (picture,) = (attributes for tag, attributes in page.elements if tag == "img")
    assert picture["alt"]
    assert picture["alt"].startswith("Classification images of logits: 3,000 images of uniform noise. Red: brighter")
    assert picture["src"]
    start, _, inside = picture["src"].partition(",")
    assert start == "data:image/png;base64"
    assert base64.b64decode(inside) == (tmp_path / "classification_images.png").read_bytes()
    assert found.summary() in page.text["pre"]


def test_the_page_holds_the_numbers_of_the_run(found: Analysis, tmp_path: Path) -> None:
    data = written(tmp_path, analysis=found).data
    assert [own["name"] for own in data["responses"]] == list(found.first)
    for own in data["responses"]:
        name, maps = own["name"], found.maps[own["name"]]
        posterior, inside = found.posterior(name), found.findings(name).significant["pixels"]
        assert posterior
        assert inside is not None
        for part, expected in [
            (own["plain"]["value"], maps.images),
            (own["plain"]["error"], maps.standard_error),
            (own["prior"]["value"], posterior.images),
            (own["prior"]["error"], posterior.standard_deviation),
        ]:
            values = decoded(part).reshape(expected.shape)
            np.testing.assert_array_equal(np.isnan(values), np.ma.getmaskarray(expected))
            np.testing.assert_allclose(np.ma.masked_invalid(values).compressed(), expected.compressed(), rtol=1e-7)
        assert own["plain"]["z"] is None  # it is value / error
        np.testing.assert_array_equal(decoded(own["plain"]["significant"], "?").reshape(inside.shape), inside)
        assert own["plain"]["limit"] == figures.limit_of(maps.in_standard_errors)
    counts = [own[0] for own in data["responses"][0]["plain"]["notes"]]
    for count, said in zip(found.moments["decision"].count, counts, strict=True):
        assert said.startswith(f"{count:,}")


def test_errors_of_fields_bring_their_own_z(found: Analysis, tmp_path: Path) -> None:
    estimated = {name: replace(maps, degrees_of_freedom=np.full(3, 9.0)) for name, maps in found.maps.items()}
    other = replace(found)
    other.__dict__["maps"] = estimated
    for own in written(tmp_path, analysis=other).data["responses"]:
        expected = statistics.z_map(estimated[own["name"]])
        np.testing.assert_allclose(decoded(own["plain"]["z"]), expected.filled(np.nan).ravel(), rtol=1e-6)


def test_an_empty_class_is_said_and_not_drawn(found: Analysis, tmp_path: Path) -> None:
    decision = written(tmp_path, analysis=found).data["responses"][0]
    assert decision["missing"] == [None, None, "empty: no sample"]
    assert np.isnan(decoded(decision["plain"]["value"]).reshape(3, -1)[2]).all()


def test_names_are_text_and_never_markup(found: Analysis, tmp_path: Path) -> None:
    evil = NAMES[1]
    picture = report.Picture([tmp_path / "a'\"><img src=x>.png"], evil)
    picture.paths[0].write_bytes(b"")
    metrics = {"classes": NAMES, evil: [1, 2, 3], "nested": {evil: {evil: evil}}}
    texts: dict[str, Any] = {"summary": [evil, "{{data}}"], "command": evil, "settings": {evil: evil}}
    page = written(tmp_path, metrics=metrics, pictures=[picture], analysis=replace(found, name=evil), **texts)
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert [tag for tag, _ in page.elements].count("img") == 1
    assert page.data["names"] == NAMES
    assert f"{evil}\n{{{{data}}}}" in "".join(page.text["pre"])


def test_numbers_become_tables_with_the_names_of_classes(tmp_path: Path) -> None:
    metrics = {
        "classes": ["cat", "dog"],
        "accuracy": 0.9871234,
        "samples": 20_480,
        "unknown": None,
        "counts": [3, 4],
        "reliability": {"decision": [0.5, None], "probability": [0.25, 1.0]},
        "answers": [{"called": "dog", "right": False}, None],
        "mixed": {"one": 1, "deep": {"of": {"more": [[7]]}}},
    }
    written(tmp_path, metrics=metrics)
    text = (tmp_path / "report.html").read_text().replace(' scope="row"', "")
    assert "<tr><th>accuracy</th><td>0.98712</td></tr><tr><th>samples</th><td>20,480</td></tr>" in text
    assert "<tr><th>unknown</th><td>–</td></tr>" in text
    assert "<tr><th>cat</th><td>3</td></tr><tr><th>dog</th><td>4</td></tr>" in text
    assert '<th scope="col">cat</th><th scope="col">dog</th></tr><tr><th>decision</th><td>0.5</td><td>–</td>' in text
    assert "<tr><th>cat</th><td>dog</td><td>no</td></tr><tr><th>dog</th><td>–</td><td>–</td></tr>" in text
    assert "<summary>deep</summary>" in text


@pytest.mark.parametrize("value", [[], {}, [[]], {"a": {}}, [[1], [2, 3]], [None], [[None, 1]], list(range(500))])
def test_numbers_of_any_shape_have_a_page(value: Any, tmp_path: Path) -> None:
    page = written(tmp_path, metrics={"any": value})
    assert ("400 more rows" in "".join(page.text.get("p", []))) == (len(value) == 500)


def test_a_page_stays_small(found: Analysis, tmp_path: Path) -> None:
    """Large figures are shown from their own files, and maps that are too large are not."""
    pictures = [report.Picture([tmp_path / f"{name}.png"], name) for name in ("first", "large #1", "last")]
    for picture, size in zip(pictures, (1_000, 4_000_000, 1_000), strict=True):
        picture.paths[0].write_bytes(bytes(size))
    many = {"matrix": np.zeros((99, 99)).tolist(), "long": [{"deep": np.zeros((50, 50, 50)).tolist()}]}
    page = written(tmp_path, pictures=pictures, metrics=many)
    assert (tmp_path / "report.html").stat().st_size < report.LARGEST
    sources = [attributes["src"] or "" for tag, attributes in page.elements if tag == "img"]
    assert [source[:20] for source in sources] == ["data:image/png;base6", "large%20%231.png", "data:image/png;base6"]
    assert any("Too long for this page" in text for text in page.text["p"])


def test_of_large_maps_there_are_the_most_reliable(
    found: Analysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_FOR_MAPS", 36 * 34 * 4 // 3 * 2)
    data = written(tmp_path, analysis=found).data
    assert data["names"] == NAMES[:2]  # the third has no map
    assert "the 2 of 3 classes with the most reliable decision maps" in data["dose"]
    np.testing.assert_allclose(
        decoded(data["responses"][1]["plain"]["value"]), found.maps["probability"].images[:2].ravel(), rtol=1e-7
    )
    monkeypatch.setattr(report, "_FOR_MAPS", 100)
    page = written(tmp_path, analysis=found)
    assert page.data is None
    assert any("too large for this page" in text for text in page.text["p"])


def test_every_experiment_writes_the_page_with_its_command(tmp_path: Path) -> None:
    def draw() -> launch.Drawn:
        yield "one.png", Figure(label="What is drawn")

    settings = Settings(
        out_dir=str(tmp_path), size=4, quick=False, dataset="folder:my pictures", figures=("pdf", "svg")
    )
    launch.Result({"count": 3}, ["all well"], draw).write(tmp_path, settings)
    page = Page((tmp_path / "report.html").read_text())
    assert page.text["h1"] == [
        "report.html: well-formed, alone, true to the run's numbers, and safe whatever classes are called."
    ]
    assert page.data is None
    out = f"--out_dir={tmp_path} --figures=pdf,svg '--dataset=folder:my pictures' --size=4 --noquick"
    assert page.text["pre"] == ["all well", f"python -m experiments.test_report {out}"]
    (picture,) = (attributes for tag, attributes in page.elements if tag == "img")
    assert picture["alt"] == "What is drawn"
    assert (picture["src"] or "").startswith("data:image/svg+xml;base64,")
    placed = Settings(size=4).placed("test_report", ["size"])
    assert launch.command_of(placed) == "python -m experiments.test_report --size=4"


def test_files_that_are_no_code_are_in_the_package() -> None:
    root = Path(__file__).parents[1]
    others = {path for path in (root / "wna_jax").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    declared: Mapping[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert others == {root / "wna_jax" / name for name in declared["package-data"]["wna_jax"]}
