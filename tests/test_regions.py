"""Tests in a region of interest, and of maps that are masked in part."""

import functools
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wna_jax import ClassificationImages, InputError, Moments, classification_images, noise, responses, statistics
from wna_jax.correlation import reverse_correlate_in_parts

SHAPE = (8, 8, 1)


def within(rate: float, runs: int) -> float:
    return float(3 * np.sqrt(rate * (1 - rate) / runs))


REGION = statistics.rectangle((28, 28, 1), 3, 5, 12, 12)


@pytest.fixture(scope="module")
def flat_z() -> np.ma.MaskedArray:
    return np.ma.masked_array(np.random.default_rng(20).standard_normal((2000, 28, 28, 1)))


def test_the_info_val_of_noise_in_a_region_is_standard_normal(flat_z: np.ma.MaskedArray) -> None:
    """144 of 784 pixels, given as a region or as a mask; without either it would be -24. 2,000 maps."""
    masked = np.ma.masked_where(np.broadcast_to(~REGION[..., None], flat_z.shape), flat_z)
    values = statistics.info_val(flat_z, roi=REGION)
    np.testing.assert_array_equal(values, statistics.info_val(masked))
    assert np.mean(values > 1.96) == pytest.approx(0.0262, abs=within(0.0262, 2000))  # of chi with 144 degrees
    assert np.mean(values) == pytest.approx(0, abs=3 / np.sqrt(2000))
    assert np.std(values) == pytest.approx(1, abs=3 / np.sqrt(4000))
    whole = np.stack([flat_z[i] for i in range(200)])
    against_nulls = statistics.info_val(flat_z[:500], whole, REGION)
    assert np.std(against_nulls) == pytest.approx(1, abs=0.15)  # the MAD of 200 nulls is known to 8%
    assert np.mean(against_nulls) == pytest.approx(0, abs=0.3)
    outside = np.where(REGION[..., None], flat_z[:3], 100.0)
    np.testing.assert_array_equal(statistics.info_val(outside, roi=REGION), values[:3])


@pytest.mark.slow
def test_tests_in_a_region_have_their_family_wise_error_rate(flat_z: np.ma.MaskedArray) -> None:
    """2,000 maps of noise in the region, with the strongest signal next to it, which none of the tests may see."""
    z = np.ma.masked_array(np.where(REGION[..., None], flat_z, 50.0))
    false = {"pixels": statistics.significant_pixels(z, roi=REGION).any(axis=(1, 2, 3))}
    nulls = list(statistics.null_z_maps((28, 28, 1), 999))
    of_neighbours: dict[str, Callable] = {
        "tfce": statistics.tfce,
        "mass": functools.partial(statistics.cluster_mass, threshold=2.3),
        "smoothed": functools.partial(statistics.smooth, deviation=1.0),
    }
    for test, statistic in of_neighbours.items():
        p = statistics.permutation_test(z, nulls, statistic, roi=REGION)
        assert np.ma.getmaskarray(p)[:, ~REGION].all()
        false[test] = (p <= 0.05).filled(False).any(axis=(1, 2, 3))
    for test, hits in false.items():
        # .007: of 999 nulls
        assert hits.mean() == pytest.approx(0.05, abs=within(0.05, 2000) + 2 * 0.007), test
    threshold = statistics.random_field_threshold(REGION.sum(), 2.2, 0.025)
    far = (np.abs(statistics.smooth(z, 2.2, REGION)) > threshold).filled(False).any(axis=(1, 2, 3)).mean()
    assert 0.01 < far < 0.05 + within(0.05, 2000)


def test_smoothing_in_a_region_keeps_noise_standard_normal_and_sees_nothing_else(flat_z: np.ma.MaskedArray) -> None:
    smoothed = statistics.smooth(np.where(REGION[..., None], flat_z, 50.0), 1.5, REGION)
    np.testing.assert_array_equal(np.ma.getmaskarray(smoothed)[..., 0], np.broadcast_to(~REGION, (2000, 28, 28)))
    inside = smoothed[:, REGION].filled()
    np.testing.assert_allclose(inside.var(axis=0), 1, atol=4.5 * np.sqrt(2 / 2000))
    np.testing.assert_allclose(inside.reshape(-1, 12, 12, 1), statistics.smooth(flat_z[:, 3:15, 5:17], 1.5), rtol=1e-9)


def test_the_tests_of_a_region_are_those_of_the_map_that_is_cut_out(flat_z: np.ma.MaskedArray) -> None:
    z, cut = flat_z[:20] * 1.5, flat_z[:20, 3:15, 5:17] * 1.5
    for statistic in (statistics.tfce, functools.partial(statistics.cluster_mass, threshold=1.0)):
        np.testing.assert_allclose(statistic(z, roi=REGION)[:, REGION].reshape(cut.shape), statistic(cut))
    found = statistics.significant_pixels(z, 0.3, roi=REGION)
    np.testing.assert_array_equal(found[:, 3:15, 5:17], statistics.significant_pixels(cut, 0.3))
    assert not found[:, ~REGION].any()
    nulls = np.random.default_rng(21).standard_normal((39, 28, 28, 1))
    in_region = statistics.permutation_test(z, nulls, statistics.tfce, roi=REGION)
    np.testing.assert_allclose(
        in_region[:, 3:15, 5:17], statistics.permutation_test(cut, nulls[:, 3:15, 5:17], statistics.tfce)
    )
    a, b, c, d = flat_z[:3], flat_z[3:6] + flat_z[:3], cut[:3], (flat_z[3:6] + flat_z[:3])[:, 3:15, 5:17]
    np.testing.assert_allclose(statistics.map_correlation(a, b, REGION), statistics.map_correlation(c, d))
    np.testing.assert_allclose(statistics.correlation_matrix(a, b, REGION), statistics.correlation_matrix(c, d))
    maps = ClassificationImages(b, np.ma.ones(b.shape), np.ones(3, int), np.ones(3))
    of_cut = ClassificationImages(d, np.ma.ones(d.shape), np.ones(3, int), np.ones(3))
    np.testing.assert_allclose(
        statistics.known_noise_reliability(maps, REGION), statistics.known_noise_reliability(of_cut)
    )


