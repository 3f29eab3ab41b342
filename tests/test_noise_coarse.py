"""Noise in larger pixels: on its own grid it is the noise itself, and a network answers to squares."""

import operator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import noise_maps
from wna_jax import (
    Analysis,
    classification_images,
    draw_samples,
    feed_back,
    load,
    noise,
    responses,
    reverse_correlate,
    statistics,
)
from wna_jax.correlation.fields import independent
from wna_jax.correlation.program import Program
from wna_jax.data import Dataset
from wna_jax.maps import regression_images
from wna_jax.runs.accumulate import widened
from wna_jax.runs.errors import InputError

FINE = noise.gaussian((12, 8, 2), np.array([0.4, 0.6]), np.array([0.2, 0.1]))
TEMPLATES = jax.random.normal(jax.random.key(1), (192, 3))


def linear(images: jax.Array) -> jax.Array:
    return images.reshape(len(images), -1) @ TEMPLATES


def linear_on_squares(images: jax.Array) -> jax.Array:
    return linear(images.repeat(4, axis=1).repeat(4, axis=2))


def same_but_for_the_origin(first: Any, second: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_a_draw_is_shown_in_squares_of_its_values() -> None:
    shown = np.asarray(draw_samples(noise.coarse(FINE, 4), 5, seed=2))
    drawn = np.asarray(draw_samples(FINE.resized((3, 2)), 5, seed=2))
    assert shown.shape == (5, 12, 8, 2)
    np.testing.assert_array_equal(shown, np.kron(drawn, np.ones((1, 4, 4, 1))))


@pytest.mark.parametrize("box", [False, True], ids=["traced", "black box"])
def test_the_sums_are_those_of_a_network_that_enlarges_fine_noise(box: bool) -> None:
    first: Any = responses.of_classifier(linear)
    second: Any = responses.of_classifier(linear_on_squares)
    if box:
        first = responses.of_black_box(lambda images: np.asarray(linear(jnp.asarray(images))))
        second = responses.of_black_box(lambda images: np.asarray(linear_on_squares(jnp.asarray(images))))
    coarse = reverse_correlate(noise.coarse(FINE, 4), first, 500)
    fine = reverse_correlate(FINE.resized((3, 2)), second, 500)
    same_but_for_the_origin(coarse, fine)
    assert coarse["decision"].sum.shape == (3, 3, 2, 2)


def test_squares_of_one_pixel_are_the_noise_itself() -> None:
    one = reverse_correlate(noise.coarse(FINE, 1), responses.of_classifier(linear), 500)
    same_but_for_the_origin(one, reverse_correlate(FINE, responses.of_classifier(linear), 500))


def test_the_map_of_a_linear_network_is_its_template_summed_over_squares() -> None:
    coarse = noise.coarse(FINE, 4)
    moments = reverse_correlate(coarse, responses.of_classifier(linear, ["logit"]), 40_000)["logit"]
    template = np.asarray(TEMPLATES).T.reshape(3, 3, 4, 2, 4, 2).sum(axis=(2, 4))
    found = regression_images(moments, coarse)
    z = (found.images - template) / found.standard_error
    assert np.abs(z).max() < 4.5
    assert np.square(z).mean() == pytest.approx(1, abs=0.75)  # 36 values; a template that is off by 10% gives 60


def test_names_of_coarse_noise(digits: Dataset) -> None:
    assert noise.of_shape("uniform/4", (28, 28, 1)).shape == (7, 7, 1)
    for name in ("uniform/4", "gaussian:0.5,0.2/7", "matched/2", "binary/28"):
        made = noise.create(name, digits)
        side = int(name.rpartition("/")[2])
        assert made.name.endswith(f"/{side}")
        assert made.shape == (28 // side, 28 // side, 1)
        assert draw_samples(made, 2).shape == (2, 28, 28, 1)
        again = noise.recreate(made.name, made.shape, made.mean, made.deviation)
        assert again is not None
        np.testing.assert_array_equal(draw_samples(again, 3), draw_samples(made, 3))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("uniform/5", r"28x28 pixels in squares of 5 pixels: the side must divide both, as do 1, 2, 4, 7, 14, 28"),
        ("uniform/0", "expected a whole number"),
        ("uniform/", "expected a whole number of pixels behind /, such as uniform/8"),
        ("uniform/-2", "expected a whole number"),
        ("uniform/2/2", r"uniform/2 noise is shown in a way of its own"),
        ("stripes/4", r"stripes noise exists only in the size \(28, 28\), asked for \(7, 7\)"),
        ("unifrom/4", "unifrom"),
    ],
)
def test_what_is_no_coarse_noise_is_said(name: str, said: str, digits: Dataset) -> None:
    with pytest.raises(InputError, match=said):
        noise.create(name, digits)


