import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from wna_jax import InputError, Moments, classification_images, noise, responses, reverse_correlate
from wna_jax.maps import mean_images, min_max, named, regression_images, rms_images, variants, whitened_images

SHAPE = (12, 12, 1)
PIXELS = 144
TEMPLATE = np.asarray(jax.random.normal(jax.random.key(1), SHAPE))
UNIT = TEMPLATE / np.linalg.norm(TEMPLATE)


def linear(images: jax.Array) -> jax.Array:
    """A classifier of two classes that compares images with the template."""
    match = jnp.einsum("nhwc,hwc->n", images, jnp.asarray(TEMPLATE), precision="highest")
    return jnp.stack([match, -match], axis=1)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])


@pytest.mark.parametrize("n", [1_000, 10_000])
def test_a_linear_classifier_gives_back_its_template_as_well_as_theory_says(n: int) -> None:
    """E[x | w.x > 0] = s sqrt(2/pi) w/|w|; a pixel's error has variance s^2 (1/N_k - 1/N).

    So the map correlates with the template by r = 1 / sqrt(1 + D e^2 / (s^2 2/pi)), e^2 that variance: about .90 at
    1,000 samples and .989 at 10,000 (D = 144). Over 20 seeds the measured r differed from it by .0007 and -.0004 in the
    mean, with deviations of .0107 and .0013; the margins below are four of these.
    """
    s = 0.3
    white = noise.gaussian(SHAPE, 0.0, s)
    moments = reverse_correlate(white, responses.of_classifier(linear), n, seed=2)["decision"]
    maps = classification_images(moments, white)
    variance = s**2 * (1 / moments.count - 1 / n)
    expected = 1 / np.sqrt(1 + PIXELS * variance / (s**2 * 2 / np.pi))
    margin = {1_000: 0.043, 10_000: 0.0052}[n]
    for k, sign in enumerate((1, -1)):
        assert correlation(maps.images[k], sign * TEMPLATE) == pytest.approx(expected[k], abs=margin)
        amplitude = np.vdot(maps.images[k], sign * UNIT)  # the error along the template is that of one pixel or less
        assert amplitude == pytest.approx(s * np.sqrt(2 / np.pi), abs=4 * np.sqrt(variance[k]))


def test_the_probability_map_of_a_steep_linear_classifier_is_its_decision_map() -> None:
    white = noise.gaussian(SHAPE, 0.0, 1.0)
    moments = reverse_correlate(white, responses.of_classifier(lambda x: 1e4 * linear(x)), 2000)
    decision, probability = (classification_images(moments[name], white) for name in ("decision", "probability"))
    np.testing.assert_allclose(probability.images, decision.images, atol=2e-3)
    np.testing.assert_allclose(probability.standard_error, decision.standard_error, rtol=2e-2)


def test_the_standard_error_is_the_deviation_over_repeated_runs_of_a_blind_network() -> None:
    """A network that sees one pixel has maps of noise alone elsewhere: there map / standard error is N(0, 1)."""
    white = noise.uniform((10, 10, 2))

    def logits(x: jax.Array) -> jax.Array:
        return jnp.stack([3 * x[:, 0, 0, 0], jnp.ones(len(x)), 2 - x[:, 0, 0, 0]], axis=1)

    respond = responses.of_classifier(logits)
    runs = [reverse_correlate(white, respond, 2000, seed=seed, batch_size=2000) for seed in range(40)]
    for name in respond(jnp.zeros((1, *white.shape))):
        maps = [classification_images(moments[name], white) for moments in runs]
        z = np.ma.stack([(m.images / m.standard_error)[:, 1:] for m in maps])  # without the pixel's row
        for k in np.flatnonzero(runs[0][name].weight_sum):
            values = z[:, k].size
            assert np.std(z[:, k]) == pytest.approx(1, abs=4 / np.sqrt(2 * values))
            assert np.mean(z[:, k]) == pytest.approx(0, abs=4 / np.sqrt(values))


