"""Images moved, turned and scaled: does a network that knows things in one place know them in another?"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from wna_jax.data import Dataset, Split
from wna_jax.networks import augmentation
from wna_jax.networks.training import to_unit_range
from wna_jax.runs.accumulate import map_over

_BATCH = 500


class Place(NamedTuple):
    """Where, how large and at which angle (in degrees, anticlockwise) an image is shown, on black.

    `down` is a share of the image's height, `right` of its width.
    """

    scale: float = 1.0
    angle: float = 0.0
    down: float = 0.0
    right: float = 0.0


PLACES = {
    "original": Place(),
    "upper_left": Place(0.5, down=-0.25, right=-0.25),
    "centre": Place(0.5),
    "lower_right": Place(0.5, down=0.25, right=0.25),
    "turned_90": Place(angle=90),
    "turned_180": Place(angle=180),
    "turned_270": Place(angle=270),
    "twice_as_large": Place(2),
}


def put(images: jax.Array, place: Place) -> jax.Array:
    """Images [n, H, W, C] at a place."""
    height, width = images.shape[1:3]
    return augmentation.affine(images, place.scale, place.angle, place.down * height, place.right * width)


def put_change(images: jax.Array, place: jax.Array) -> jax.Array:
    """`put` as a change for `interventions.hits`, whose strengths are places."""
    return put(images, Place(*place))


def moved_dataset(dataset: Dataset, name: str) -> Dataset:
    """The data set with training and validation images at one of `PLACES`; the test images stay as they are."""
    move = functools.partial(_moved, PLACES[name])

    def moved(split: Split) -> Split:
        return Split(map_over(move, (split.images,), _BATCH), split.labels)

    return dataset.altered(name, moved(dataset.train), moved(dataset.validation))


@functools.partial(jax.jit, static_argnums=0)
def _moved(place: Place, images_u8: jax.Array) -> jax.Array:
    return jnp.rint(255 * put(to_unit_range(images_u8), place)).astype(jnp.uint8)
