"""Noise distributions: pure functions from a random key to one image, with mean and deviation of its pixels.

| name | what it draws | pixels |
| --- | --- | --- |
| uniform | U[0, 1], the noise of arXiv 1912.12106 | independent |
| gaussian:MEAN,DEVIATION | normal numbers, not clipped | independent |
| matched | the same with mean and deviation of the training pixels | independent |
| binary | black or white | independent |
| stripes | one random row, the same in every row | dependent |
| blocks | one white 4x4 block on a grid; blocks:authors never uses the last row and column | dependent |
| gabor_pca | random scores of the training images' Gabor components; gabor_pca:no_mean varies about grey | dependent |
| gabor_filtered | the same from Gabor-filter responses | dependent |
| natural | the training images themselves | dependent |
| autoencoder, vae | decodings of random codes; autoencoder:standard takes N(0, 1) codes | dependent |

Common mistakes: reading a raw map of dependent pixels as a template. It is the template seen through the noise's own
covariance; `maps.whitened_images` undoes that, as far as the noise varies at all.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from wna_jax.errors import InputError, unknown_name
from wna_jax.noise.base import Noise, PixelMoments, covariance, pixel_moments
from wna_jax.noise.decoded import NAMES as DECODED
from wna_jax.noise.decoded import Decoder, codes, decoded, decoder
from wna_jax.noise.gabor import gabor_filtered, gabor_pca
from wna_jax.noise.natural import natural
from wna_jax.noise.patterns import blocks, stripes
from wna_jax.noise.white import binary, gaussian, matched, uniform
from wna_jax.progress import Report, silent

if TYPE_CHECKING:
    from wna_jax.data import Dataset

__all__ = [
    "DECODED",
    "NAMES",
    "Decoder",
    "Noise",
    "PixelMoments",
    "binary",
    "blocks",
    "codes",
    "covariance",
    "create",
    "decoded",
    "decoder",
    "gabor_filtered",
    "gabor_pca",
    "gaussian",
    "matched",
    "natural",
    "pixel_moments",
    "stripes",
    "uniform",
]

_OF_SHAPE = {
    "uniform": uniform,
    "gaussian": gaussian,
    "binary": binary,
    "stripes": stripes,
    "blocks": blocks,
    "blocks:authors": lambda shape: blocks(shape, all_places=False),
}
_OF_DATA = {
    "matched": matched,
    "gabor_pca": gabor_pca,
    "gabor_pca:no_mean": lambda dataset: gabor_pca(dataset, keep_mean=False),
    "gabor_filtered": gabor_filtered,
    "natural": natural,
}
NAMES = (
    "uniform",
    "gaussian",
    "matched",
    "gaussian:MEAN,DEVIATION",
    "binary",
    "stripes",
    "blocks",
    "blocks:authors",
    "gabor_pca",
    "gabor_pca:no_mean",
    "gabor_filtered",
    "natural",
    *DECODED,
)


def create(
    text: str,
    dataset: "Dataset",
    checkpoint_dir: Path | None = None,
    retrain: bool = False,
    report: Report = silent,
) -> Noise:
    """Builds the noise that a text names, in the shape of a data set's images.

    Args:
        text: one of the names in the table above; for "gaussian" with numbers in [0, 1] pixel units, or without.
        dataset: gives the image shape, and the images that some noises are fitted to.
        checkpoint_dir: where a decoder is kept once it is trained; without it one is trained each time.
        retrain: train the decoder even if there is a checkpoint.
        report: progress of that training.

    Raises:
        InputError: no such noise, or numbers that cannot be read.
    """
    name, _, numbers = text.partition(":")
    if name == "gaussian" and numbers:
        try:
            mean, deviation = (float(number) for number in numbers.split(","))
        except ValueError:
            raise InputError(f"noise {text!r}: expected gaussian:MEAN,DEVIATION, such as gaussian:0.5,0.2") from None
        return gaussian(dataset.image_shape, mean, deviation)
    if text in _OF_SHAPE:
        return _OF_SHAPE[text](dataset.image_shape)
    if text in _OF_DATA:
        return _OF_DATA[text](dataset)
    if text in DECODED:
        return decoded(decoder(text, dataset, checkpoint_dir, retrain, report))
    raise unknown_name("noise", text, NAMES)