def moments_of(weights: np.ndarray, samples: np.ndarray) -> Moments:
    return Moments(
        num_samples=len(samples),
        num_draws=len(samples),
        total_sum=samples.sum(axis=0),
        total_square_sum=(samples**2).sum(axis=0),
        count=(weights != 0).sum(axis=0),
        weight_sum=weights.sum(axis=0),
        weight_square_sum=(weights**2).sum(axis=0),
        draw_square_sum=(weights**2).sum(axis=0),
        sum=np.einsum("nk,nhwc->khwc", weights, samples),
        square_sum=np.einsum("nk,nhwc->khwc", weights, samples**2),
    )


def test_maps_of_a_small_case_by_hand() -> None:
    samples = np.random.default_rng(0).normal(size=(6, 2, 2, 1))
    labels = np.array([0, 0, 1, 1, 1, 1])
    white = noise.gaussian((2, 2, 1), 0.0, 1.0)
    moments = moments_of(np.eye(3)[labels], samples)
    maps = classification_images(moments, white)
    np.testing.assert_allclose(maps.images[0], samples[:2].mean(axis=0) - samples.mean(axis=0))
    np.testing.assert_allclose(maps.images[1], samples[2:].mean(axis=0) - samples.mean(axis=0))
    np.testing.assert_allclose(mean_images(moments)[1], samples[2:].mean(axis=0))
    np.testing.assert_allclose(maps.standard_error[:2, 0, 0, 0], np.sqrt([1 / 2 - 1 / 6, 1 / 4 - 1 / 6]))
    np.testing.assert_array_equal(maps.count, [2, 4, 0])
    np.testing.assert_allclose(maps.share, [1 / 3, 2 / 3, 0])


def test_an_empty_class_is_masked_not_zero_and_not_nan() -> None:
    samples = np.ones((4, 2, 2, 1))
    maps = classification_images(moments_of(np.eye(3)[[0, 0, 2, 2]], samples), noise.uniform((2, 2, 1)))
    np.testing.assert_array_equal(np.ma.getmaskarray(maps.images).all(axis=(1, 2, 3)), [False, True, False])
    np.testing.assert_array_equal(np.ma.getmaskarray(maps.standard_error)[:, 0, 0, 0], [False, True, False])
    assert np.isfinite(maps.images.compressed()).all()


def test_a_class_that_got_every_sample_has_no_contrast_and_so_no_map() -> None:
    samples = np.random.default_rng(0).normal(size=(5, 2, 2, 1))
    moments = moments_of(np.eye(2)[[1] * 5], samples)
    maps = classification_images(moments, noise.gaussian((2, 2, 1), 0, 1))
    assert np.ma.getmaskarray(maps.images).all()
    np.testing.assert_allclose(mean_images(moments)[1], samples.mean(axis=0))


def test_min_max_stretches_each_map_to_the_unit_range() -> None:
    maps = np.ma.masked_array(np.random.default_rng(0).normal(size=(3, 4, 4, 2)))
    maps[1] = np.ma.masked
    stretched = min_max(maps)
    assert stretched[0].min() == stretched[2].min() == 0
    assert stretched[0].max() == stretched[2].max() == 1
    assert correlation(stretched[0], maps[0]) == pytest.approx(1)
    assert np.ma.getmaskarray(stretched[1]).all()


def equal_weights(value: jax.Array, images: jax.Array) -> jax.Array:
    return images[:, 0, :2, 0] * 0 + value


def test_equal_weights_leave_nothing_to_compare_whatever_their_value() -> None:
    white = noise.uniform((4, 4, 1))
    for value in np.array([1 / 3, 1 / 7, 0.1], np.float32):
        moments = reverse_correlate(white, Partial(equal_weights, value), 5000, batch_size=500)
        assert np.ma.getmaskarray(classification_images(moments, white).images).all()


def test_weights_that_sum_up_to_less_than_nothing_are_refused() -> None:
    white = noise.uniform((4, 4, 1))
    moments = reverse_correlate(white, lambda x: x[:, 0, 0] - 1, 500)
    with pytest.raises(InputError, match=r"the weights of response 0 sum up to -.*: .*use maps.regression_images"):
        classification_images(moments, white)


