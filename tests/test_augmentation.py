import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from wna_jax import augmentation
from wna_jax.augmentation import NAMES, affine, augmenter, gaussian_blur
from wna_jax.errors import InputError


def changed(text: str, image: np.ndarray, count: int = 200) -> np.ndarray:
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(jax.jit(jax.vmap(augmenter(text), (0, None)))(keys, jnp.asarray(image)))


def random_image(size: int = 9, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, size, channels)).astype(np.float32) / 255


def test_all_at_once_keep_shape_and_scale() -> None:
    many = changed("_".join(NAMES), random_image(channels=3))
    assert many.shape == (200, 9, 9, 3)
    assert many.min() >= 0
    assert 0.9 < many.max() <= 1 + 1e-6


@pytest.mark.parametrize("flip", [False, True])
def test_shift_and_flip_shift_draw_what_trained_checkpoints_were_trained_on(flip: bool) -> None:
    def first_version(key: jax.Array, image_u8: jax.Array) -> jax.Array:
        flip_key, shift_key = jax.random.split(key)
        image = jnp.where(jax.random.bernoulli(flip_key), image_u8[:, ::-1], image_u8) if flip else image_u8
        padded = jnp.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
        top, left = jax.random.randint(shift_key, (2,), 0, 5)
        return jax.lax.dynamic_slice(padded, (top, left, jnp.zeros_like(top)), image.shape)

    image = random_image()
    keys = jax.random.split(jax.random.key(0), 200)
    expected = jax.vmap(first_version, (0, None))(keys, jnp.asarray(255 * image).round().astype(jnp.uint8))
    np.testing.assert_array_equal(np.rint(255 * changed("flip_shift" if flip else "shift", image)), expected)


def test_flips_and_shifts_move_an_image_by_up_to_two_pixels_and_mirror_half() -> None:
    image = np.zeros((9, 9, 1), np.float32)
    image[4, 4], image[4, 5] = 0.5, 1  # the 1 stands right of the .5, or left in the mirror
    moved, mirrored = (changed(text, image, 400) for text in ("shift", "flip_shift"))
    assert (np.nonzero(moved == 1)[2] > np.nonzero(moved == 0.5)[2]).all()
    assert (mirrored.sum(axis=(1, 2, 3)) == 1.5).all()
    _, rows, columns, _ = np.nonzero(mirrored == 0.5)
    assert sorted(set(rows)) == sorted(set(columns)) == [2, 3, 4, 5, 6]
    assert 150 < (np.nonzero(mirrored == 1)[2] < columns).sum() < 250


def test_several_at_once_are_one_after_another_with_the_same_draws() -> None:
    image, key = random_image(), jax.random.key(3)
    one_by_one = jnp.asarray(image)
    for name in ("flip", "shift", "zoom", "brightness", "blur"):
        one_by_one = augmenter(name)(key, one_by_one)
    together = augmenter("shift_blur_flip_brightness_zoom")(key, jnp.asarray(image))
    np.testing.assert_allclose(together, one_by_one, atol=1e-6)


def test_zoom_scales_areas_rotation_keeps_them_and_shear_slants() -> None:
    rows, columns = np.mgrid[-20:21, -20:21]
    disc = (rows**2 + columns**2 < 100).astype(np.float32)[..., None]
    ratio = changed("zoom", disc).sum(axis=(1, 2, 3)) / disc.sum()
    assert 0.7**2 < ratio.min() < 0.85**2
    assert 1.15**2 < ratio.max() < 1.3**2
    np.testing.assert_allclose(changed("rotation", disc).sum(axis=(1, 2, 3)), disc.sum(), rtol=0.02)
    bar = (np.abs(columns) < 2).astype(np.float32)[..., None]
    slanted = changed("shear", bar)[..., 0]
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
    black, grey, white = changed("brightness", image)[:, 0, :, 0].T
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
    with pytest.raises(InputError, match=f"unknown augmentation 'warp': choose one of {', '.join(augmentation.NAMES)}"):
        augmenter("shift_warp")
