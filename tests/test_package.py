"""What a user sees at the prompt."""

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from wna_jax import InputError, classification_images, data, noise, responses, reverse_correlate, statistics
from wna_jax.maps import ClassificationImages
from wna_jax.networks import Network, models

WHITE = noise.gaussian((6, 6, 1), 0.5, 0.2)


def logits(images: jax.Array) -> jax.Array:
    return images.reshape(len(images), -1)[:, :3]


def run(seed: int) -> Any:
    return reverse_correlate(WHITE, responses.of_classifier(logits, ["decision"]), 3_000, seed=seed)["decision"]


@pytest.fixture(scope="module")
def mapped() -> list[ClassificationImages]:
    return [classification_images(run(seed), WHITE) for seed in (0, 1)]


def test_values_are_shown_in_a_line_or_two(
    mapped: list[ClassificationImages], random_network: Callable[[Any], Network]
) -> None:
    for value, said in [
        (run(0), "<Moments of 3,000 samples: 3 responses, 6x6x1 pixels; decision in gaussian noise, seed 0>"),
        (run(0) + run(1), "6,000 samples: 3 responses, 6x6x1 pixels; decision in gaussian noise, seed 0, 1"),
        (mapped[0], r"<ClassificationImages of 3 responses (3 have a map), 6x6x1 pixels, "),
        (WHITE, "<Noise 'gaussian' of 6x6x1 pixels, mean 0.5, deviation 0.2, white, gaussian>"),
        (random_network(models.create("logistic", (6, 6, 1), 3)), "images 6x6x1, 111 parameters, float32>"),
        (data.load("digits"), "<Dataset 'digits' of 10 classes: 1,"),
        (statistics.findings(mapped[0], permutations=19), "<Findings in 3 maps of 6x6x1 pixels; significant:"),
        (statistics.contrast(*mapped), "<Contrast of 3 maps of 6x6x1 pixels, largest |z| "),
    ]:
        assert said in repr(value)
        assert len(repr(value)) < 300
        assert repr(value).count("\n") <= 1


def test_values_can_be_shown_within_a_program() -> None:
    shown = []
    jax.jit(lambda *values: shown.append(repr(values)))(WHITE.mean, run(0))
    jax.eval_shape(lambda values: shown.append(repr(values)), WHITE)
    assert "<Moments of " in shown[0]
    assert "<Noise 'gaussian' of 6x6x1 pixels, white, gaussian>" in shown[1]


def test_what_the_cache_of_compiled_programs_needs_is_installed_with_the_package() -> None:
    """JAX limits its size by `filelock`, which it does not ask for: without it nothing is kept, with a warning each."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert any(name.startswith("filelock") for name in project["dependencies"])


def test_the_parts_of_the_package_need_no_import_of_their_own() -> None:
    parts = ("statistics.findings", "figures.gallery", "data.load", "networks.create", "maps.named")
    code = "import wna_jax; assert all(map(callable, [" + ", ".join(f"wna_jax.{part}" for part in parts) + "]))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_part_that_is_not_there_is_an_attribute_error() -> None:
    import wna_jax

    with pytest.raises(AttributeError, match="no attribute 'figure'"):
        _ = wna_jax.figure


class Torch:
    """As PyTorch's functions do: they refuse what is not their own."""

    def __call__(self, images: Any) -> np.ndarray:
        if not isinstance(images, np.ndarray):
            raise TypeError(f"expected np.ndarray (got {type(images).__name__})")
        return images


@pytest.mark.parametrize(
    "of_numpy",
    [
        lambda images: np.asarray(images).reshape(len(images), -1),
        lambda images: images.reshape(len(images), -1) if images.max() > 0 else None,
        lambda images: images[images > 0.5],
        Torch(),
    ],
)
def test_a_function_that_jax_cannot_trace_is_told_of_black_boxes(of_numpy: Any) -> None:
    for respond in (responses.of_classifier(of_numpy), of_numpy):
        with pytest.raises(InputError, match=r"responses\.of_black_box"):
            reverse_correlate(WHITE, respond, 100)


def test_findings_of_a_contrast_are_those_of_its_z(mapped: list[ClassificationImages]) -> None:
    contrast = statistics.contrast(*mapped)
    same = ClassificationImages(contrast.difference, contrast.standard_error, mapped[0].count, mapped[0].share)
    found, expected = (statistics.findings(maps, permutations=39) for maps in (contrast, same))
    np.testing.assert_allclose(found.z, expected.z)
    for test, inside in expected.significant.items():
        np.testing.assert_array_equal(found.significant[test], inside)
    coloured = statistics.findings(contrast._replace(independent=False))
    assert coloured.significant["clusters"] is None
