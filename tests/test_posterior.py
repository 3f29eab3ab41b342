"""Maps under a smoothness prior: against dense formulas, planted templates, and templates that are not smooth."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

import wna_jax
from wna_jax import noise, responses, reverse_correlate
from wna_jax.correlation import fields
from wna_jax.correlation.fields import Overlap
from wna_jax.maps import ClassificationImages, classification_images
from wna_jax.posterior import PosteriorMaps, evidence, posterior_maps
from wna_jax.posterior.structure import structure_p_value, weighted_chi_square_tail
from wna_jax.runs.errors import InputError

SIDE = 14


def maps_of(z_khwc: np.ndarray, error: float = 1.0) -> ClassificationImages:
    """Maps with a known standard error."""
    images, count = np.ma.masked_array(z_khwc * error), np.full(len(z_khwc), 100)
    return ClassificationImages(images, np.ma.masked_array(np.full(z_khwc.shape, error)), count, count / 1000)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])


def a_root(count: int) -> np.ndarray:
    """A symmetric root of the correlation .4^distance."""
    values, vectors = np.linalg.eigh(0.4 ** np.abs(np.subtract.outer(np.arange(count), np.arange(count))))
    return (vectors * np.sqrt(values)) @ vectors.T


def some_problem() -> tuple[evidence.Problem, np.ndarray]:
    """A small map in colour whose errors are correlated along both axes, and numbers of a prior."""
    generator = np.random.default_rng(0)
    problem = evidence.Problem(2 * generator.standard_normal((2, 5, 4)), (a_root(5), a_root(4)))
    numbers = problem.hyperprior[0] + 0.2 * generator.standard_normal(len(problem.hyperprior[0]))
    return problem, numbers


def dense(problem: evidence.Problem, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Covariances of prior and errors [C H W, C H W], as the docstring says."""
    channels, height, width = problem.z.shape
    (rows, _), (columns, _) = (
        evidence.axis_kernel(count, numbers[i * evidence.AXIS :][: evidence.AXIS])
        for i, count in enumerate((height, width))
    )
    root = evidence.channel_root(numbers[2 * evidence.AXIS : -1], channels)
    of_rows, of_columns = (own @ own for own in problem.roots if own is not None)
    errors = np.kron(np.eye(channels), np.kron(of_rows, of_columns))
    return np.kron(root @ root.T, np.kron(rows, columns)) + np.exp(2 * numbers[-1]) * errors, errors


def test_the_evidence_is_that_of_the_dense_covariance() -> None:
    problem, numbers = some_problem()
    prior, errors = dense(problem, numbers)
    z, logs = problem.z.ravel(), []
    for covariance in (prior + errors, errors):
        logs.append(-0.5 * (np.linalg.slogdet(covariance)[1] + z @ np.linalg.solve(covariance, z)))
    mean, deviation = problem.hyperprior
    expected = logs[0] - logs[1] - 0.5 * (((numbers - mean) / deviation) ** 2).sum()
    assert evidence.evidence(problem, numbers).log_density == pytest.approx(expected, rel=1e-9)


def test_the_posterior_is_that_of_the_dense_covariance() -> None:
    problem, numbers = some_problem()
    prior, errors = dense(problem, numbers)
    gain = prior @ np.linalg.inv(prior + errors)
    certain = evidence.Fit(problem, numbers, np.ones(len(numbers), bool), 1e-20 * np.eye(len(numbers)), 0.0)
    mean, variance = evidence.posterior_of(certain)
    np.testing.assert_allclose(mean.ravel(), gain @ problem.z.ravel(), atol=1e-8)
    np.testing.assert_allclose(variance.ravel(), np.diag(prior - gain @ prior), atol=1e-8)


