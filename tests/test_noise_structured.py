"""Noise whose pixels depend on each other, and binary noise."""

import os
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from wna_jax import data, draw_samples, noise
from wna_jax.data import Dataset
from wna_jax.networks import autoencoders
from wna_jax.networks.training import TrainingSpec
from wna_jax.noise import Noise, gabor
from wna_jax.runs.errors import InputError


@pytest.fixture(scope="module")
def small(digits: Dataset) -> Dataset:
    """The middle of the digits, which has components enough and is fitted in no time."""
    train = data.Split(digits.train.images[:400, 8:20, 8:20], digits.train.labels[:400])
    return replace(digits, train=train, validation=train, test=train)


@pytest.fixture(scope="module")
def of_gabor(small: Dataset) -> Noise:
    return noise.gabor_pca(small)


def test_binary_pixels_are_black_or_white() -> None:
    samples = np.asarray(draw_samples(noise.binary((8, 8, 1)), 500))
    assert set(np.unique(samples)) == {0, 1}
    assert samples.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(samples.size))


def test_stripes_are_one_row_in_every_row_and_their_own_in_every_channel() -> None:
    samples = np.asarray(draw_samples(noise.stripes((5, 40, 2)), 300))
    np.testing.assert_array_equal(samples, np.broadcast_to(samples[:, :1], samples.shape))
    rows = samples[:, 0].reshape(300, -1)
    correlation = np.corrcoef(rows.T)
    assert np.abs(correlation[~np.eye(80, dtype=bool)]).max() < 5 / np.sqrt(300)


def test_a_block_is_at_every_place_equally_often_and_the_authors_miss_the_last() -> None:
    n = 4000
    for pattern, places in ((noise.blocks((8, 12, 1)), 6), (noise.blocks((8, 12, 1), all_places=False), 2)):
        samples = np.asarray(draw_samples(pattern, n))
        assert (samples.sum(axis=(1, 2, 3)) == 16).all()
        corners = samples[:, ::4, ::4, 0].reshape(n, -1)
        assert (corners.sum(axis=1) == 1).all()  # on the grid
        counts = corners.sum(axis=0)
        used = counts > 0
        assert used.sum() == places
        assert np.abs(counts[used] - n / places).max() < 4 * np.sqrt(n / places)
    assert not noise.blocks((8, 12, 1), all_places=False).deviation[4:].any()
    assert np.asarray(draw_samples(noise.blocks((6, 6, 1)), 50))[:, 5, 5].any()  # blocks at the edge are cut, not lost


def test_the_moments_stated_are_those_of_the_draws(of_gabor: Noise) -> None:
    n = 4096
    for pattern in (noise.stripes((6, 7, 2)), noise.blocks((9, 8, 1)), of_gabor):
        samples = np.asarray(draw_samples(pattern, n, seed=9), np.float64)
        deviation = np.broadcast_to(pattern.deviation, pattern.shape)
        assert (np.abs(samples.mean(axis=0) - pattern.mean) <= 5 * deviation / np.sqrt(n)).all()
        np.testing.assert_allclose(samples.std(axis=0), deviation, rtol=0.12)
        assert not pattern.white


def test_the_covariance_is_the_known_one() -> None:
    striped = noise.covariance(noise.stripes((3, 2, 1)), 20_000)
    same_column = np.arange(6)[:, None] % 2 == np.arange(6) % 2
    np.testing.assert_allclose(striped, same_column / 12, atol=5 / 12 / np.sqrt(20_000))
    white = noise.gaussian((2, 1, 2), 0.5, np.array([0.1, 0.2]))
    np.testing.assert_allclose(noise.covariance(white), np.diag([0.01, 0.04, 0.01, 0.04]))


