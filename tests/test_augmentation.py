import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from experiments import augmentation
from experiments.launch import execute
from wna_jax.networks.augmentation import NAMES, affine, augmenter, gaussian_blur
from wna_jax.runs.errors import InputError

COUNT = 400


@functools.cache
def program(texts: tuple[str, ...]) -> Callable[[jax.Array, np.ndarray], list[jax.Array]]:
    """One program for several augmentations, which share their keys: compiling takes longer than running."""
    return jax.jit(lambda keys, image: [jax.vmap(augmenter(text), (0, None))(keys, image) for text in texts])


def changed(image: np.ndarray, *texts: str) -> list[np.ndarray]:
    """The image, changed in `COUNT` ways by each augmentation."""
    return list(map(np.asarray, program(texts)(jax.random.split(jax.random.key(0), COUNT), image)))


def random_image(size: int = 9, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, size, channels)).astype(np.float32) / 255


def test_all_at_once_keep_shape_and_scale() -> None:
    (many,) = changed(random_image(channels=3), "_".join(NAMES))
    assert many.shape == (COUNT, 9, 9, 3)
    assert many.min() >= 0
    assert 0.9 < many.max() <= 1 + 1e-6


def test_shift_and_flip_shift_draw_what_trained_checkpoints_were_trained_on() -> None:
    def first_version(key: jax.Array, image_u8: jax.Array, flip: bool) -> jax.Array:
        flip_key, shift_key = jax.random.split(key)
        image = jnp.where(jax.random.bernoulli(flip_key), image_u8[:, ::-1], image_u8) if flip else image_u8
        padded = jnp.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
        top, left = jax.random.randint(shift_key, (2,), 0, 5)
        return jax.lax.dynamic_slice(padded, (top, left, jnp.zeros_like(top)), image.shape)

    @jax.jit
    def both(keys: jax.Array, image_u8: jax.Array) -> list[jax.Array]:
        return [jax.vmap(functools.partial(first_version, image_u8=image_u8, flip=f))(keys) for f in (False, True)]

    image = random_image()
    expected = both(jax.random.split(jax.random.key(0), COUNT), np.round(255 * image).astype(np.uint8))
    for ours, first in zip(changed(image, "shift", "flip_shift"), expected, strict=True):
        np.testing.assert_array_equal(np.rint(255 * ours), first)


def test_flips_and_shifts_move_an_image_by_up_to_two_pixels_and_mirror_half() -> None:
    image = np.zeros((9, 9, 1), np.float32)
    image[4, 4], image[4, 5] = 0.5, 1  # the 1 stands right of the .5, or left in the mirror
    moved, mirrored = changed(image, "shift", "flip_shift")
    assert (np.nonzero(moved == 1)[2] > np.nonzero(moved == 0.5)[2]).all()
    assert (mirrored.sum(axis=(1, 2, 3)) == 1.5).all()
    _, rows, columns, _ = np.nonzero(mirrored == 0.5)
    assert sorted(set(rows)) == sorted(set(columns)) == [2, 3, 4, 5, 6]
    assert 150 < (np.nonzero(mirrored == 1)[2] < columns).sum() < 250


