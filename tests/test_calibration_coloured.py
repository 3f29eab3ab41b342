"""Tests of maps in noise that is not white: they reject as often as they say, and find what is there.

A blind network answers each sample as a seeing one answers the next: its answers do not depend on the image, and have
the same distribution.
"""

import functools
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from wna_jax import ClassificationImages, classification_images, data, noise, responses, reverse_correlate, statistics
from wna_jax.correlation.fields import find_field, independent
from wna_jax.correlation.program import Program
from wna_jax.maps import gradient_images, whitened_images
from wna_jax.noise import Decoder, Noise
from wna_jax.runs.accumulate import widened
from wna_jax.runs.errors import InputError

SIZE, SAMPLES, RATE = 12, 2_000, 0.05
SHAPE = (SIZE, SIZE, 1)
BLOB = np.exp(-((np.arange(SIZE) - 4) ** 2) / 4)
TEMPLATE = (BLOB[:, None] * BLOB)[..., None]


def pink(shape: tuple[int, int, int] = SHAPE) -> Noise:
    """1/f noise: Gaussian, of amplitude 1 / frequency (that of the lowest for 0), which has a known variance."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), indexing="ij"))
    amplitude = 1 / np.maximum(frequency, 1 / max(shape[:2]))
    amplitude /= np.sqrt(np.mean(amplitude**2))
    ones = np.ones(shape[2])
    sample = Partial(draw_pink, shape, amplitude[..., None].astype(np.complex64))
    return Noise("pink", shape, 0 * ones, ones, sample, white=False, gaussian=True)


def draw_pink(shape: tuple[int, int, int], amplitude: jax.Array, key: jax.Array) -> jax.Array:
    spectrum = jnp.fft.fft2(jax.random.normal(key, shape), axes=(0, 1))
    return jnp.fft.ifft2(spectrum * amplitude, axes=(0, 1)).real


def covariance_of_pink() -> np.ndarray:
    root = np.stack([pink_of(impulse.reshape(SHAPE)).ravel() for impulse in np.eye(SIZE**2)])
    return root.T @ root


def pink_of(white: np.ndarray) -> np.ndarray:
    amplitude = np.asarray(pink().sample.args[1])  # type: ignore[attr-defined]
    return np.fft.ifft2(np.fft.fft2(white, axes=(0, 1)) * amplitude, axes=(0, 1)).real


def template_in(images: jax.Array) -> jax.Array:
    return jnp.einsum("nhwc,hwc->n", images, jnp.asarray(TEMPLATE, jnp.float32))


def sees(images: jax.Array) -> jax.Array:
    """Whether there is more of the template than on average, which is 0 in pink noise, [n, 1]."""
    return (template_in(images) > 0).astype(jnp.float32)[:, None]


def blind(images: jax.Array) -> jax.Array:
    """What is above or below the median is answered to the next image of the batch, [n, 1]."""
    answers = template_in(images)
    return jnp.roll(answers > jnp.median(answers), 1).astype(jnp.float32)[:, None]


def runs_of(stimulus: Noise, response: Callable, runs: int) -> list[ClassificationImages]:
    """Maps of many seeds; a run is one batch of the loop's program."""
    program = Program.of(stimulus, response, independent(stimulus), SAMPLES)
    batch = np.uint32(0), np.uint32(0), np.int32(SAMPLES)
    sums: list[Any] = [jax.device_get(program(np.uint32(seed), *batch)) for seed in range(runs)]
    return [classification_images(operator.add(*jax.tree.map(widened, of_run.halves())), stimulus) for of_run in sums]


def small(digits: data.Dataset) -> data.Dataset:
    train = data.Split(digits.train.images[:400, 8:20, 8:20], digits.train.labels[:400])
    return replace(digits, train=train, validation=train, test=train)