def test_a_constant_map_is_masked_when_stretched() -> None:
    assert np.ma.getmaskarray(min_max(np.ma.masked_array(np.ones((1, 3, 3, 1))))).all()


def coloured() -> tuple[noise.Noise, np.ndarray]:
    """Gaussian noise of a smooth covariance, and that covariance."""
    place = np.stack(np.meshgrid(*map(np.arange, SHAPE[:2]), indexing="ij"), axis=-1).reshape(PIXELS, 2)
    covariance = np.exp(-((place[:, None] - place) ** 2).sum(axis=-1) / (2 * 1.5**2)) + 0.05 * np.eye(PIXELS)
    root = np.linalg.cholesky(covariance).astype(np.float32)

    deviation = np.sqrt(np.diag(covariance)).reshape(SHAPE)
    sample = Partial(draw_coloured, root)
    return noise.Noise("coloured", SHAPE, np.zeros(SHAPE), deviation, sample, white=False), covariance


def draw_coloured(root: jax.Array, key: jax.Array) -> jax.Array:
    return (root @ jax.random.normal(key, (PIXELS,))).reshape(SHAPE)


@pytest.mark.slow
def test_a_sharp_template_in_smooth_noise_is_recovered_by_whitening_alone() -> None:
    """E[b_k] is proportional to C w: whitening gives w. Its correlation follows from its own standard error."""
    smooth, covariance = coloured()
    moments = reverse_correlate(smooth, responses.of_classifier(linear), 20_000)["decision"]
    raw = classification_images(moments, smooth)
    white = whitened_images(moments, smooth, covariance, ridge=0)
    seen = covariance @ TEMPLATE.ravel()
    assert correlation(raw.images[0], seen) > 0.99
    assert correlation(raw.images[0], TEMPLATE) < 0.6
    assert correlation(white.images[0], TEMPLATE) > 0.9
    signal = np.sqrt(2 / np.pi / (TEMPLATE.ravel() @ seen)) * TEMPLATE  # what is estimated, pixel by pixel
    error = white.standard_error[0]
    expected = 1 / np.sqrt(1 + np.sum(error**2) / np.sum(signal**2))
    assert correlation(white.images[0], TEMPLATE) == pytest.approx(expected, abs=0.02)
    assert np.sqrt(np.mean(((white.images[0] - signal) / error) ** 2)) == pytest.approx(1, abs=0.25)
    estimated = whitened_images(moments, smooth, noise.covariance(smooth, 20_000), ridge=0.01)
    assert correlation(estimated.images[0], TEMPLATE) > 0.9
    assert not white.independent
    assert not raw.independent


def test_whitening_white_noise_changes_nothing_but_the_unit() -> None:
    white = noise.gaussian(SHAPE, 0.5, 0.2)
    moments = reverse_correlate(white, responses.of_classifier(linear), 1000)["decision"]
    raw, whitened = classification_images(moments, white), whitened_images(moments, white, noise.covariance(white), 0.1)
    np.testing.assert_allclose(whitened.images, raw.images / 0.2**2 / 1.1, rtol=1e-6)
    np.testing.assert_allclose(whitened.images / whitened.standard_error, raw.images / raw.standard_error, rtol=1e-6)


def test_standard_errors_hold_pixel_by_pixel_in_noise_of_dependent_pixels() -> None:
    """A network that sees one corner of coloured noise far from the rest: there every pixel's z is N(0, 1)."""
    smooth, covariance = coloured()

    def logits(x: jax.Array) -> jax.Array:
        return jnp.stack([x[:, 0, 0, 0], 0 * x[:, 0, 0, 0]], axis=1)

    respond = responses.of_classifier(logits, ["decision"])
    runs = [reverse_correlate(smooth, respond, 512, seed=seed)["decision"] for seed in range(60)]
    for mapped in (
        lambda m: classification_images(m, smooth),
        lambda m: whitened_images(m, smooth, covariance, ridge=0),
    ):
        z = np.ma.stack([(maps.images / maps.standard_error)[0, 8:, 8:] for maps in map(mapped, runs)])
        assert np.mean(z**2) == pytest.approx(1, abs=0.25)  # 16 dependent pixels in 60 runs


