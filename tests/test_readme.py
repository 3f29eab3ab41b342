import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from wna_jax import Analysis, load, noise, responses
from wna_jax.correlation import reverse_correlate_in_parts
from wna_jax.networks import models

README = (Path(__file__).parent.parent / "README.md").read_text()
CALL, FIRST, LOADED = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def my_logits(images: jax.Array) -> jax.Array:
    module = models.create("logistic", (28, 28, 1), 10)
    return module.apply({"params": models.initial_parameters(module, jax.random.key(0))}, images).astype(jnp.float32)


def test_the_call_runs_as_it_stands_in_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CALL.strip().count("\n") <= 5
    exec(CALL.replace("100_000", "2_000").replace('"mnist"', '"digits"'), {"my_logits": my_logits})
    assert load("my_network").moments["decision"].count.sum() == 2000
    assert Path("my_network", "classification_images.png").stat().st_size > 10_000


def test_the_library_in_five_lines_runs_as_it_stands_in_the_readme() -> None:
    names = {"my_logits": my_logits}
    exec(FIRST.replace("100_000", "2_000"), names)
    maps = names["maps"]
    assert maps.count.sum() == 2000  # type: ignore[attr-defined]
    assert maps.images.shape == (10, 28, 28, 1)  # type: ignore[attr-defined]


def test_a_finished_run_is_read_as_the_readme_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder,) = re.findall(r'load\("(.*?)"\)', LOADED)
    white, respond = noise.uniform((28, 28, 1)), responses.of_classifier(my_logits)
    parts = reverse_correlate_in_parts(white, respond, 2_000, sampling="independent", batch_size=500)
    saved = Analysis(parts.first, parts.second, white, [f"{k}" for k in range(10)])
    monkeypatch.chdir(tmp_path)
    Path(folder).mkdir(parents=True)
    saved.save(Path(folder, "maps.npz"))
    names: dict = {}
    exec(LOADED, names)
    assert names["run"].maps["decision"].count.sum() == 2000
    assert set(names["found"].significant) == {"pixels", "smoothed", "clusters", "TFCE"}


def test_every_module_that_the_readme_imports_or_names_exists() -> None:
    imports = re.findall(r"`(from wna_jax[\w.]* import \w+)`", README)
    assert len(imports) >= 2
    for line in imports:
        exec(line, {})
    names: dict = {}
    exec("import wna_jax", names)
    for called in set(re.findall(r"`(wna_jax(?:\.\w+)+)[`(]", README)):
        assert eval(called, names), called


def test_every_file_that_the_readme_links_exists() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    for link in links:
        assert (Path(__file__).parent.parent / link).exists(), link