def test_gabor_atoms_are_as_many_as_published_and_of_the_formula() -> None:
    assert gabor.atoms(28, 28).shape == (960, 784)
    assert gabor.atoms(32, 32).shape == (1520, 1024)
    for size in (3, 7, 15):
        upright, lying = gabor.kernel(size, 0, 0), gabor.kernel(size, np.pi / 2, 0)
        np.testing.assert_allclose(lying, upright.T, atol=1e-12)
        np.testing.assert_allclose(upright, upright[::-1, ::-1], atol=1e-12)  # phase 0 is even
        odd = gabor.kernel(size, np.pi / 4, np.pi / 2)
        np.testing.assert_allclose(odd + odd[::-1, ::-1], 1, atol=1e-12)
        assert upright.max() == upright[size // 2, size // 2] == 1
        assert upright.min() == 0
    # By hand, size 7, theta 0, phase 0, so s = 1 and l = 3.5: the pixel at (x, y) = (1, 2), and the least, at (1, 0).
    value, least = np.exp(-1) * np.cos(2 * np.pi / 3.5), np.exp(-0.5) * np.cos(2 * np.pi / 3.5)
    assert gabor.kernel(7, 0, 0)[1, 2] == pytest.approx((value - least) / (1 - least))


def test_the_fit_is_that_of_ridge_regression_and_principal_components(small: Dataset) -> None:
    images = small.train.images[:300, ..., 0]
    fitted = gabor.fit(images, 20)
    flat = images.reshape(300, -1).astype(np.float64)
    design = gabor.atoms(12, 12).T
    ridge = Ridge(alpha=0.1).fit(design, flat.T)
    pca = PCA(20, svd_solver="full").fit(ridge.coef_)
    assert fitted.explained_variance == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-8)
    scores = pca.transform(ridge.coef_)
    np.testing.assert_allclose(
        fitted.high - fitted.low, np.ptp(scores, axis=0), rtol=1e-4
    )  # a component's sign is nobody's choice, its range is
    rendered = pca.inverse_transform(scores[:4]) @ design.T
    rebuilt = rendered - rendered.mean(axis=1, keepdims=True) + flat[:4].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(gabor.reconstruct(fitted, images[:4], images).reshape(4, -1), rebuilt, atol=0.02)


@pytest.mark.slow
def test_gabor_noise_fills_the_unit_range_and_varies_in_its_components_alone(of_gabor: Noise, small: Dataset) -> None:
    samples = np.asarray(draw_samples(of_gabor, 100), np.float64).reshape(100, -1)
    np.testing.assert_allclose(samples.min(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(samples.max(axis=1), 1, atol=1e-6)
    few = gabor.fit(small.train.images[..., 0], 30)
    drawn = draw_samples(gabor.of_principal_images("few", small, [few]), 100)
    space = np.linalg.qr(np.vstack([few.basis, few.mean, np.ones(144)]).T)[0]
    flat = np.asarray(drawn, np.float64).reshape(100, -1)
    np.testing.assert_allclose(flat @ space @ space.T, flat, atol=1e-4)
    grey = np.asarray(draw_samples(noise.create("gabor_pca:no_mean", small), 100), np.float64).reshape(100, -1)
    for i in range(100):  # the same scores without the mean image: nothing else is missing
        parts = np.stack([grey[i], np.ones(144), few.mean], axis=1)
        weights, left, *_ = np.linalg.lstsq(parts, samples[i], rcond=None)
        assert left[0] < 1e-6
        assert weights[2] > 0


def test_each_colour_channel_has_components_of_its_own() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60, 9, 9, 3), dtype=np.uint8)
    split = data.Split(images, (np.arange(60) % 2).astype(np.int32))
    coloured = Dataset("colours", split, split, split, ("a", "b"), "-")
    samples = np.asarray(draw_samples(noise.gabor_pca(coloured), 200))
    np.testing.assert_allclose(samples.min(axis=(1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(samples.max(axis=(1, 2)), 1, atol=1e-6)
    correlation = np.corrcoef(samples.mean(axis=(1, 2)).T)
    assert np.abs(correlation[~np.eye(3, dtype=bool)]).max() < 5 / np.sqrt(200)


@pytest.mark.skipif("WNA_JAX_TEST_DATA" not in os.environ, reason="WNA_JAX_TEST_DATA names no directory of data sets")
def test_the_explained_variance_is_the_published_one() -> None:
    for name, published in (("mnist", 0.96098), ("fashion_mnist", 0.90084)):
        dataset = data.load(name, os.environ["WNA_JAX_TEST_DATA"])
        assert gabor.fit(dataset.train.images[:20_000, ..., 0]).explained_variance == pytest.approx(published, abs=4e-3)


def test_filter_responses_have_the_components_that_they_have_in_full() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6), dtype=np.uint8)
    fitted = gabor.fit_filtered(images, 5)
    from scipy import ndimage

    responses = np.concatenate(
        [
            ndimage.correlate(images.astype(float), kernel[None], mode="mirror").reshape(40, -1)
            for kernel in gabor.kernels((3, 7, 15))
        ],
        axis=1,
    )
    pca = PCA(5, svd_solver="full").fit(responses)
    assert fitted.explained_variance == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-8)
    scores = pca.transform(responses)
    np.testing.assert_allclose(fitted.high - fitted.low, np.ptp(scores, axis=0), rtol=1e-4)