@pytest.mark.parametrize(
    ("covariance", "ridge", "said"),
    [
        (np.eye(3), 0.1, r"a covariance of shape \(3, 3\) for noise \(12, 12, 1\): expected \(144, 144\)"),
        (np.eye(PIXELS), -1.0, "ridge is -1.0: expected a number of at least 0"),
        (np.ones((PIXELS, PIXELS)), 0.0, "has no inverse: give a larger ridge"),
    ],
)
def test_a_covariance_that_cannot_be_used_is_refused(covariance: np.ndarray, ridge: float, said: str) -> None:
    white = noise.gaussian(SHAPE)
    moments = reverse_correlate(white, responses.of_classifier(linear), 300)["decision"]
    with pytest.raises(InputError, match=said):
        whitened_images(moments, white, covariance, ridge)


def test_rms_images_by_hand() -> None:
    samples = np.random.default_rng(0).normal(size=(4, 2, 2, 1))
    moments = moments_of(np.eye(3)[[0, 0, 1, 1]], samples)
    np.testing.assert_allclose(rms_images(moments)[0], np.sqrt((samples[:2] ** 2).mean(axis=0)))
    assert np.ma.getmaskarray(rms_images(moments)[2]).all()


def test_a_pixel_that_does_not_vary_has_no_slope() -> None:
    pattern = noise.blocks((8, 8, 1), all_places=False)
    moments = reverse_correlate(pattern, lambda x: x[:, :1, :3, 0].reshape(len(x), -1) + x[:, 1, 1], 500)
    slopes = regression_images(moments, pattern)
    np.testing.assert_array_equal(np.ma.getmaskarray(slopes.images).any(axis=0), pattern.deviation == 0)


def test_variants_are_the_maps_of_their_names_and_whitened_ones_need_a_covariance() -> None:
    samples = np.random.default_rng(0).normal(size=(6, 2, 2, 1))
    moments, white = moments_of(np.eye(3)[[0, 0, 1, 1, 1, 1]], samples), noise.gaussian((2, 2, 1), 0.0, 1.0)
    maps = classification_images(moments, white)
    found = variants(moments, white)
    assert list(found) == ["mean", "centred", "RMS", "z-scored"]
    np.testing.assert_array_equal(found["mean"], mean_images(moments))
    np.testing.assert_array_equal(found["centred"], maps.images)
    np.testing.assert_array_equal(found["RMS"], rms_images(moments))
    np.testing.assert_array_equal(found["z-scored"], maps.images / maps.standard_error)
    assert all(images[2].count() == 0 for images in found.values())
    whitened = variants(moments, white, np.diag([1.0, 2.0, 3.0, 4.0]), ridges=(0.0, 0.5))
    assert list(whitened) == [*found, "whitened, ridge 0", "whitened, ridge 0.5"]
    np.testing.assert_allclose(whitened["whitened, ridge 0"].reshape(3, 4), maps.images.reshape(3, 4) / [1, 2, 3, 4])


def test_a_class_without_a_map_has_no_name() -> None:
    maps = np.ma.masked_array(np.arange(12.0).reshape(3, 2, 2, 1))
    maps[1] = np.ma.masked
    arrays = named("decision_map", maps)
    assert set(arrays) == {"decision_map_0", "decision_map_2"}
    np.testing.assert_array_equal(arrays["decision_map_2"].ravel(), [8, 9, 10, 11])


def test_a_noise_of_another_deviation_than_the_samples_is_refused() -> None:
    shape = (4, 4, 1)
    narrow, wide = (noise.gaussian(shape, 0.5, deviation) for deviation in (0.1, 0.2))
    moments = reverse_correlate(narrow, lambda x: x[:, 0, 0] > 0.5, 50_000, sampling="independent")
    classification_images(moments, narrow)
    with pytest.raises(InputError, match=r"deviation of 0\.1.*, those of the noise given one of 0\.2"):
        classification_images(moments, wide)