def test_the_gradient_is_that_of_differences() -> None:
    problem, numbers = some_problem()
    numbers[list(evidence.FREQUENCIES)] = 0.1, 0.2
    differences = [
        (
            evidence.evidence(problem, numbers + step).log_density
            - evidence.evidence(problem, numbers - step).log_density
        )
        / 2e-5
        for step in 1e-5 * np.eye(len(numbers))
    ]
    np.testing.assert_allclose(evidence.evidence(problem, numbers).gradient, differences, rtol=1e-5, atol=1e-5)


def blob() -> np.ndarray:
    place = np.arange(SIDE)
    row, column = np.exp(-((place - 6) ** 2) / 18), np.exp(-((place - 9) ** 2) / 8)
    template = np.outer(row, column) - 0.7 * np.outer(np.exp(-((place - 12) ** 2) / 8), row)
    return template / np.sqrt((template**2).mean())


@pytest.mark.parametrize("strength", [0.4, 1.0, 3.0])
def test_a_smooth_template_is_nearer_and_by_as_much_as_is_said(strength: float) -> None:
    generator = np.random.default_rng(1)
    truth = ndimage.gaussian_filter(generator.standard_normal((6, SIDE, SIDE)), (0, 2, 2))
    truth /= truth.std()
    z = strength * truth + generator.standard_normal(truth.shape)
    found = posterior_maps(maps_of(z[..., None], error=0.01))
    before = [correlation(own, true) for own, true in zip(z, truth, strict=True)]
    after = [correlation(own, true) for own, true in zip(found.images, truth, strict=True)]
    assert np.mean(after) > np.mean(before) + 0.02
    assert all(prior is not None and prior.kind == "smooth" for prior in found.priors)
    assert np.mean(found.expected_correlation) == pytest.approx(np.mean(after), abs=0.08)
    assert np.mean(found.plain_correlation) == pytest.approx(np.mean(before), abs=0.08)
    assert found.gain.min() > 1.5
    assert np.ma.median(found.p_value) < 0.01


def templates_that_are_not_smooth() -> dict[str, np.ndarray]:
    i, j = np.mgrid[:SIDE, :SIDE]
    generator = np.random.default_rng(2)
    pixels = np.zeros((SIDE, SIDE))
    pixels[generator.integers(0, SIDE, 8), generator.integers(0, SIDE, 8)] = generator.choice([-1, 1], 8)
    local = np.exp(-((i - 5) ** 2 + (j - 9) ** 2) / 12)
    return {
        "one pixel": ((i == 5) & (j == 9)).astype(float),
        "pixels": pixels,
        "checkerboard": (-1.0) ** (i + j),
        "a local checkerboard": local * (-1.0) ** (i + j),
        "rows": (-1.0) ** i,
        "grating": np.cos(2 * np.pi * (0.3 * i + 0.1 * j)),
        "noise": generator.standard_normal((SIDE, SIDE)),
        "a blob and a pixel": local + 3 * ((i == 12) & (j == 3)),
        "a blob and a checkerboard": local + 0.5 * (-1.0) ** (i + j),
        "an edge": np.where(j < 7, 1.0, -1.0),
    }


@pytest.mark.parametrize("name", templates_that_are_not_smooth())
def test_a_template_that_is_not_smooth_loses_nothing(name: str) -> None:
    template = templates_that_are_not_smooth()[name]
    template = template / np.sqrt((template**2).mean())
    for strength in (0.3, 2.0):
        z = strength * template + np.random.default_rng(3).standard_normal((2, SIDE, SIDE))
        found = posterior_maps(maps_of(z[..., None])).images
        changes = [
            correlation(after, template) - correlation(own, template) for after, own in zip(found, z, strict=True)
        ]
        assert np.mean(changes) > -0.01, (name, strength)