def test_a_finished_run_in_coarse_noise_is_read_again(tmp_path: Path) -> None:
    coarse = noise.coarse(FINE, 4)
    first, second = (reverse_correlate(coarse, responses.of_classifier(linear), 500, seed=seed) for seed in (0, 1))
    Analysis(first, second, coarse, ("a", "b", "c")).save(tmp_path / "maps.npz")
    read = load(tmp_path / "maps.npz")
    np.testing.assert_array_equal(draw_samples(read.noise, 3), draw_samples(coarse, 3))
    np.testing.assert_array_equal(
        read.maps["decision"].images, classification_images(first["decision"] + second["decision"], coarse).images
    )


def test_a_map_is_fed_back_as_its_noise_is_shown() -> None:
    coarse = noise.coarse(FINE, 4)
    maps = np.ma.masked_array(np.random.default_rng(0).normal(size=(3, 3, 2, 2)))
    answers = feed_back(linear, maps, noise=coarse)
    assert answers == feed_back(linear_on_squares, maps)
    assert feed_back(linear_on_squares, maps, noise=FINE.resized((3, 2))) == answers


@pytest.mark.slow
def test_noise_maps_in_coarse_noise(network_settings: dict[str, Any], tmp_path: Path) -> None:
    small: dict[str, Any] = {"permutations": 19, "gradient_samples": 0, "roi": (1, 1, 5, 6), "noise": "matched/4"}
    result = noise_maps.run(noise_maps.Settings(**network_settings | small, out_dir=str(tmp_path), num_samples=2_000))
    assert result.metrics["sampling"] == "independent"
    assert result.arrays["maps.npz"]["first_decision_sum"].shape == (10, 7, 7, 1)
    names = [name for name, figure in result.draw() if figure]
    assert "classification_images.png" in names


@pytest.mark.slow
def test_tests_of_maps_in_coarse_noise_reject_blind_networks_as_often_as_they_say() -> None:
    coarse, runs, n = noise.coarse(noise.gaussian((32, 32, 1), 0.4, 0.2), 4), 400, 2_000

    def blind(images: jax.Array) -> jax.Array:
        """Answers alike to an image and its negative, so that no pixel matters."""
        match = (images.reshape(len(images), -1) - 0.4) @ jax.random.normal(jax.random.key(0), (1024, 3))
        return jnp.square(match)

    program = Program.of(coarse, responses.of_classifier(blind), independent(coarse), n)
    rejected, spread = np.zeros(3), []
    for seed in range(runs):
        sums: Any = jax.device_get(program(np.uint32(seed), np.uint32(0), np.uint32(0), np.int32(n)))
        moments = operator.add(*jax.tree.map(widened, sums.halves())).of_responses(slice(0, 3))
        maps = classification_images(moments, coarse)
        spread.append(np.square(maps.in_standard_errors).mean())
        found = statistics.findings(maps, permutations=99, seed=seed)
        for i, test in enumerate(("pixels", "smoothed", "clusters")):
            inside = found.significant[test]
            assert inside is not None
            rejected[i] += inside.any()
    margin = 3 * np.sqrt(0.05 * 0.95 / runs)
    assert np.mean(spread) == pytest.approx(1, abs=0.02)
    assert (np.abs(rejected / runs - 0.05) < margin).all(), rejected / runs