def test_too_many_components_are_refused(small: Dataset) -> None:
    with pytest.raises(InputError, match="50 principal components of 20 images: expected 1 to 19"):
        gabor.fit(small.train.images[:20, ..., 0], 50)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["autoencoder", "vae", "conv_vae"])  # the others are in test_autoencoder
def test_an_autoencoder_learns_the_images(small_digits: str, model: str) -> None:
    dataset = data.load(small_digits)
    trained = autoencoders.fit(TrainingSpec(dataset.name, dataset.fingerprint, model, epochs=12), dataset)
    images = dataset.validation.images / 255
    assert trained.metrics["validation_mse"] < 0.7 * np.mean((images - dataset.train.images.mean(axis=0) / 255) ** 2)


@pytest.mark.slow
@pytest.mark.parametrize("text", noise.DECODED)
def test_averaged_codes_are_those_of_the_images_shown(small_digits: str, text: str, tmp_path: Path) -> None:
    dataset = data.load(small_digits)
    short = TrainingSpec(dataset.name, dataset.fingerprint, text.partition(":")[0], epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autoencoders, "default_spec", lambda *_: short)
        decoder = noise.decoder(text, dataset, tmp_path)
        again = noise.decoder(text, dataset, tmp_path)
    images, codes = noise.decoded(decoder), noise.codes(decoder)
    shown = draw_samples(images, 50, seed=4)
    assert shown.shape == (50, 20, 20, 1)
    np.testing.assert_array_equal(shown, draw_samples(codes, 50, seed=4))  # draw_samples gives what is shown
    np.testing.assert_array_equal(shown, draw_samples(noise.codes(again), 50, seed=4))  # from the checkpoint
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = np.asarray(jax.jit(jax.vmap(codes.sample))(keys)).reshape(4000, -1)
    scale = np.maximum(codes.deviation, 1e-6)
    assert np.abs((drawn.mean(axis=0) - codes.mean) / scale).max() < 5 / np.sqrt(4000)
    np.testing.assert_allclose(
        np.cov(drawn.T), decoder.root @ decoder.root.T, atol=6 * scale.max() ** 2 / np.sqrt(4000)
    )
    assert codes.white == (text != "autoencoder")  # whose codes are distributed as those of the data


@pytest.mark.parametrize("name", ["binary", "stripes", "blocks", "blocks:authors", "gabor_pca", "gabor_filtered"])
def test_each_is_created_by_its_name_and_drawn_again_to_the_bit(small: Dataset, name: str) -> None:
    first, second = (noise.create(name, small) for _ in range(2))
    assert first.name == name
    assert draw_samples(first, 3).shape == (3, 12, 12, 1)
    np.testing.assert_array_equal(draw_samples(first, 3), draw_samples(second, 3))