def test_a_grating_is_found_by_its_frequency() -> None:
    i, j = np.mgrid[:SIDE, :SIDE]
    template = np.exp(-((i - 7) ** 2 + (j - 8) ** 2) / 30) * np.cos(2 * np.pi * 0.25 * j)
    z = 3 * template + np.random.default_rng(0).standard_normal((SIDE, SIDE))
    found = posterior_maps(maps_of(z[None, ..., None]))
    (prior,) = found.priors
    assert prior is not None
    assert prior.frequency is not None
    assert prior.kind == "one frequency"
    assert prior.frequency.low[1] < 0.25 < prior.frequency.high[1]
    assert abs(prior.frequency.value[0]) < 0.08
    assert correlation(found.images[0], template) > correlation(z, template) + 0.1


def test_channels_share_what_they_share() -> None:
    generator = np.random.default_rng(4)
    z = 0.4 * blob()[..., None] + generator.standard_normal((SIDE, SIDE, 3))  # grey: one map for all channels
    together = posterior_maps(maps_of(z[None]))
    apart = posterior_maps(maps_of(np.moveaxis(z, -1, 0)[..., None]))
    assert correlation(together.images[0].mean(axis=-1), blob()) > 0.85
    grey = np.repeat(blob()[..., None], 3, axis=-1)
    assert correlation(together.images[0], grey) > correlation(np.moveaxis(apart.images[..., 0], 0, -1), grey) + 0.03
    (prior,) = together.priors
    assert prior is not None
    assert prior.channel_correlation is not None
    assert prior.channel_correlation.min() > 0.6


def test_independent_pixels_are_scaled_alone() -> None:
    z = np.random.default_rng(5).standard_normal((3, SIDE, SIDE, 1)) * 2
    found = posterior_maps(maps_of(z))
    for own, image, prior in zip(z, found.images, found.priors, strict=True):
        assert prior is not None
        assert prior.kind == "independent pixels"
        assert correlation(own, image) == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(found.gain, 1, atol=0.02)
    np.testing.assert_allclose(found.expected_correlation, np.sqrt(3 / 4), atol=0.02)


@pytest.mark.slow
def test_a_large_image_is_explained_like_a_small_one() -> None:
    template = np.kron(blob(), np.ones((7, 7)))  # 98 pixels a side: the search starts with squares of pixels
    z = 0.3 * template + np.random.default_rng(6).standard_normal(template.shape)
    found = posterior_maps(maps_of(z[None, ..., None]))
    assert correlation(found.images[0], template) > 0.93
    assert found.expected_correlation[0] < correlation(found.images[0], template) + 0.02


def test_weighted_chi_squares_have_the_tail_of_draws() -> None:
    assert weighted_chi_square_tail(18.307, np.ones(10)) == pytest.approx(0.05, abs=0.0005)  # chi-square of 10 degrees
    assert weighted_chi_square_tail(2.558, np.ones(10)) == pytest.approx(0.99, abs=0.002)
    weights = 1 / np.arange(1, 30) ** 2
    draws = (weights * np.random.default_rng(0).standard_normal((200_000, 29)) ** 2).sum(axis=1)
    for value in (0.5, 1.6, 4.0, 7.0):
        assert weighted_chi_square_tail(value, weights) == pytest.approx((draws > value).mean(), rel=0.1, abs=0.003)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 8), (1, 5, 9)])
