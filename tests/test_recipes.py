"""Each recipe of docs/networks.md, on one and the same linear network; those whose packages are missing are skipped."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import recipes
from PIL import Image

import wna_jax


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    """How often each class is answered, computed with NumPy from the samples."""
    images = np.asarray(wna_jax.draw_samples(wna_jax.noise.uniform(recipes.SHAPE), 20_000))
    return np.bincount(recipes.my_logits(images).argmax(axis=1), minlength=recipes.CLASSES)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of other packages
@pytest.mark.parametrize("name", recipes.RECIPES)
def test_five_lines_lead_from_a_network_to_the_picture(
    name: str, expected: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[wna_jax.Analysis] = []
    analyse = wna_jax.analyse

    def noted(*args: Any, **options: Any) -> wna_jax.Analysis:
        found.append(analyse(*args, **options))
        return found[-1]

    monkeypatch.setattr(wna_jax, "analyse", noted)
    lines = [line for line in recipes.code(name).splitlines() if line.strip()]
    assert len(lines) <= 5
    try:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            recipes.run(name, tmp_path)
    except ImportError as error:
        pytest.skip(str(error))
    assert Image.open(tmp_path / "maps.png").size[0] > 300
    counts = found[0].moments["decision"].count
    if name == "Several labels at once":
        images = np.asarray(wna_jax.draw_samples(wna_jax.noise.uniform(recipes.SHAPE), 20_000))
        labels = (recipes.my_logits(images) > 0).sum(axis=0)
        np.testing.assert_allclose(counts, labels, atol=2)
    else:
        np.testing.assert_allclose(counts, expected, atol=2)  # ties of rounding


def test_layers_of_a_network_on_the_page_have_averages() -> None:
    names = recipes.linen() | {"name": "out"}
    names["network"] = wna_jax.networks.of_linen(names["module"], names["variables"])
    exec(recipes.code("Units of a layer"), names)
    assert names["averages"].images.shape == (3, 8, 8, 1)