def saturated(mixing: jax.Array, codes: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(2 * codes @ mixing).reshape(-1, *SHAPE)


def of(name: str, digits: data.Dataset) -> Noise:
    if name == "pink":
        return pink()
    if name == "decoded":
        mixing = np.random.default_rng(0).normal(size=(6, SIZE**2)).astype(np.float32)
        return noise.decoded(Decoder("decoded", Partial(saturated, mixing), np.zeros(6), np.eye(6), SHAPE))
    return noise.create(name, small(digits))


STATISTICS: dict[str, Callable] = {
    "pixels": np.abs,
    "smoothed": functools.partial(statistics.smooth, deviation=2.0),
    "clusters": functools.partial(statistics.cluster_mass, threshold=2.3),
    "TFCE": statistics.tfce,
}


def rejected(stimulus: Noise | None, z: np.ma.MaskedArray, nulls: int) -> dict[str, np.ndarray]:
    """Which of the runs' maps [runs, H, W, C] each test rejects at .05, of which 0.05 (nulls + 1) must be whole."""
    maps = list(statistics.null_z_maps(SHAPE, nulls, seed=1, dependence=stimulus))
    found = {}
    for test, statistic in STATISTICS.items():
        critical = np.sort(statistics.permutation_max(maps, statistic))[-round((nulls + 1) * RATE)]
        found[test] = np.asarray(np.abs(statistic(z)).max(axis=(1, 2, 3)) >= critical)
    return found


def test_null_maps_have_the_covariance_of_the_noise() -> None:
    """4,000 of them; the draws that they are made of have a sampling error of their own."""
    for stimulus, covariance in (
        (pink(), covariance_of_pink()),
        (noise.stripes(SHAPE), np.tile(np.eye(SIZE), (SIZE, SIZE))),
    ):
        nulls = np.reshape(list(statistics.null_z_maps(SHAPE, 4000, dependence=stimulus)), (4000, -1))
        np.testing.assert_allclose(np.cov(nulls.T), covariance, atol=5.5 * np.sqrt(1 / 4000 + 1 / 2048))
        np.testing.assert_allclose(nulls.var(axis=0), 1, atol=5 * np.sqrt(2 / 4000))


def test_null_maps_are_made_in_parts_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (3, 40, 50, 2)
    stimulus = noise.stripes(shape[1:])
    monkeypatch.setattr("wna_jax.statistics.nulls._PIXELS", 2**15)  # two sets at a time, batches of 8 draws
    nulls = np.array(list(statistics.null_z_maps(shape, 7, seed=3, dependence=stimulus)))
    assert nulls.shape == (7, *shape)
    np.testing.assert_allclose(nulls, np.broadcast_to(nulls[:, :, :1], nulls.shape), atol=1e-5)
    rows = nulls[:, :, 0].reshape(21, -1)
    correlation = np.corrcoef(rows)[~np.eye(21, dtype=bool)]
    assert np.abs(correlation).max() < 5 / np.sqrt(100)
    assert rows.var() == pytest.approx(1, abs=5 * np.sqrt(2 / rows.size))
    with pytest.raises(InputError, match=r"null maps of shape \(3, 4, 4, 1\) in noise \(40, 50, 2\)"):
        statistics.null_z_maps((3, 4, 4, 1), 7, dependence=stimulus)


def test_pixels_that_hardly_ever_vary_do_not_inflate_null_maps() -> None:
    """One draw in 20,000 lights the first pixel; the last never varies."""
    rare = np.full(SHAPE, 0.5)
    rare[0, 0], rare[-1, -1] = 1 / 20_000, 0
    flicker = Noise("flicker", SHAPE, rare, np.sqrt(rare * (1 - rare)), Partial(draw_rare, rare), white=False)
    nulls = np.array(list(statistics.null_z_maps(SHAPE, 2000, dependence=flicker)))
    np.testing.assert_allclose(nulls.var(axis=0).ravel()[:-1], 1, atol=5 * np.sqrt(2 / 2000))
    assert not nulls[:, -1, -1].any()
    assert np.abs(nulls).max() < 6


def draw_rare(probability: jax.Array, key: jax.Array) -> jax.Array:
    return (jax.random.uniform(key, SHAPE) < jnp.asarray(probability, jnp.float32)).astype(jnp.float32)


@pytest.mark.slow
def test_in_1_over_f_noise_a_blind_network_has_no_template() -> None:
    """14 of 100 runs would be chance once in 2,000. Against null maps of white noise there are far more."""
    z = np.ma.stack([statistics.z_map(maps)[0] for maps in runs_of(pink(), blind, 100)])
    for test, hits in rejected(pink(), z, 199).items():
        assert hits.sum() <= 13, test
    as_if_white = rejected(None, z, 199)
    assert as_if_white["smoothed"].mean() > 0.9
    assert as_if_white["clusters"].mean() > 0.2


@pytest.mark.slow
def test_a_planted_template_is_found_in_1_over_f_noise_by_every_test() -> None:
    moments = reverse_correlate(pink(), Partial(sees), SAMPLES, batch_size=SAMPLES)
    maps = classification_images(moments, pink())
    found = statistics.findings(maps, permutations=59)
    for test, inside in found.significant.items():
        assert inside is not None, test
        assert inside[0, 4, 4, 0], test
    assert found.info_val is not None
    assert found.info_val[0] > 5


@pytest.mark.slow
def test_only_single_pixels_are_tested_where_the_dependence_is_not_known() -> None:
    moments = reverse_correlate(pink(), Partial(sees), SAMPLES, batch_size=SAMPLES)
    slopes = reverse_correlate(pink(), responses.gradient_of(lambda x: x[:, 0, 0] ** 2), 100)
    for maps in (whitened_images(moments, pink(), covariance_of_pink()), gradient_images(slopes)):
        found = statistics.findings(maps)
        assert [test for test, inside in found.significant.items() if inside is not None] == ["pixels"]
        assert found.info_val is None


def test_noise_that_is_not_white_is_drawn_as_independent_images() -> None:
    stimulus = replace(pink(), draw=lambda key, shape: jax.random.normal(key, shape))
    assert "pink noise is not white" in find_field(stimulus, lambda x: x[:, ::4, ::4])
    assert reverse_correlate(stimulus, lambda x: x[:, 0, 0], 100).field_sums is None
    with pytest.raises(InputError, match="sampling is 'field', but pink noise is not white"):
        reverse_correlate(stimulus, lambda x: x[:, 0, 0], 100, sampling="field")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["pink", "band:3", "power:2", "gabor_pca", "gabor_filtered", "stripes", "blocks", "natural", "decoded"]
)
def test_tests_at_05_reject_in_05_of_runs_of_a_blind_network(digits: data.Dataset, name: str) -> None:
    """400 runs against 999 null maps: three standard errors of both."""
    stimulus = of(name, digits)
    z = np.ma.stack([statistics.z_map(maps)[0] for maps in runs_of(stimulus, blind, 400)])
    for test, hits in rejected(stimulus, z, 999).items():
        assert hits.mean() == pytest.approx(RATE, abs=3 * np.sqrt(RATE * 0.95 / 400) + 0.007), test


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pink", "gabor_pca"])
def test_findings_reject_in_05_of_runs_of_a_blind_network(digits: data.Dataset, name: str) -> None:
    """240 runs, each with 59 null maps of its own; three binomial standard errors."""
    stimulus = of(name, digits)
    found = [
        statistics.findings(maps, permutations=59, seed=seed) for seed, maps in enumerate(runs_of(stimulus, blind, 240))
    ]
    for test in STATISTICS:
        rate = np.mean([np.any(each.significant[test]) for each in found])
        assert rate == pytest.approx(RATE, abs=3 * np.sqrt(RATE * 0.95 / 240)), test
    far = np.mean([each.info_val[0] > 1.96 for each in found])  # type: ignore[index]
    assert far == pytest.approx(0.025, abs=3 * np.sqrt(0.025 * 0.975 / 240))
