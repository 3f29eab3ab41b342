"""Do the tests reject as often as they say? Counted over runs with networks that have no template.

A rate of .05 over 400 runs has a standard error of .0109; the margins are three of these, with fixed seeds.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from wna_jax import ClassificationImages, classification_images, noise, responses, reverse_correlate, statistics
from wna_jax.correlation import Sampling
from wna_jax.correlation.fields import find_field, independent, overlap
from wna_jax.correlation.program import Program
from wna_jax.runs.accumulate import widened

RUNS, RATE = 400, 0.05
MARGIN = 3 * np.sqrt(RATE * (1 - RATE) / RUNS)
WHITE = noise.gaussian((8, 8, 1), 0.4, 0.2)
FILTERS = jax.random.normal(jax.random.key(3), (8, 8, 1, 3)) / 8
SAMPLES = {"independent": 3_000, "field": 24 * 1024}
OF_NEIGHBOURS: dict[str, Callable] = {
    "tfce": statistics.tfce,
    "cluster mass": functools.partial(statistics.cluster_mass, threshold=2.0),
    "smoothed": functools.partial(statistics.smooth, deviation=1.0),
}

Network = Callable[[jax.Array], jax.Array]


def network(images: jax.Array, even: bool) -> jax.Array:
    """Three linear units of stride 4; `even` ones answer alike to an image and its negative, so no pixel matters."""
    match = jax.lax.conv_general_dilated(
        (images - 0.4) / 0.2, FILTERS, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    logits = jnp.square(match) if even else match
    return logits[:, 0, 0] if logits.shape[1:3] == (1, 1) else logits


def sees_no_pixel(images: jax.Array) -> jax.Array:
    return network(images, even=True)


def permuted(images: jax.Array) -> jax.Array:
    """The answers of a network that does see, given to the samples in another order."""
    return jnp.roll(network(images, even=False), 1, axis=0)


def with_its_opposite(images: jax.Array) -> jax.Array:
    unit = network(images, even=False)[..., :1]
    return jnp.concatenate([unit, -unit], axis=-1)


@functools.cache
def runs_of(logits: Network, how: Sampling, runs: int = RUNS) -> dict[str, list[ClassificationImages]]:
    """Maps of both responses for many seeds. A run is one batch of the loop's program, which is set up once for all."""
    respond = responses.of_classifier(logits)
    geometry = find_field(WHITE, respond) if how == "field" else independent(WHITE)
    assert not isinstance(geometry, str)
    program = Program.of(WHITE, respond, geometry, SAMPLES[how] // geometry.windows)
    maps: dict[str, list[ClassificationImages]] = {name: [] for name in respond.names}
    for seed in range(runs):
        sums: Any = jax.device_get(program(np.uint32(seed), np.uint32(0), np.uint32(0), np.int32(SAMPLES[how])))
        moments = operator.add(*jax.tree.map(widened, sums.halves()))
        k = len(moments.count) // len(maps)
        for i, name in enumerate(maps):
            maps[name].append(classification_images(moments.of_responses(slice(i * k, (i + 1) * k)), WHITE))
    return maps


@pytest.mark.slow
@pytest.mark.parametrize("how", ["independent", "field"])
def test_a_run_is_that_of_the_loop(how: Sampling) -> None:
    n = SAMPLES[how]
    moments = reverse_correlate(
        WHITE, responses.of_classifier(with_its_opposite), n, seed=7, sampling=how, batch_size=n
    )
    for name, maps in runs_of(with_its_opposite, how, 100).items():
        np.testing.assert_array_equal(maps[7].images, classification_images(moments[name], WHITE).images)


@functools.cache
def nulls_of(logits: Network | None, name: str) -> list[np.ndarray]:
    """999 null maps, of independent samples or of the windows of fields."""
    if logits is None:
        return list(statistics.null_z_maps(WHITE.shape, 999))
    shared = overlap(WHITE, responses.of_classifier(logits))[name]
    return list(statistics.null_z_maps((3, *WHITE.shape), 999, dependence=shared))


@functools.cache
def critical_values(logits: Network | None, name: str, test: str) -> np.ndarray:
    largest = statistics.permutation_max(nulls_of(logits, name), OF_NEIGHBOURS[test])
    return np.sort(largest, axis=0)[-50]  # the 50th of 1,000 has p = .05


@pytest.mark.slow
@pytest.mark.parametrize(
    ("logits", "name", "how"),
    [
        (sees_no_pixel, "decision", "independent"),
        (permuted, "decision", "independent"),
        (permuted, "probability", "independent"),
        (sees_no_pixel, "decision", "field"),
        (sees_no_pixel, "probability", "field"),
    ],
)
def test_tests_at_05_reject_in_05_of_runs_where_there_is_nothing(logits: Network, name: str, how: Sampling) -> None:
    z = np.ma.stack([statistics.z_map(maps) for maps in runs_of(logits, how)[name]])  # [runs, 3, 8, 8, 1]
    assert z.count() == z.size
    of = (logits, name) if how == "field" else (None, "")
    info = statistics.info_val(z, nulls_of(*of) if how == "field" else None)
    rejected = {"pixels": statistics.significant_pixels(z).any(axis=(2, 3, 4))}
    for test, statistic in OF_NEIGHBOURS.items():
        largest = np.abs(statistic(z)).max(axis=(2, 3, 4))
        rejected[test] = np.asarray(largest >= critical_values(*of, test))
    for test, hits in rejected.items():
        np.testing.assert_allclose(hits.mean(axis=0), RATE, atol=MARGIN + 0.007, err_msg=test)  # .007: of 999 nulls
    assert (info > 1.96).mean() == pytest.approx(0.026, abs=0.016)
    pixels = statistics.p_values(z)[:, :, ::3, ::3, 0].reshape(RUNS, -1)
    # 1 / sqrt(runs), not pixels: the maps of the classes depend on each other.
    assert stats.kstest(np.ravel(pixels), "uniform").statistic < 1.7 / np.sqrt(RUNS)


def hardly_ever_1(images: jax.Array) -> jax.Array:
    """Blind too: calls .99 of all noise 0."""
    rare = sees_no_pixel(images)[..., :1] / jnp.square(FILTERS[..., 0]).sum() - stats.chi2.isf(0.01, 1)
    return jnp.concatenate([jnp.zeros_like(rare), rare], axis=-1)


def hardly_ever_1_permuted(images: jax.Array) -> jax.Array:
    return jnp.roll(hardly_ever_1(images), 1, axis=0)


@pytest.mark.slow
@pytest.mark.parametrize(("logits", "how"), [(hardly_ever_1_permuted, "independent"), (hardly_ever_1, "field")])
def test_the_info_val_of_a_class_with_nearly_all_noise_is_calibrated(logits: Network, how: Sampling) -> None:
    maps = runs_of(logits, how)["decision"]
    assert np.mean([m.share[0] for m in maps]) == pytest.approx(0.99, abs=0.001)
    z = np.ma.stack([statistics.z_map(m) for m in maps])
    np.testing.assert_allclose(z[:, 1], -z[:, 0], rtol=1e-4, atol=1e-4)
    nulls = None
    if how == "field":
        shared = overlap(WHITE, responses.of_classifier(logits))["decision"]
        nulls = list(statistics.null_z_maps((2, *WHITE.shape), 999, dependence=shared))
    info = statistics.info_val(z, nulls)[:, 0]
    assert (info > 1.96).mean() == pytest.approx(0.026, abs=3 * np.sqrt(0.026 * 0.974 / RUNS))
    assert info.mean() == pytest.approx(0, abs=3 / np.sqrt(RUNS) + 0.05)  # .05: of 999 nulls
    assert info.std() == pytest.approx(1, abs=3 / np.sqrt(2 * RUNS) + 0.04)


@pytest.mark.slow
@pytest.mark.parametrize("roi", [None, statistics.rectangle(WHITE.shape, 1, 2, 5, 4)])
def test_findings_as_a_whole_reject_in_05_of_runs(roi: np.ndarray | None) -> None:
    """Each test over all three maps together, in fields; 150 runs of 59 nulls, margin 2.8 standard errors."""
    shared = overlap(WHITE, responses.of_classifier(sees_no_pixel), seed=2**30)["decision"]
    found = [
        statistics.findings(maps, permutations=59, seed=seed, overlap=shared, roi=roi)
        for seed, maps in enumerate(runs_of(sees_no_pixel, "field")["decision"][:150])
    ]
    for test in found[0].significant:
        rate = np.mean([np.any(each.significant[test]) for each in found])
        assert rate == pytest.approx(RATE, abs=0.05), test
    far = np.concatenate([each.info_val for each in found if each.info_val is not None]) > 1.96
    assert far.mean() == pytest.approx(0.026, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["independent", "field"])
def test_a_planted_template_is_found_with_the_power_of_theory(how: Sampling) -> None:
    """Pixel v of the map of a linear unit against its opposite is s sqrt(2 / pi) w_v / |w|; it passes the threshold t
    with probability Phi(|E z_v| - t)."""
    maps = runs_of(with_its_opposite, how, 100)["decision"]
    z = np.ma.stack([statistics.z_map(m)[0] for m in maps])
    template = np.asarray(FILTERS[..., 0])
    signal = 0.2 * np.sqrt(2 / np.pi) * template / np.linalg.norm(template)
    error = np.sqrt(np.mean([m.standard_error[0] ** 2 for m in maps], axis=0))
    degrees = np.inf if maps[0].degrees_of_freedom is None else maps[0].degrees_of_freedom[0]
    threshold = stats.t.isf(stats.norm.sf(statistics.max_statistic_threshold(64)), degrees)
    expected = stats.norm.sf(threshold - np.abs(signal) / error)
    if how == "field":
        expected = stats.nct.sf(threshold, degrees, np.abs(signal) / error)
    assert 0.2 < expected.mean() < 0.9  # or there would be little to tell
    found = statistics.significant_pixels(z).mean(axis=0)
    assert found.mean() == pytest.approx(expected.mean(), abs=0.02)
    np.testing.assert_allclose(found, expected, atol=0.2)  # of 100 runs, four standard errors
