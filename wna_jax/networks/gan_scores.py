"""Scores of generated images: how far they are from real ones, and what a classifier makes of them."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from wna_jax.data import Dataset

Images = Float[np.ndarray, "n H W C"]
HELD_OUT = 1000
"""At most as many validation images measure a generator's distance during training."""


def sliced_wasserstein(first: Images, second: Images, directions: int = 512, seed: int = 0) -> float:
    """Sliced Wasserstein distance of two sets of images (Rabin et al. 2012), in units of pixel intensity.

    SW^2 = mean over directions u of mean_i (a_(i) - b_(i))^2, with a_(i) and b_(i) the sorted projections of the sets
    on u, which is drawn from N(0, 1) for each pixel, divided by the square root of their number. Sets that differ by a
    constant c in all pixels are about c apart. Two samples of one distribution are not at 0: compare with that.
    """
    pixels = first[0].size
    projection = np.random.default_rng(seed).standard_normal((pixels, directions), np.float32)
    a, b = (np.sort(images.reshape(-1, pixels) @ projection, axis=0) for images in (first, second))
    return float(np.sqrt(np.mean((a - b) ** 2) / pixels))


def repeated_distances(
    draws: Mapping[str, Callable[[int], Images]], images: Images, repeats: int = 5
) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of the sliced Wasserstein distance of several kinds of images from given ones.

    Draw number i of a kind has as many images as are compared with, and directions of its own.
    """

    def over_draws(draw: Callable[[int], Images]) -> tuple[float, float]:
        values = [sliced_wasserstein(draw(i), images, seed=i) for i in range(repeats)]
        return float(np.mean(values)), float(np.std(values, ddof=1))

    return {kind: over_draws(draw) for kind, draw in draws.items()}


def distance_of_training_images(dataset: Dataset) -> float:
    """The distance of training images from the validation images that a training's `distances` are measured from."""
    count = min(HELD_OUT, len(dataset.validation.labels), len(dataset.train.labels))
    chosen = np.random.default_rng(0).choice(len(dataset.train.labels), count, replace=False)
    first, second = dataset.train.images[chosen], dataset.validation.images[:count]
    return sliced_wasserstein(first / np.float32(255), second / np.float32(255))


class Confident(NamedTuple):
    """The share of images that a classifier is sure of, how many are called each class, and how many classes any is."""

    confident: float
    counts: list[int]
    classes_present: int


def confident_answers(probabilities: Float[np.ndarray, "n K"], threshold: float = 0.9) -> Confident:
    """Counts the images whose largest class probability exceeds a threshold."""
    sure = probabilities.max(axis=1) > threshold
    counts = np.bincount(probabilities.argmax(axis=1)[sure], minlength=probabilities.shape[1])
    return Confident(float(sure.mean()), counts.tolist(), int((counts > 0).sum()))
