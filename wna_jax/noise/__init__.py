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
| band:CENTRE,OCTAVES,DEVIATION | Gaussian, of one band of frequencies in cycles per image height | dependent |
| power:EXPONENT,DEVIATION | Gaussian, of power 1 / frequency^EXPONENT (2: natural images) | dependent |
| natural | the training images themselves | dependent |
| autoencoder, vae | decodings of random codes; autoencoder:standard takes N(0, 1) codes | dependent |
| uniform/8 | any of the independent kinds in squares of 8x8 pixels: `coarse` | independent squares |

`band` and `power` have the mean 1/2; left out, a band is 1 octave wide, and the deviation is .2.

`around` shows any of them with a picture: noise about an image.

A new one is a function in `white` or `patterns` that is listed here, in `_OF_SHAPE` or `_OF_DATA`.

Common mistakes: reading a raw map of dependent pixels as a template. It is the template seen through the noise's own
covariance; `maps.whitened_images` removes that as far as the noise varies at all. The covariance of `band` and `power`
noise is exact, that of the others is estimated from draws.
"""

import contextlib
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
from wna_jax.noise.filtered import band, power_law
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
__all__ += ["band", "binary", "blocks", "gabor_filtered", "gabor_pca", "gaussian", "matched", "natural", "power_law"]
__all__ += ["stripes", "uniform"]

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
_OF_NUMBERS: dict[str, tuple[Callable[..., Noise], tuple[str, ...], int, str]] = {
    "gaussian": (gaussian, ("mean", "deviation"), 2, "gaussian:0.5,0.2"),
    "band": (band, ("centre", "octaves", "deviation"), 1, "band:7, band:7,1 or band:7,1,0.2"),
    "power": (power_law, ("exponent", "deviation"), 1, "power:2 or power:2,0.2"),
}
"""By name: the function, the numbers it takes, how many of them it needs at least, and an example."""
NAMES_OF_SHAPE = (*_OF_SHAPE, *(f"{name}:{','.join(of[1]).upper()}" for name, of in _OF_NUMBERS.items()))
NAMES = (*NAMES_OF_SHAPE, *_OF_DATA, *DECODED)


def create(
    text: str, dataset: "Dataset", checkpoint_dir: Path | None = None, retrain: bool = False, report: Report = silent
) -> Noise:
    """The noise that a text names, in the shape of a data set's images, to which some noises are fitted.

    The names are those in the table above; numbers are in units of pixel intensity (black 0, white 1). The other
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
    if text not in _OF_SHAPE and text.partition(":")[0] not in _OF_NUMBERS:
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
    if name not in _OF_NUMBERS:
        raise unknown_name("noise", text, NAMES_OF_SHAPE)
    create_one, names, fewest, example = _OF_NUMBERS[name]
    try:
        values = [float(number) for number in numbers.split(",")]
    except ValueError:
        values = []
    if not fewest <= len(values) <= len(names):
        wanted = f"expected {name}:{','.join(names).upper()}, such as {example}"
        raise InputError(f"noise {text!r}: {wanted}")
    return create_one(image_shape(shape), **dict(zip(names, values, strict=False)))


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
    alike = mean.shape == deviation.shape == (shape[-1],) and (deviation > 0).all()
    if name in ("gaussian", "matched"):
        return replace(gaussian(shape, mean, deviation), name=name) if alike else None
    kind, _, numbers = name.partition(":")
    if alike and kind in ("band", "power"):
        with contextlib.suppress(ValueError, TypeError):  # a noise of somebody's own that is called so
            return _OF_NUMBERS[kind][0](shape, *map(float, numbers.split(",")), mean=mean, deviation=deviation)
    return _OF_SHAPE[name](shape) if name in _OF_SHAPE else None