def test_several_at_once_are_one_after_another_with_the_same_draws() -> None:
    @jax.jit
    def both(key: jax.Array, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        one_by_one = image
        for name in ("flip", "shift", "zoom", "brightness", "blur"):
            one_by_one = augmenter(name)(key, one_by_one)
        return augmenter("shift_blur_flip_brightness_zoom")(key, image), one_by_one

    together, one_by_one = both(jax.random.key(3), random_image())
    np.testing.assert_allclose(together, one_by_one, atol=1e-6)


def test_zoom_scales_areas_rotation_keeps_them_and_shear_slants() -> None:
    rows, columns = np.mgrid[-20:21, -20:21]
    disc = (rows**2 + columns**2 < 100).astype(np.float32)[..., None]
    zoomed, rotated, _ = changed(disc, "zoom", "rotation", "shear")
    ratio = zoomed.sum(axis=(1, 2, 3)) / disc.sum()
    assert 0.7**2 < ratio.min() < 0.85**2
    assert 1.15**2 < ratio.max() < 1.3**2
    np.testing.assert_allclose(rotated.sum(axis=(1, 2, 3)), disc.sum(), rtol=0.02)
    bar = (np.abs(columns) < 2).astype(np.float32)[..., None]
    slanted = changed(bar, "zoom", "rotation", "shear")[2][..., 0]
    centre_of_row = (slanted * columns).sum(axis=2) / slanted.sum(axis=2)
    np.testing.assert_allclose(centre_of_row[:, 20], 0, atol=1e-5)  # the middle stays
    np.testing.assert_allclose(centre_of_row[:, 30], -centre_of_row[:, 10], atol=1e-4)
    assert 1.5 < np.abs(centre_of_row[:, 30]).max() <= 2.001


def test_shear_moves_a_row_by_its_distance_below_the_centre() -> None:
    image = random_image()[None]
    slanted = affine(jnp.asarray(image), shear=1.0)
    np.testing.assert_allclose(slanted[:, 6, 2:], image[:, 6, :-2], atol=1e-5)
    np.testing.assert_allclose(slanted[:, 1, :-3], image[:, 1, 3:], atol=1e-5)


def test_brightness_multiplies_on_the_unit_scale_and_leaves_black_black() -> None:
    image = np.array([0, 0.5, 1], np.float32).reshape(1, 3, 1)
    black, grey, white = changed(image, "brightness")[0][:, 0, :, 0].T
    assert not black.any()
    assert 0.25 <= grey.min() < 0.3
    assert 0.7 < grey.max() <= 0.75
    np.testing.assert_allclose(white, np.minimum(2 * grey, 1), atol=1e-6)


@pytest.mark.parametrize("deviation", [0.3, 1.0])
def test_blur_is_that_of_scipy(deviation: float) -> None:
    image = random_image(channels=2)
    expected = ndimage.gaussian_filter(image, (deviation, deviation, 0), radius=(2, 2, 0), mode="nearest")
    np.testing.assert_allclose(gaussian_blur(jnp.asarray(image), deviation), expected, atol=1e-5)


def test_an_unknown_augmentation_is_refused_with_the_list() -> None:
    with pytest.raises(InputError, match=f"unknown augmentation 'warp': choose one of {', '.join(NAMES)}"):
        augmenter("shift_warp")


def study(network_settings: dict[str, Any], folder: Path, *augmentations: str, **changes: Any) -> augmentation.Settings:
    own: dict[str, Any] = {"num_train_seeds": 2, "noise": "gaussian:0.5,0.25", "noise_weight": 0.0}
    settings = network_settings | own | {"out_dir": str(folder), "augmentations": augmentations}
    return augmentation.Settings(**(settings | changes))


@pytest.mark.slow
def test_augmentations_are_compared_with_none_on_equal_terms(network_settings: dict[str, Any], tmp_path: Path) -> None:
    metrics = execute(augmentation.run, study(network_settings, tmp_path, "zoom_blur")).metrics
    assert json.loads((tmp_path / "metrics.json").read_text()).keys() == metrics.keys()
    accuracy, gain = metrics["accuracy"], metrics["gain_over_none"]
    assert list(accuracy["test"]) == ["none", "zoom_blur"]
    assert accuracy["noisy test"] == accuracy["test"]  # noise of weight 0
    assert gain["test"]["none"]["values"] == (0, 0)
    first, second = (np.array(accuracy["test"][name]["values"]) for name in ("none", "zoom_blur"))
    assert gain["test"]["zoom_blur"]["mean"] == pytest.approx(np.mean(second - first))
    half_width = 12.7062 * np.std(second - first, ddof=1) / np.sqrt(2)  # t of one degree of freedom
    assert gain["test"]["zoom_blur"]["high"] - np.mean(second - first) == pytest.approx(half_width, rel=1e-4)
    validation = {name: of["mean"] for name, of in accuracy["validation"].items()}
    assert metrics["best_on_validation"] == max(validation, key=validation.__getitem__)
    confusion = np.array(metrics["confusion"]["zoom_blur"]["test"])
    assert confusion.sum() == 2 * metrics["num_images"]["test"]
    assert np.trace(confusion) / confusion.sum() == pytest.approx(accuracy["test"]["zoom_blur"]["mean"])
    for name in ("accuracies.png", "examples.png", "confusion.png", "config.json"):
        assert (tmp_path / name).stat().st_size > 0
    assert not list(tmp_path.glob(".partial*"))


def test_an_unknown_augmentation_is_refused_before_anything_is_trained(
    network_settings: dict[str, Any], tmp_path: Path
) -> None:
    nowhere = tmp_path / "checkpoints"
    settings = study(network_settings, tmp_path, "shift", "warp", checkpoint_dir=str(nowhere))
    with pytest.raises(InputError, match="unknown augmentation 'warp': choose one of flip, shift, rotation"):
        augmentation.run(settings)
    assert not nowhere.exists()
