from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wna_jax import classification_images, noise, responses, reverse_correlate, statistics
from wna_jax.correlation import reverse_correlate_in_parts
from wna_jax.correlation.fields import Geometry, _autocorrelation, _windows, draw, find_field, window_sums
from wna_jax.correlation.loop import Sampling
from wna_jax.correlation.moments import over_pixels
from wna_jax.maps import regression_images, share_standard_error
from wna_jax.networks import untrained

WHITE = noise.uniform((28, 28, 1))


def logits_of(name: str, shape: tuple[int, int, int] = (28, 28, 1)) -> Callable[[jax.Array], jax.Array]:
    return untrained(name, shape, 10)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (33, 30, 1)])
def test_the_field_of_a_valid_network_is_found_by_its_geometry(shape: tuple[int, int, int]) -> None:
    found = find_field(noise.uniform(shape), logits_of("paper_cnn", shape))
    assert found == Geometry(shape[:2], (4, 4), 32)


class Everywhere(nn.Module):
    """A SAME convolution at stride 4 gives a regular grid too, but sees what is outside a window."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = nn.Conv(3, (9, 9), strides=4, padding="SAME")(images)
        out = nn.Conv(3, (7, 7), padding="VALID")(x)
        return out[:, 0, 0] if out.shape[1:3] == (1, 1) else out


def test_a_network_without_a_field_is_told_why() -> None:
    same = Everywhere()
    variables = same.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    for respond, why in [
        (logits_of("net"), "the network takes images of one size alone"),
        (logits_of("mlp"), "the network takes images of one size alone"),
        (lambda x: x.mean(axis=(1, 2)), "are no grid of those to windows"),
        (lambda x: same.apply(variables, x), "depends on what is outside the window"),
    ]:
        assert why in str(find_field(WHITE, respond))
    saturated = responses.of_classifier(lambda x: 1e6 * same.apply(variables, x), ["decision"])
    assert "depends on what is outside the window" in str(find_field(WHITE, saturated))
    single = replace(WHITE, draw=None)
    assert "exists in the size of one image alone" in str(find_field(single, logits_of("paper_cnn")))


def convolved(kernel: jax.Array, strides: tuple[int, int], images: jax.Array) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    out = jax.lax.conv_general_dilated(images, kernel, strides, "VALID", dimension_numbers=layout)
    return out[:, 0, 0] if out.shape[1:3] == (1, 1) else out


KERNEL = jnp.asarray(np.random.default_rng(0).standard_normal((8, 9, 1, 3)).astype(np.float32))
SMALL = noise.uniform((8, 9, 1))


def test_a_field_is_found_at_a_stride_after_those_that_raise_and_at_unequal_ones() -> None:
    def at_four_alone(images: jax.Array) -> jax.Array:
        if (images.shape[1] - 8) % 4 or (images.shape[2] - 9) % 4:
            raise ValueError("only whole blocks")
        return convolved(KERNEL, (4, 4), images)

    assert find_field(SMALL, at_four_alone) == Geometry((8, 9), (4, 4), 32)
    assert find_field(SMALL, lambda images: convolved(KERNEL, (2, 3), images)) == Geometry((8, 9), (2, 3), 32)


def test_a_network_in_bfloat16_has_the_field_that_it_has_in_float32() -> None:
    network = untrained("pair_cnn", (16, 16, 1), 3)
    white, in_bfloat16 = noise.uniform((16, 16, 1)), replace(network, precision="bfloat16")
    assert find_field(white, responses.of_classifier(in_bfloat16)) == Geometry((16, 16), (4, 4), 32)


def test_what_a_few_windows_do_not_show_is_found_in_the_whole_grid() -> None:
    def biased(images: jax.Array) -> jax.Array:
        out = convolved(KERNEL, (2, 2), images)
        return out.at[:, 20:, 17:, 1].add(1.0) if out.ndim == 4 else out

    def dropped(images: jax.Array) -> jax.Array:
        out = convolved(KERNEL, (2, 2), images)
        return jnp.where(jax.random.bernoulli(jax.random.key(0), 0.9, out.shape), out, 0)

    def binarised(images: jax.Array) -> jax.Array:  # SAME padding behind a front end that swallows NaN
        ink = (images > 0.5).astype(jnp.float32)
        near = jax.lax.reduce_window(ink, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")
        out = convolved(KERNEL, (2, 2), near)
        return out + jnp.broadcast_to(jnp.array([1e4, 0.0, 0.0]), out.shape)

    for logits in (biased, dropped, binarised):
        found = find_field(SMALL, responses.of_classifier(logits, ["decision"]))
        assert "depends on" in str(found), logits
    assert "are the same" in str(find_field(SMALL, lambda images: 0 * convolved(KERNEL, (2, 2), images)))


@pytest.mark.parametrize(
    ("window", "stride", "grid"), [((28, 28), (4, 4), 5), ((9, 7), (2, 3), 4), ((6, 5), (6, 5), 1)]
)
def test_window_sums_are_those_of_copied_windows(window: tuple, stride: tuple, grid: int) -> None:
    geometry = Geometry(window, stride, grid)
    rng = np.random.default_rng(0)
    fields = rng.standard_normal((2, *geometry.field, 3)).astype(np.float32)
    weights = rng.standard_normal((2, grid, grid, 4)).astype(np.float32)
    expected = np.zeros((2, 4, *window, 3))
    for i in range(grid):
        for j in range(grid):
            piece = fields[:, stride[0] * i :, stride[1] * j :][:, : window[0], : window[1]]
            expected += np.einsum("nk,nhwc->nkhwc", weights[:, i, j], piece)
    for each_field, sums in ((True, expected), (False, expected.sum(axis=0))):
        ours = jax.jit(partial(window_sums, geometry=geometry, each_field=each_field))
        np.testing.assert_allclose(ours(jnp.asarray(weights), jnp.asarray(fields)), sums, atol=1e-4)


@pytest.mark.slow
def test_a_map_of_windows_varies_no_more_than_one_of_independent_samples(network: Callable) -> None:
    """Variance between blocks of 4,096 samples, of trained weights: field over independent is 1 within 5%."""
    respond, white = responses.of_classifier(network, ["probability"]), noise.gaussian((28, 28, 1), 0.3, 0.3)
    variance = {}
    samplings: tuple[Sampling, ...] = ("independent", "field")
    for how in samplings:
        blocks = [
            reverse_correlate(white, respond, 4096, seed=seed, sampling=how, batch_size=4096)["probability"]
            for seed in range(24)
        ]
        images = np.ma.stack([classification_images(block, white).images for block in blocks])
        expected = np.ma.stack([classification_images(block, white).standard_error for block in blocks])
        variance[how] = (images.var(axis=0, ddof=1) / (expected**2).mean(axis=0)).mean()
    assert variance["field"] / variance["independent"] == pytest.approx(1, abs=0.05)
    assert variance["independent"] == pytest.approx(
        1, abs=0.05
    )  # the stated standard error is that of a trained network


def brightness(images: jax.Array) -> jax.Array:
    """Calls a window dark or bright by its mean, at stride 4: neighbouring windows, which share most pixels, agree."""
    kernel = jnp.full((28, 28, 1, 1), 1 / 784)
    mean = jax.lax.conv_general_dilated(images, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))[
        ..., 0
    ]
    logits = jnp.stack([0.5 - mean, mean - 0.5], axis=-1)
    return logits[:, 0, 0] if logits.shape[1:3] == (1, 1) else logits


@pytest.mark.slow
def test_the_error_of_a_share_is_that_of_dependent_windows() -> None:
    """Over 60 runs of 20 fields the share deviates by the stated error, known to 1 / sqrt(120) = 9%: margin three."""
    respond = responses.of_classifier(brightness, ["decision"])
    runs = [
        reverse_correlate(WHITE, respond, 20 * 1024, seed=seed, sampling="field", batch_size=20 * 1024)["decision"]
        for seed in range(60)
    ]
    shares = np.array([run.weight_sum / run.num_samples for run in runs])
    stated = np.sqrt(np.mean([share_standard_error(run) ** 2 for run in runs], axis=0))
    np.testing.assert_allclose(shares.std(axis=0, ddof=1) / stated, 1, atol=0.27)
    assert (stated > 3 * np.sqrt(0.25 / (20 * 1024))).all()  # the binomial error would be far too small


@pytest.mark.slow
@pytest.mark.parametrize("n", [24 * 1024, 24 * 1024 + 1, 24 * 1024 + 512])
def test_a_cut_last_field_does_not_look_like_spread(n: int) -> None:
    """A class with nine tenths of the windows: deviation over 60 runs, known to 9%, by the mean stated error."""

    def bright(images: jax.Array) -> jax.Array:
        value = images[:, ::8, ::8, 0][:, : images.shape[1] // 8, : images.shape[2] // 8]
        logits = jnp.stack([value - 0.1, jnp.zeros_like(value)], axis=-1)
        return logits[:, 0, 0] if logits.shape[1:3] == (1, 1) else logits

    white, respond = noise.uniform((8, 8, 1)), responses.of_classifier(bright, ["decision"])
    runs = [reverse_correlate(white, respond, n, seed=seed, sampling="field")["decision"] for seed in range(60)]
    assert runs[0].num_draws == -(-n // 1024)
    stated = np.sqrt(np.mean([share_standard_error(run) ** 2 for run in runs], axis=0))
    np.testing.assert_allclose(stated, np.sqrt(0.9 * 0.1 / n), rtol=0.05)  # these windows share no pixel that matters
    shares = np.array([run.weight_sum / run.num_samples for run in runs])
    np.testing.assert_allclose(shares.std(axis=0, ddof=1) / stated, 1, atol=0.27)


def test_a_response_that_cannot_be_hashed_has_a_field_too() -> None:
    @dataclass
    class Unit:
        def __call__(self, images: jax.Array) -> jax.Array:
            return brightness(images)

    assert find_field(WHITE, Unit()) == find_field(WHITE, brightness)
    assert reverse_correlate(WHITE, Unit(), 21_000).num_samples == 21_000


def test_the_autocorrelation_of_a_wide_window_does_not_wrap_around() -> None:
    weights = np.random.default_rng(0).normal(size=(50, 9, 9, 1))
    weights = weights[:, :8, :8] + weights[:, 1:, :8]  # correlated with the next row, by 1/2 (7 of 8 pairs), no other
    shared = _autocorrelation(weights, Geometry((48, 40), (2, 2), 8))  # windows reach over 24 and 20 strides
    assert shared.correlation.shape == (1, 47, 39)
    expected = np.zeros((47, 39))
    expected[23, 19], expected[22, 19], expected[24, 19] = 1, 7 / 16, 7 / 16
    np.testing.assert_allclose(shared.correlation[0], expected, atol=0.06)


@pytest.mark.slow
def test_the_error_of_a_share_of_independent_samples_is_binomial(network: Callable) -> None:
    m = reverse_correlate(WHITE, responses.of_classifier(network), 2000, sampling="independent")["decision"]
    p = m.count / 2000
    np.testing.assert_allclose(share_standard_error(m), np.sqrt(p * (1 - p) / 1999), rtol=1e-6)
    one = reverse_correlate(WHITE, responses.of_classifier(network), 1000, sampling="field")["decision"]
    assert np.ma.getmaskarray(share_standard_error(one)).all()  # one field tells nothing of its error


def sees_both_sides(images: jax.Array) -> jax.Array:
    """Calls a window of 12x12 by the sum of its pixels (0, 4) and (8, 4); pixel (4, 4), between them, does not matter.

    But it is pixel (0, 4) of one neighbouring window and (8, 4) of another, and so it has a larger error than the
    formula for independent samples says: by sqrt(1 + 2 r^2) = 1.28, r = 1/sqrt(pi) the correlation of answer and pixel.
    """
    kernel = jnp.zeros((12, 12, 1, 1)).at[jnp.array([0, 8]), 4].set(1.0)
    total = jax.lax.conv_general_dilated(
        images - 0.5, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    logits = jnp.concatenate([total, -total], axis=-1)
    return logits[:, 0, 0] if logits.shape[1:3] == (1, 1) else logits


@pytest.mark.slow
def test_the_error_of_a_pixel_is_that_of_dependent_windows() -> None:
    """Over 300 runs deviations of z are known to 4%: margin three; of a pixel between seen ones, and of others."""
    white = noise.gaussian((12, 12, 1), 0.5, 0.2)
    respond = responses.of_classifier(sees_both_sides, ["decision"])
    runs = [
        reverse_correlate(white, respond, 20 * 1024, seed=seed, sampling="field")["decision"] for seed in range(300)
    ]
    z = np.ma.stack([statistics.z_map(classification_images(run, white)) for run in runs])[:, 0, ..., 0]
    assert z.count() == z.size
    naive = [classification_images(replace(run, field_sums=None), white) for run in runs]
    naive_z = np.ma.stack([maps.images / maps.standard_error for maps in naive])[:, 0, ..., 0]
    assert naive_z[:, 4, 4].std() == pytest.approx(1.28, abs=0.16)
    assert z[:, 4, 4].std() == pytest.approx(1, abs=0.12)
    assert z[:, 6:, 6:].std() == pytest.approx(1, abs=0.02)
    assert z[:, 0, 4].mean() > 8  # what the network does see: t = 110, of 19 degrees of freedom


@pytest.mark.slow
def test_errors_of_a_rare_class_and_of_nearly_all_samples_hold_in_fields() -> None:
    """One class gets 1 sample in 2,000, the other all the rest: 8 to 12 windows of 20 fields, and their complement."""
    white = noise.gaussian((6, 6, 1), 0.5, 0.2)

    def rare(images: jax.Array) -> jax.Array:
        value = images[:, ::3, ::3, 0][:, : (images.shape[1] - 3) // 3, : (images.shape[2] - 3) // 3]
        logits = jnp.stack([value - (0.5 + 3.29 * 0.2), jnp.zeros_like(value)], axis=-1)
        return logits[:, 0, 0] if logits.shape[1:3] == (1, 1) else logits

    respond = responses.of_classifier(rare, ["decision"])
    runs = [
        reverse_correlate(white, respond, 20 * 1024, seed=seed, sampling="field")["decision"] for seed in range(200)
    ]
    assert np.mean([run.count[0] for run in runs]) == pytest.approx(10.1, abs=1)  # the last field is cut
    maps = [classification_images(run, white) for run in runs]
    z = np.ma.stack([statistics.z_map(m) for m in maps])[:, :, 4:, 4:]
    df = np.array([m.degrees_of_freedom for m in maps])
    counts = np.array([run.count[0] for run in runs])
    spread = counts / (1 + (counts - 1) / 20) - 1  # n windows fall into 20 fields at random
    assert df[:, 0].mean() == pytest.approx(spread.mean(), rel=0.1)
    np.testing.assert_allclose(df[:, 1], df[:, 0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(z[:, 1], -z[:, 0], rtol=1e-4, atol=1e-4)
    assert z[:, 0].std() == pytest.approx(1, abs=4 / np.sqrt(2 * z[:, 0].count()))
    p = statistics.p_values(np.ma.masked_array(z.reshape(-1, 1, 1, 1)))
    assert 0.001 < (p < 0.01).mean() < 0.013


def rare_and_mirrored(images: jax.Array) -> dict[str, jax.Array]:
    """Weights that are nearly always 0 and see pixel (0, 0) of 6x6, and one less these weights."""
    value = images[:, ::3, ::3, 0][:, : (images.shape[1] - 3) // 3, : (images.shape[2] - 3) // 3]
    decided, graded = (value > 0.9).astype(jnp.float32), jax.nn.sigmoid(40 * (value - 0.9))
    weights = jnp.stack([decided, graded], axis=-1)
    both = {"own": weights, "mirrored": 1 - weights}
    return {name: w[:, 0, 0] if w.shape[1:3] == (1, 1) else w for name, w in both.items()}


@pytest.mark.parametrize("how", ["independent", "field"])
def test_a_map_and_its_mirror_have_the_same_errors(how: Sampling) -> None:
    """A class with 2.3% of the samples and one with 97.7%: the same z, reliability and error of the share."""
    white = noise.gaussian((6, 6, 1), 0.5, 0.2)
    parts = reverse_correlate_in_parts(white, rare_and_mirrored, 20 * 1024 + 300, sampling=how, batch_size=4096)
    moments = {name: parts.first[name] + parts.second[name] for name in parts.first}
    own, mirrored = moments["own"], moments["mirrored"]
    np.testing.assert_allclose(own.count[0] + mirrored.count[0], own.num_samples)
    for mapped in (classification_images, regression_images):
        a, b = mapped(own, white), mapped(mirrored, white)
        factor = own.weight_sum / (own.num_samples - own.weight_sum) if mapped is classification_images else np.ones(2)
        np.testing.assert_allclose(b.images, -over_pixels(factor) * a.images, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(b.standard_error, over_pixels(factor) * a.standard_error, rtol=1e-5)
        np.testing.assert_allclose(statistics.z_map(b), -statistics.z_map(a), rtol=1e-5, atol=1e-4)
        if a.degrees_of_freedom is not None and b.degrees_of_freedom is not None:
            np.testing.assert_allclose(b.degrees_of_freedom, a.degrees_of_freedom, rtol=1e-5)
    np.testing.assert_allclose(share_standard_error(mirrored), share_standard_error(own), rtol=1e-5)
    halves = (statistics.split_half(parts.first[name], parts.second[name], white) for name in moments)
    one, other = (half.reliability for half in halves)
    np.testing.assert_allclose(one, other, rtol=1e-5)


def test_errors_in_fields_are_those_of_a_float64_oracle() -> None:
    """From the drawn fields, window by window; the last field is cut."""
    white, n = noise.gaussian((6, 6, 1), 0.5, 0.2), 12 * 1024 - 300
    moments = reverse_correlate(white, rare_and_mirrored, n, seed=3, sampling="field", batch_size=4096)
    geometry = find_field(white, rare_and_mirrored)
    assert isinstance(geometry, Geometry)
    fields = np.asarray(draw(white.resized(geometry.field), jax.random.key(3), 0, 0, 12))
    windows = _windows(fields, geometry).reshape(-1, *white.shape)[:n].astype(np.float64)
    answers = rare_and_mirrored(jnp.asarray(fields))
    for name, m in moments.items():
        weights = np.asarray(answers[name], np.float64).reshape(-1, 2)[:n]
        share, field = weights.mean(axis=0), np.arange(n) // 1024
        own = (weights - share)[..., None, None, None]
        residuals, q = own * (windows - windows.mean(axis=0))[:, None], own[..., 0, 0, 0] ** 2
        r_f, q_f = (np.stack([each[field == f].sum(axis=0) for f in range(12)]) for each in (residuals, q))
        slope = r_f.sum(axis=0) / over_pixels(q_f.sum(axis=0))
        effective = q_f.sum(axis=0) ** 2 / (q_f**2).sum(axis=0)
        left = ((r_f - slope * q_f[..., None, None, None]) ** 2).sum(axis=0) / over_pixels(1 - 1 / effective)
        images, slopes = classification_images(m, white), regression_images(m, white)
        np.testing.assert_allclose(np.array(images.degrees_of_freedom), effective - 1, rtol=1e-4)
        np.testing.assert_allclose(images.standard_error, np.sqrt(left) / over_pixels(n * share), rtol=1e-4)
        np.testing.assert_allclose(images.images, r_f.sum(axis=0) / over_pixels(n * share), rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(slopes.standard_error, np.sqrt(left) / n / 0.2**2, rtol=1e-4)
        s_f = np.stack([(weights - share)[field == f].sum(axis=0) for f in range(12)])
        np.testing.assert_allclose(share_standard_error(m), np.sqrt((s_f**2).sum(axis=0) * 12 / 11) / n, rtol=1e-4)
