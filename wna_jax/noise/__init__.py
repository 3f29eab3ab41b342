"""Noise distributions: pure functions from a random key to one image, with mean and deviation of its pixels.

| name | what it draws | pixels |
| --- | --- | --- |
| uniform | U[0, 1], the noise of arXiv 1912.12106 | independent |
| gaussian:MEAN,DEVIATION | normal numbers, not clipped | independent |
| matched | the same with mean and deviation of the training pixels | independent |
| binary | black or white | independent |
| stripes | one random row, repeated in every row | dependent |
| blocks | one white 4x4 block on a grid; blocks:authors never uses the last row and column | dependent |
| gabor_pca | random scores of the training images' Gabor components; gabor_pca:no_mean varies about grey | dependent |
| gabor_filtered | the same with components of Gabor-filter responses | dependent |
| natural | the training images themselves | dependent |
| autoencoder, vae | decodings of random codes; autoencoder:standard takes N(0, 1) codes | dependent |
| uniform/8 | any of the independent kinds in squares of 8x8 pixels: `coarse` | independent squares |

`around` shows any of them with a picture: noise about an image.

A new one is a function in `white` or `patterns` that is listed here, in `_OF_SHAPE` or `_OF_DATA`.

Common mistakes: reading a raw map of dependent pixels as a template. It is the template seen through the noise's own
covariance; `maps.whitened_images` removes that as far as the noise varies at all.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wna_jax.noise.around import around
from wna_jax.noise.base import Noise, covariance, of_dependent_pixels
from wna_jax.noise.coarse import coarse
from wna_jax.noise.decoded import NAMES as DECODED
from wna_jax.noise.decoded import Decoder, codes, decoded, decoder
from wna_jax.noise.gabor import gabor_filtered, gabor_pca
from wna_jax.noise.natural import natural
from wna_jax.noise.patterns import blocks, stripes
from wna_jax.noise.white import binary, gaussian, image_shape, matched, uniform
from wna_jax.runs.errors import InputError, unknown_name
from wna_jax.runs.progress import Report, silent

if TYPE_CHECKING:
    from wna_jax.data import Dataset

__all__ = ["NAMES", "Decoder", "Noise", "codes", "covariance", "create", "decoded", "decoder", "of_dependent_pixels"]
__all__ += ["NAMES_OF_SHAPE", "around", "coarse", "of_shape", "recreate"]
__all__ += ["binary", "blocks", "gabor_filtered", "gabor_pca", "gaussian", "matched", "natural", "stripes", "uniform"]

_OF_SHAPE: dict[str, Callable[..., Noise]] = {
    "uniform": uniform,
    "gaussian": gaussian,
    "binary": binary,
    "stripes": stripes,
    "blocks": blocks,
    "blocks:authors": partial(blocks, all_places=False),
}
_OF_DATA: dict[str, Callable[..., Noise]] = {
    "matched": matched,
    "gabor_pca": gabor_pca,
    "gabor_pca:no_mean": partial(gabor_pca, keep_mean=False),
    "gabor_filtered": gabor_filtered,
    "natural": natural,
}
NAMES_OF_SHAPE = (*_OF_SHAPE, "gaussian:MEAN,DEVIATION")
NAMES = (*NAMES_OF_SHAPE, *_OF_DATA, *DECODED)


def create(
    text: str, dataset: "Dataset", checkpoint_dir: Path | None = None, retrain: bool = False, report: Report = silent
) -> Noise:
    """The noise that a text names, in the shape of a data set's images, to which some noises are fitted.

    The names are those in the table above; "gaussian" with or without its numbers, in [0, 1] pixel units. The other
    arguments are those of `decoder`.

    Raises:
        InputError: no such noise, or numbers that cannot be read.
    """
    fine, factor = _squares(text)
    if factor:
        return coarse(create(fine, dataset, checkpoint_dir, retrain, report), factor)
    if text in (*_OF_DATA, *DECODED) and not len(dataset.train.labels):
        others = ", ".join(NAMES_OF_SHAPE)
        raise InputError(f"noise {text!r} is made of a data set's images, of which there are none: choose {others}")
    if text in _OF_DATA:
        return _OF_DATA[text](dataset)
    if text in DECODED:
        return decoded(decoder(text, dataset, checkpoint_dir, retrain, report))
    if text not in _OF_SHAPE and text.partition(":")[0] != "gaussian":
        raise unknown_name("noise", text, NAMES)
    return of_shape(text, dataset.image_shape)


def of_shape(text: str, shape: tuple[int, ...]) -> Noise:
    """The noise that a text names, of those in the table above that need no data, for images [H, W, C].

    Raises:
        InputError: no such noise, one that needs data, or numbers that cannot be read.
    """
    fine, factor = _squares(text)
    if factor:
        return coarse(of_shape(fine, shape), factor)
    if text in _OF_SHAPE:
        return _OF_SHAPE[text](shape)
    name, _, numbers = text.partition(":")
    if name != "gaussian":
        raise unknown_name("noise", text, NAMES_OF_SHAPE)
    try:
        mean, deviation = map(float, numbers.split(","))
    except ValueError:
        raise InputError(f"noise {text!r}: expected gaussian:MEAN,DEVIATION, such as gaussian:0.5,0.2") from None
    return gaussian(image_shape(shape), mean, deviation)


def _squares(text: str) -> tuple[str, int]:
    """The noise and the side of the squares in a name such as "uniform/8"; 0 without squares."""
    fine, slash, side = text.rpartition("/")
    if not slash:
        return text, 0
    if not side.isdecimal() or not int(side):
        raise InputError(f"noise {text!r}: expected a whole number of pixels behind /, such as uniform/8")
    return fine, int(side)


def recreate(name: str, shape: tuple[int, int, int], mean: np.ndarray, deviation: np.ndarray) -> Noise | None:
    """The noise of this package that its name, shape and moments decide; None if data decide it too."""
    if "/" in name:
        fine, factor = _squares(name)
        noise = recreate(fine, (shape[0] * factor, shape[1] * factor, shape[2]), mean, deviation)
        return noise and coarse(noise, factor)
    if name in ("gaussian", "matched"):
        alike = mean.shape == deviation.shape == (shape[-1],) and (deviation > 0).all()
        return replace(gaussian(shape, mean, deviation), name=name) if alike else None
    return _OF_SHAPE[name](shape) if name in _OF_SHAPE else None
