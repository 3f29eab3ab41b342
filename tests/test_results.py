"""The pages of results/: their tables are those of their rows, and what they say, show and tell to run is there."""

import importlib
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from absl import flags

from docs import results
from experiments import launch
from experiments.__main__ import listing

ROOT = Path(__file__).parent.parent
EXPERIMENTS = listing()
PAGES = results.read()
ROWS = [row for page in PAGES.values() for rows in page.rows.values() for row in rows]
NUMBER = re.compile(r"\b\d+ of \d+\b|(?<![\w.])(?:\d[\d,]*\d|\d)?(?:\.\d+)?(?<=\d)(?!\w)")


def numbers(text: str) -> set[str]:
    return set(NUMBER.findall(text)) - {""}


def prose(text: str) -> str:
    """A page without its tables of rows, the addresses of links, pictures, code and the names of sources."""
    text = re.sub(r"<!-- (?:rows|status).*?<!-- end -->", "", text, flags=re.DOTALL)
    text = re.sub(r"!\[.*?\]\(.*?\)|\]\([^)]*\)|`.*?`", " ", text)
    return re.sub(r"arXiv [\d.]+|Python [\d.]+|jax [\d.]+", "", text)


@pytest.fixture
def own_flags() -> Iterator[None]:
    before = set(flags.FLAGS)
    yield
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_its_rows_make_of_it(name: str) -> None:
    assert results.written(PAGES)[name] == PAGES[name].text, "run python docs/results.py"


@pytest.mark.parametrize("name", PAGES)
def test_a_table_can_be_read(name: str) -> None:
    """Rows have limits of their own; these are the cells that stand on the page."""
    cells = [cell for line in PAGES[name].text.splitlines() if line.startswith("|") for cell in line.split("|")]
    assert cells
    assert max(len(cell.split()) for cell in cells) <= 40


def test_a_changed_row_changes_its_page_and_the_index() -> None:
    page = PAGES["speed.md"]
    row = results.Row(what="Changed", published="x", ours=[{"value": ".123"}], status="not run", commands=[])
    changed = results.written(PAGES | {"speed.md": page._replace(rows=page.rows | {"torch": [row]})})
    assert "| Changed | x | .123 |" in changed["speed.md"]
    assert "| [Changed](speed.md#beside-pytorch) | not run |" in changed["README.md"]


@pytest.mark.parametrize("name", PAGES)
def test_each_section_of_rows_stands_once_on_its_page(name: str) -> None:
    page = PAGES[name]
    assert Counter(re.findall(r"<!-- rows: (\w+) -->", page.text)) == Counter(list(page.rows))
    assert (name == "README.md") == (not page.rows)


def test_all_ids_have_a_row() -> None:
    known = [f"F{k}" for k in range(1, 56) if k != 26] + [f"N{k}" for k in range(1, 13)]
    assert {name for row in ROWS for name in row.ids} == set(known)
    assert len({row.label for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
def test_a_row_is_short_and_its_numbers_are_numbers(row: results.Row) -> None:
    assert row.status in results.STATUSES
    assert bool(row.why) or row.status not in ("below", "differs", "not comparable")
    assert len(row.why.split()) <= 6
    assert len(row.what) <= 60
    for item in row.ours:
        if isinstance(item, dict):
            assert set(item) <= {"of", "value", "low", "high", "error", "unit", "best"}
            assert numbers(item["value"].replace("k", "").replace("M", "")), item
            if "low" in item:
                assert float(item["low"]) <= float(item["value"]) <= float(item["high"])
            if "|" in row.note:  # a number stands in the table of the note, too
                assert item["value"] in row.note


@pytest.mark.parametrize("name", PAGES)
def test_the_numbers_of_the_text_are_those_of_the_rows(name: str) -> None:
    """A number in the text of a page stands in its rows; one in the index or on the page about samples, in any row."""
    sources = PAGES.values() if name in ("README.md", "samples.md") else [PAGES[name]]
    made = "\n".join(results.section(rows) for page in sources for rows in page.rows.values())
    assert numbers(prose(PAGES[name].text)) <= numbers(made)


def test_numbers_are_found_as_they_are_written() -> None:
    assert numbers("-.0006 of 10,000, 1.31 times, 99.996% at γ = .1, F11, 28x28, 3/3, 9 of 10.") == {
        *[".0006", "10,000", "1.31", "99.996", ".1", "3", "9 of 10"]
    }


def test_every_picture_is_there_and_every_picture_is_of_a_row() -> None:
    there = {path.name for path in results.FOLDER.iterdir() if path.suffix in (".png", ".jpg")}
    assert {file for row in ROWS for file in row.pictures} == there
    for name, page in PAGES.items():
        for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.text):
            file, _, anchor = link.partition("#")
            assert (results.FOLDER / file).exists(), (name, link)
            if anchor:
                heads = {results.address(line) for line in PAGES[file].text.splitlines() if line.startswith("#")}
                assert anchor in heads, (name, link)


@pytest.mark.parametrize("command", sorted({command for row in ROWS for command in row.commands}))
@pytest.mark.usefixtures("own_flags")
def test_a_command_is_one_that_can_be_run(command: str) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text()
    elif words[1] != "-m":
        assert words[0] == "python"
        assert (ROOT / words[1]).exists()
    else:
        assert words[:2] == ["python", "-m"]
        name = words[2].removeprefix("experiments.")
        assert name in EXPERIMENTS
        settings = importlib.import_module(words[2]).Settings
        assert launch.parse(settings, words[2:]) == words[2:3]
        launch.settings_of(settings, name)
