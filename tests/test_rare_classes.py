"""Rare classes: shares and maps beside those that theory has for linear observers, and beside plain noise."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy import stats

from experiments import launch
from experiments import rare_classes as experiment
from wna_jax import classification_images, noise, responses, reverse_correlate
from wna_jax.figures import captions
from wna_jax.runs.errors import InputError
from wna_jax.studies import rare_classes

SHAPE, S = (8, 8, 1), 0.2
TEMPLATE = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
TEMPLATE[4:] = 0  # the lower half is not seen
TEMPLATE /= np.linalg.norm(TEMPLATE)
STIMULUS = noise.gaussian(SHAPE, 0.5, S)
RARE = float(stats.norm.isf(1e-6))
SMALL: dict[str, Any] = {"num_populations": 10, "num_chains": 30, "num_steps": 40}


def _observer(template: jax.Array, distance: jax.Array, images: jax.Array) -> jax.Array:
    match = jnp.einsum("nhwc,hwc->n", images - 0.5, template) / S - distance
    return jnp.stack([0 * match, match], axis=-1)


def observer(distance: float) -> Partial:
    """Calls an image 1 where its match with the template is so many deviations of the noise above the mean."""
    return Partial(_observer, jnp.asarray(TEMPLATE), np.float32(distance))


def exact_map(distance: float) -> np.ndarray:
    """E[x | u > d] - E[x] = s phi(d) / Phi(-d) t, u the match with the unit template t in deviations of the noise."""
    return S * stats.norm.pdf(distance) / stats.norm.sf(distance) * TEMPLATE


def test_a_linear_observer_has_the_share_and_the_map_of_theory_at_one_in_a_million() -> None:
    (found,) = rare_classes.seek(observer(RARE), STIMULUS, [1])
    assert found is not None
    low, high = found.share_interval
    assert low < 1e-6 < high < 3 * low
    maps = rare_classes.maps_of([found], STIMULUS)
    z = (maps.images[0] - exact_map(RARE)) / maps.standard_error[0]
    assert np.abs(z).max() < 4.5
    assert 0.6 < np.square(z).mean() < 1.6  # of 64 pixels 1 +- .18, and the error of the effective samples
    assert np.corrcoef(maps.images[0].ravel(), TEMPLATE.ravel())[0, 1] > 0.99
    assert maps.count[0] > 500
    halves = rare_classes.split_half([found], STIMULUS)
    assert halves.reliability[0] > 0.98
    signal = np.square(exact_map(RARE)).sum()
    promised = signal / (signal + S**2 * 64 / found.effective_samples)
    assert abs(halves.reliability[0] - promised) < 0.01


@pytest.mark.slow
def test_of_uniform_noise_the_share_is_the_volume_of_a_simplex() -> None:
    """That n numbers in [0, 1] add up to more than n - 1 has the probability 1 / n!; each is then n / (n + 1)."""
    n, shape = 9, (3, 4, 1)
    seen = (np.arange(12).reshape(shape) < n).astype(np.float32)

    def network(images: jax.Array) -> jax.Array:
        match = (images * seen[None]).sum(axis=(1, 2, 3)) - (n - 1)
        return jnp.stack([0 * match, match], axis=-1)

    stimulus = noise.uniform(shape)
    (found,) = rare_classes.seek(network, stimulus, [1])
    assert found is not None
    low, high = found.share_interval
    assert low < 1 / 362_880 < high < 3 * low
    maps = rare_classes.maps_of([found], stimulus)
    expected = np.where(seen, n / (n + 1) - 0.5, 0)
    assert np.abs((maps.images[0] - expected) / maps.standard_error[0]).max() < 4


@pytest.mark.slow
def test_a_frequent_class_has_the_share_and_the_map_of_plain_noise() -> None:
    distance, n = 1.3, 40_000
    (found,) = rare_classes.seek(observer(distance), STIMULUS, [1], **SMALL)
    assert found is not None
    assert found.share_interval[0] < stats.norm.sf(distance) < found.share_interval[1]
    moments = reverse_correlate(STIMULUS, responses.of_classifier(observer(distance), ["decision"]), n)["decision"]
    plain, sought = classification_images(moments, STIMULUS), rare_classes.maps_of([found], STIMULUS)
    error = np.sqrt(plain.standard_error[1] ** 2 + sought.standard_error[0] ** 2)
    assert np.abs((plain.images[1] - sought.images[0]) / error).max() < 4.5


def test_a_blind_class_has_no_map_beyond_its_errors() -> None:
    def blind(images: jax.Array) -> jax.Array:
        """Logits that are a hash of the image: class 1 has a share of 1/8, whatever is seen."""
        number = jnp.mod(jnp.abs(images).sum(axis=(1, 2, 3)) * 100, 1.0)
        return jnp.stack([0 * number, number - 0.875], axis=-1)

    (found,) = rare_classes.seek(blind, STIMULUS, [1], **SMALL)
    assert found is not None
    assert found.share_interval[0] < 1 / 8 < found.share_interval[1]
    maps = rare_classes.maps_of([found], STIMULUS)
    assert np.abs(maps.images / maps.standard_error).max() < 4.5


def test_a_class_that_is_never_called_is_masked_and_so_is_one_of_too_few_effective_samples() -> None:
    def never(images: jax.Array) -> jax.Array:
        return jnp.stack([0 * images[:, 0, 0, 0], 0 * images[:, 0, 0, 0] - 1], axis=-1)

    assert rare_classes.seek(never, STIMULUS, [1], **SMALL) == (None,)
    (short,) = rare_classes.seek(observer(RARE), STIMULUS, [1], num_populations=3, num_chains=20, num_steps=1)
    assert short is not None
    assert short.effective_samples < rare_classes.FEWEST_EFFECTIVE
    maps = rare_classes.maps_of([None, short], STIMULUS)
    assert maps.images.mask.all()
    assert maps.count[0] == 0
    said = [captions.why_empty(maps, k).replace("\n", " ") for k in range(2)]
    assert said == ["empty: no sample", "no map: too few effective samples"]
    assert rare_classes.split_half([None, short], STIMULUS).reliability.mask.all()


def test_what_was_found_is_gone_on_from_and_does_not_depend_on_other_classes(tmp_path: Path) -> None:
    of: dict[str, Any] = {"num_populations": 3, "num_chains": 20, "num_steps": 5}
    alone = rare_classes.seek(observer(2), STIMULUS, [1], **of, state_dir=tmp_path / "state")
    both = rare_classes.seek(observer(2), STIMULUS, [0, 1], **of, state_dir=tmp_path / "state")
    fresh = rare_classes.seek(observer(2), STIMULUS, [0, 1], **of)
    for ours, theirs in ((both[1], alone[0]), (both[0], fresh[0]), (both[1], fresh[1])):
        assert ours is not None
        assert theirs is not None
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(InputError, match="seed 0 "):
        rare_classes.seek(observer(2), STIMULUS, [1], **of, seed=1, state_dir=tmp_path / "state")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"noise": noise.binary(SHAPE)}, "binary noise: rare classes are sought in white noise that is Gaussian or"),
        ({"noise": noise.band(SHAPE, 2.0)}, "rare classes are sought in white noise"),
        ({"num_chains": 5}, "num_chains is 5: expected at least 20"),
        ({"classes": [2]}, "class 2 of a network with 2 classes"),
        ({"network": lambda x: jnp.full((len(x), 2), jnp.nan)}, "the network gave NaN for noise that class 1"),
    ],
)
def test_wrong_input_is_said(change: dict[str, Any], said: str) -> None:
    seek: Any = rare_classes.seek
    with pytest.raises(InputError, match=said):
        seek(**{"network": observer(1), "noise": STIMULUS, "classes": [1], **change})


@pytest.mark.slow
def test_intervals_hold_and_errors_are_calibrated() -> None:
    """Of 100 runs intervals of 95% hold in 95 +- 2.2; z of pixels, seen or not, is beyond 1.96 in 5% of 3,200 each."""
    runs, held, z = 100, 0, []
    for seed in range(runs):
        (found,) = rare_classes.seek(observer(RARE), STIMULUS, [1], num_steps=60, seed=seed)
        assert found is not None
        held += found.share_interval[0] < 1e-6 < found.share_interval[1]
        maps = rare_classes.maps_of([found], STIMULUS)
        z.append((maps.images[0] - exact_map(RARE)) / maps.standard_error[0])
    assert held >= 88
    beyond = np.abs(np.stack(z)) > stats.norm.isf(0.025)
    for half in (beyond[:, :4], beyond[:, 4:]):
        assert 0.035 < half.mean() < 0.065


@pytest.mark.slow
def test_the_experiment_finds_a_share_that_plain_noise_agrees_with(
    network_settings: dict[str, Any], tmp_path: Path
) -> None:
    size: dict[str, Any] = {"num_samples": 4_000, "populations": 5, "chains": 30, "steps": 20, "rarer_than": 0.1}
    settings = experiment.Settings(**network_settings, out_dir=str(tmp_path), **size)
    result = launch.execute(experiment.run, settings)
    told = result.metrics["classes"]
    assert told
    for of in told.values():
        assert of["plain_share"] < 0.1
        low, high = of["share_interval_95"]
        error = of["plain_share_standard_error"] + 1 / 4_000
        assert low - 4 * error < of["plain_share"] < high + 4 * error
    assert (tmp_path / "rare_classes.png").stat().st_size > 0


def test_the_experiment_refuses_other_noise_before_any_training(
    network_settings: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="binary noise: rare classes are sought in white noise"):
        experiment.run(experiment.Settings(**network_settings | {"epochs": 99}, out_dir=str(tmp_path), noise="binary"))