def test_maps_without_structure_are_rejected_at_the_level(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(7)
    p = np.array([structure_p_value(generator.standard_normal(shape)) for _ in range(1000)])
    for level in (0.05, 0.5):
        assert abs((p < level).mean() - level) < 3.3 * np.sqrt(level * (1 - level) / 1000)


def blind(images: jax.Array) -> jax.Array:
    """Answers of a hash of the image's bits: none of its pixels' brightness."""
    bits = jax.lax.bitcast_convert_type(images.reshape(len(images), -1), jnp.uint32)
    mixed = (bits * jnp.uint32(2654435761)).sum(axis=1) * jnp.uint32(2246822519)
    mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(3266489917)
    share = (mixed >> 8).astype(jnp.float32) / 2**24
    return jnp.stack([share - 0.7, 0.7 - share], axis=-1)


@pytest.mark.slow
def test_blind_networks_are_rejected_at_the_level() -> None:
    white, respond = noise.uniform((8, 8, 1)), responses.of_classifier(blind)
    p = []
    for seed in range(400):
        moments = reverse_correlate(white, respond, 2000, seed=seed, sampling="independent")["decision"]
        p.append(posterior_maps(classification_images(moments, white)).p_value[0])
    rejected = float((np.array(p) < 0.05).mean())
    assert abs(rejected - 0.05) < 3.3 * np.sqrt(0.05 * 0.95 / 400), rejected


@pytest.mark.slow
def test_blind_networks_are_rejected_at_the_level_in_fields() -> None:
    """Windows share half of their pixels and more, and so do their answers: each a sum of hashes of pixels' bits."""

    def answers(images: jax.Array) -> jax.Array:
        bits = jax.lax.bitcast_convert_type(images, jnp.uint32) * jnp.uint32(2654435761)
        bits = (bits ^ (bits >> 15)) * jnp.uint32(2246822519)
        bits = (bits ^ (bits >> 13)) * jnp.uint32(3266489917)
        values = jnp.where(jnp.isfinite(images), (bits >> 8).astype(jnp.float32) / 2**24 - 0.5, jnp.nan)
        layout = ("NHWC", "HWIO", "NHWC")
        sums = jax.lax.conv_general_dilated(values, jnp.ones((8, 8, 1, 1)), (2, 2), "VALID", dimension_numbers=layout)
        out = jnp.concatenate([sums - 2, 2 - sums], axis=-1)
        return out[:, 0, 0] if out.shape[1:3] == (1, 1) else out

    white, respond = noise.uniform((8, 8, 1)), responses.of_classifier(answers)
    overlaps = fields.overlap(white, respond)
    p: dict[str, list[float]] = {"decision": [], "probability": []}
    for seed in range(400):
        moments = reverse_correlate(white, respond, 20_480, seed=seed, sampling="field")
        for name, own in p.items():
            own.append(posterior_maps(classification_images(moments[name], white), overlaps[name]).p_value[0])
    for name, own in p.items():
        rejected = float((np.array(own) < 0.05).mean())
        assert abs(rejected - 0.05) < 3.3 * np.sqrt(0.05 * 0.95 / 400), (name, rejected)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
def test_intervals_cover_what_they_say(channels: int) -> None:
    """Maps drawn from the priors themselves: of 200 maps each, all pixels."""
    side, inside = 12, []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        problem = evidence.Problem(np.zeros((channels, side, side)))
        mean, deviation = problem.hyperprior
        numbers = mean + deviation * generator.standard_normal(len(mean))
        numbers[list(evidence.FREQUENCIES)] = 0
        roots = []
        for i in (0, 1):
            values, vectors = np.linalg.eigh(evidence.axis_kernel(side, numbers[i * evidence.AXIS :][:4])[0])
            roots.append(vectors * np.sqrt(np.maximum(values, 0)))
        smooth = roots[0] @ generator.standard_normal(problem.z.shape) @ roots[1].T
        truth = np.tensordot(evidence.channel_root(numbers[2 * evidence.AXIS : -1], channels), smooth, 1)
        truth = np.moveaxis(truth + np.exp(numbers[-1]) * generator.standard_normal(truth.shape), 0, -1)
        found = posterior_maps(maps_of((truth + generator.standard_normal(truth.shape))[None]))
        off = np.abs(found.images[0] - truth) / found.standard_deviation[0]
        inside.append([(off < 1).mean(), (off < 1.96).mean()])
    rates, errors = np.mean(inside, axis=0), np.std(inside, axis=0) / np.sqrt(200)
    assert abs(rates[0] - 0.683) < 3 * errors[0] + 0.01, rates
    assert abs(rates[1] - 0.95) < 3 * errors[1] + 0.01, rates


def test_windows_of_fields_need_their_overlap_and_take_it_in() -> None:
    template = np.outer(np.hanning(8), np.hanning(8)) - np.outer(np.hanning(8) ** 8, np.hanning(8) ** 8)
    kernel = jnp.asarray(np.stack([template, -template], axis=-1)[:, :, None], jnp.float32)

    def network(images: jax.Array) -> jax.Array:
        layout = ("NHWC", "HWIO", "NHWC")
        out = jax.lax.conv_general_dilated(images - 0.5, kernel, (2, 2), "VALID", dimension_numbers=layout)
        return out[:, 0, 0] if out.shape[1:3] == (1, 1) else out

    white, respond = noise.uniform((8, 8, 1)), responses.of_classifier(network)
    moments = reverse_correlate(white, respond, 20_480, sampling="field")["decision"]
    maps = classification_images(moments, white)
    assert maps.degrees_of_freedom is not None
    with pytest.raises(InputError, match="give overlap="):
        posterior_maps(maps)
    found = posterior_maps(maps, fields.overlap(white, respond)["decision"])
    assert correlation(found.images[0], template) > 0.97
    assert found.expected_correlation[0] == pytest.approx(correlation(found.images[0], template), abs=0.02)
    with pytest.raises(InputError, match="1 responses for 2 maps"):
        posterior_maps(maps, Overlap((1, 1), np.ones((1, 15, 15))))


def test_a_class_without_a_map_has_no_posterior_either() -> None:
    z = np.ma.masked_array(np.random.default_rng(0).standard_normal((2, 6, 6, 1)))
    z[1] = np.ma.masked
    maps = dataclasses.replace(maps_of(np.zeros((2, 6, 6, 1))), images=z, standard_error=np.ma.masked_array(z * 0 + 1))
    found = posterior_maps(maps)
    assert found.priors[1] is None
    assert found.priors[0] is not None
    for part in (found.images, found.standard_deviation, found.gain, found.p_value, found.expected_correlation):
        assert np.ma.getmaskarray(part)[1].all()
        assert not np.ma.getmaskarray(part)[0].any()
    assert "smooth" in repr(found) or "independent pixels" in repr(found)


def test_maps_in_noise_of_dependent_pixels_have_none() -> None:
    stripes = noise.stripes((6, 6, 1))
    moments = reverse_correlate(stripes, responses.of_classifier(blind), 500)["decision"]
    with pytest.raises(InputError, match="need white noise"):
        posterior_maps(classification_images(moments, stripes))
    assert wna_jax.analyse(blind, stripes, 500, convergence=False).posterior("decision") is None


def test_an_analysis_has_posteriors_that_add_up_and_are_shown() -> None:
    weights = np.random.default_rng(0).standard_normal((64, 3)) / 10 + np.outer(np.hanning(64), [1, -1, 0])

    def network(images: jax.Array) -> Any:
        return (images.reshape(len(images), -1) - 0.5) @ jnp.asarray(weights, jnp.float32)

    one, other = (
        wna_jax.analyse(network, noise.uniform((8, 8, 1)), 3000, seed=seed, permutations=19) for seed in (0, 1)
    )
    both = one + other
    posterior = both.posterior("probability")
    assert isinstance(posterior, PosteriorMaps)
    direct = posterior_maps(both.maps["probability"])
    np.testing.assert_array_equal(posterior.images, direct.images)
    values = one.metrics()["smoothness_prior"]["probability"]
    assert len(values["samples_gained"]) == 3
    assert values["prior"][0] in ("smooth", "independent pixels")
    text = " ".join(label.get_text() for axes in one.figure().axes for label in axes.texts)
    assert "smoothness" in text
    assert any("smoothness prior" in title for title in one.convergence)
    with pytest.raises(InputError, match="logits"):
        one.posterior("logits")
