"""Augmentation: random changes of training images that keep their class.

| name | what happens to an image |
| --- | --- |
| flip | mirrored left to right, with probability 1/2 |
| shift | moved by up to 2 whole pixels in each direction; the border is filled by reflection |
| rotation | rotated by up to 15 degrees either way |
| zoom | scaled by .75 to 1.25 |
| shear | slanted: each row is moved sideways by up to .2 of its distance from the middle, either way |
| brightness | multiplied by .5 to 1.5, and clipped to [0, 1] |
| blur | blurred by a Gaussian of deviation .1 to 1 pixel, in a window of 5x5 pixels |
| blur:S | blurred by a Gaussian of deviation S pixels, in a window that reaches 3 S to each side |
| noise:S | independent noise N(0, S) in every pixel, clipped to [0, 1] |

Several names joined by "_", such as flip_shift, are applied together, in the order of this table. What each of them
draws depends only on the key and on its own name. Rotation, zoom and shear form one affine map on a black background,
so that pixels are interpolated once. Training against adversarial steps, which need the network, is in `regimes`.

Common mistakes: brightness or blur on another scale than that of the images (pixels here lie in [0, 1]); flips where
the mirror image belongs to another class or to none, as with most digits.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from wna_jax.runs.errors import InputError, unknown_name

Transform = Callable[[jax.Array, jax.Array], jax.Array]
"""A key and an image [H, W, C] on the [0, 1] scale -> an image of the same shape and scale."""
Real = jax.Array | float

NAMES = ("flip", "shift", "rotation", "zoom", "shear", "brightness", "blur")
ALL = (*NAMES, "noise")
"""With that which needs a number."""
LISTED = (*NAMES, "blur:PIXELS", "noise:DEVIATION")
"""As messages list them."""
_LARGEST_BLUR = 10.0
_AFFINE = {"rotation": ("angle", -15.0, 15.0), "zoom": ("scale", 0.75, 1.25), "shear": ("shear", -0.2, 0.2)}
"""The argument of `affine`, its smallest and its largest value."""


def augmenter(text: str) -> Transform:
    """The transform that a text names: one of `NAMES`, "blur:S" or "noise:S", or several joined by "_".

    Raises:
        InputError: a name that is not in the table, or a number that it does not take.
    """
    chosen = {part.partition(":")[0]: part for part in text.split("_")}
    for name, part in chosen.items():
        if name not in ALL:
            raise unknown_name("augmentation", name, LISTED)
        if ":" in part and name not in ("blur", "noise"):
            raise InputError(f"augmentation {part!r}: {name} takes no number, write {name}")
    noise = strength(chosen["noise"], 1.0) if "noise" in chosen else None
    blur = strength(chosen["blur"], _LARGEST_BLUR) if ":" in chosen.get("blur", "") else None

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        keys = dict(zip(ALL, jax.random.split(key, len(ALL)), strict=True))

        def drawn(name: str, least: float, greatest: float) -> jax.Array:
            return jax.random.uniform(keys[name], (), jnp.float32, least, greatest)

        if "flip" in chosen:
            image = jnp.where(jax.random.bernoulli(keys["flip"]), image[:, ::-1], image)
        if "shift" in chosen:
            image = _shifted(keys["shift"], image)
        moved = {argument: drawn(name, *ends) for name, (argument, *ends) in _AFFINE.items() if name in chosen}
        if moved:
            image = affine(image[None], **moved)[0]
        if "brightness" in chosen:
            image = jnp.clip(image * drawn("brightness", 0.5, 1.5), 0, 1)
        if blur is not None:
            image = gaussian_blur(image, blur, math.ceil(3 * blur))
        elif "blur" in chosen:
            image = gaussian_blur(image, drawn("blur", 0.1, 1.0))
        if noise is not None:
            image = jnp.clip(image + noise * jax.random.normal(keys["noise"], image.shape), 0, 1)
        return image

    return augment


def strength(text: str, greatest: float) -> float:
    """The number S of a text "name:S".

    Raises:
        InputError: it is not above 0 and at most the greatest.
    """
    name, _, number = text.partition(":")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 0 < value <= greatest:
        expected = f"expected a number above 0 and at most {greatest:g}, such as {name}:0.1"
        raise InputError(f"training with {text!r}: {expected}")
    return value


def affine(
    images: jax.Array, scale: Real = 1.0, angle: Real = 0.0, down: Real = 0.0, right: Real = 0.0, shear: Real = 0.0
) -> jax.Array:
    """Images [n, H, W, C] sheared, rotated and scaled about their centre, then moved, on a black background.

    The angle is in degrees, anticlockwise, and `down` and `right` are pixels; the shear is how far a row moves to the
    right, as a fraction of its distance below the centre. Interpolation is bilinear. At scale 1/2, which halves the
    size of everything, each pixel is the mean of four, as in OpenCV's bilinear resizing.
    """
    height, width = images.shape[1:3]
    turn = jnp.deg2rad(jnp.float32(angle))
    y = (jnp.arange(height, dtype=jnp.float32) - (height - 1) / 2 - down)[:, None]
    x = (jnp.arange(width, dtype=jnp.float32) - (width - 1) / 2 - right)[None]
    rows = (jnp.cos(turn) * y + jnp.sin(turn) * x) / scale
    columns = (jnp.cos(turn) * x - jnp.sin(turn) * y) / scale - shear * rows
    centred = [rows + (height - 1) / 2, columns + (width - 1) / 2]

    def warp(plane: jax.Array) -> jax.Array:
        return jax.scipy.ndimage.map_coordinates(plane, centred, order=1)

    return jax.vmap(jax.vmap(warp, in_axes=-1, out_axes=-1))(images)


def gaussian_blur(image: jax.Array, deviation: Real, radius: int = 2) -> jax.Array:
    """An image [H, W, C] convolved with a Gaussian in a window of 2 radius + 1 pixels per side.

    The deviation is in pixels, and above 0. Beyond the border the image's pixels repeat.
    """
    height, width, _ = image.shape
    offsets = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
    weights = jax.nn.softmax(-(offsets**2) / (2 * jnp.float32(deviation) ** 2))
    padded = jnp.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="edge")
    rows = sum(weight * padded[i : i + height] for i, weight in enumerate(weights))
    return sum(weight * rows[:, j : j + width] for j, weight in enumerate(weights))


def _shifted(key: jax.Array, image: jax.Array) -> jax.Array:
    padded = jnp.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    top, left = jax.random.randint(key, (2,), 0, 5)
    return jax.lax.dynamic_slice(padded, (top, left, jnp.zeros_like(top)), image.shape)