def corner(images: jax.Array) -> jax.Array:
    """A classifier that compares the upper left corner with nothing, and a class that is never called."""
    bright = images[:, :4, :4].sum(axis=(1, 2, 3)) - 16 * 0.2
    return jnp.stack([bright, -bright, jnp.full_like(bright, -1e6)], axis=1)


def test_findings_and_reliability_in_a_region_are_those_of_maps_of_these_pixels_alone() -> None:
    white, narrow = noise.gaussian(SHAPE, 0.2, 0.3), noise.gaussian((4, 6, 1), 0.2, 0.3)
    roi = statistics.rectangle(SHAPE, 0, 0, 4, 6)
    first, second, _ = reverse_correlate_in_parts(
        white, responses.of_classifier(corner, ["decision"]), 600, batch_size=100
    )

    names = ("total_sum", "total_square_sum", "sum", "square_sum")

    def cut(m: Moments) -> Moments:
        images = {name: getattr(m, name)[..., :4, :6, :] for name in names}
        return replace(m, **images)

    halves = first["decision"], second["decision"]
    ours = statistics.split_half(halves[0], halves[1], white, roi)
    theirs = statistics.split_half(cut(halves[0]), cut(halves[1]), narrow)
    np.testing.assert_allclose(ours.reliability, theirs.reliability)
    whole = halves[0] + halves[1]
    in_region = statistics.findings(classification_images(whole, white), roi=roi)
    alone = statistics.findings(classification_images(cut(whole), narrow))
    assert in_region.z.count() == alone.z.count() == 2 * 24
    np.testing.assert_allclose(in_region.z[:, :4, :6], alone.z)
    np.testing.assert_allclose(np.ma.array(in_region.info_val), np.ma.array(alone.info_val))
    np.testing.assert_allclose(in_region.smoothed[:2, :4, :6], alone.smoothed[:2], rtol=0.25, atol=0.1)  # 400 nulls
    for test, inside in in_region.significant.items():
        assert inside is not None
        assert inside[:2, :4, :4].any(), test
        assert not inside[:, ~roi].any()
    pixels = in_region.significant["pixels"], alone.significant["pixels"]
    np.testing.assert_array_equal(np.array(pixels[0])[:, :4, :6], np.array(pixels[1]))


def test_maps_masked_in_different_pixels_have_thresholds_of_their_own_and_need_nulls_of_their_own() -> None:
    z = np.ma.masked_array(np.full((2, *SHAPE), 3.0))
    z[0, 1:] = np.ma.masked  # 8 pixels of one, 64 of the other
    np.testing.assert_array_equal(statistics.significant_pixels(z).any(axis=(1, 2, 3)), [True, False])
    expected = [(np.sqrt(9 * n) - median) / mad for n in (8, 64) for median, mad in [statistics.info_val_null(n)]]
    np.testing.assert_allclose(statistics.info_val(z), expected)
    with pytest.raises(InputError, match="masked in different pixels: expected nulls of the same shape"):
        statistics.permutation_test(z, np.zeros((19, *SHAPE)), np.abs)
    nulls = np.zeros((19, 2, *SHAPE))
    nulls[:, 0, 1:] = 10.0  # where there is no map
    np.testing.assert_array_equal(statistics.permutation_test(z, nulls, np.abs).max(axis=(1, 2, 3)), [0.05, 0.05])
    common = statistics.correlation_matrix(z + np.arange(8.0)[:, None], z + np.arange(8.0)[:, None])
    np.testing.assert_allclose(common, 1)


def test_a_region_may_be_of_channels_too() -> None:
    z = np.random.default_rng(23).standard_normal((4, 8, 8, 3)).clip(-3, 3)
    z[..., 0], z[1, 2, 2, 2] = 9.0, 3.5  # the thresholds of 64 pixels and of all 192 are 3.35 and 3.64
    roi = np.zeros((8, 8, 3), bool)
    roi[1:5, :, 1:] = True
    expected = np.zeros(z.shape, bool)
    expected[1, 2, 2, 2] = True
    np.testing.assert_array_equal(statistics.significant_pixels(z, roi=roi), expected)
    alone = statistics.info_val(z[:, 1:5, :, 1:])
    np.testing.assert_allclose(statistics.info_val(z, roi=roi), alone)
    np.testing.assert_allclose(statistics.tfce(z, roi=roi)[:, 1:5, :, 1:], statistics.tfce(z[:, 1:5, :, 1:]))


@pytest.mark.parametrize(
    ("roi", "message"),
    [
        (np.ones((8, 8)), r"a region of interest of float64 \(8, 8\): expected bool \(8, 8\) or \(8, 8, 1\)"),
        (np.ones((4, 4), bool), r"bool \(4, 4\): expected bool \(8, 8\)"),
        (np.zeros((8, 8), bool), "a region of interest without a pixel"),
    ],
)
def test_a_region_that_is_none_is_refused(roi: np.ndarray, message: str) -> None:
    for test in (statistics.info_val, statistics.tfce, statistics.significant_pixels, statistics.p_values):
        with pytest.raises(InputError, match=message):
            test(np.ones(SHAPE), roi=roi)
    with pytest.raises(InputError, match="3x3 pixels at row 6, column 0: expected one inside images of 8x8"):
        statistics.rectangle(SHAPE, 6, 0, 3, 3)
