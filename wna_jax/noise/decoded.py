"""Noise decoded by a trained generator: random codes in, images that look like the data out."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wna_jax import generator
from wna_jax.noise.base import Noise, pixel_moments
from wna_jax.progress import Report, silent

if TYPE_CHECKING:
    from wna_jax.data import Dataset

NAMES = ("autoencoder", "autoencoder:standard", "vae")


class Decoder(NamedTuple):
    """A generator, and the normal distribution of the codes that it is given."""

    name: str
    decode: Callable[[jax.Array], jax.Array]
    """Codes [n, d] -> images [n, H, W, C] in [0, 1]."""
    mean: np.ndarray
    """Of the codes, [d]."""
    root: np.ndarray
    """[d, d]: codes are mean + root e with e ~ N(0, 1), so that their covariance is root root'."""
    image_shape: tuple[int, int, int]


def decoder(
    text: str,
    dataset: "Dataset",
    checkpoint_dir: Path | None = None,
    retrain: bool = False,
    report: Report = silent,
) -> Decoder:
    """The trained decoder of "autoencoder", "autoencoder:standard" or "vae", from its checkpoint or trained now.

    A VAE's codes are N(0, 1), for which it was trained. An autoencoder's codes have any distribution: it is given
    normal codes of the mean and covariance of the training images' codes; "autoencoder:standard" gives it N(0, 1) all
    the same, as the authors of arXiv 1912.12106 do.
    """
    from wna_jax import autoencoding, checkpoints  # they take long to import, and other noise has no need of them
    from wna_jax.models import generative

    model, _, option = text.partition(":")
    spec = autoencoding.default_spec(dataset, model)
    if checkpoint_dir is None:
        trained = autoencoding.fit(spec, dataset, report)
    else:
        trained, _ = checkpoints.load_or_train(spec, dataset, checkpoint_dir, retrain, report, autoencoding.fit)
    module = generative.create(model, dataset.image_shape)
    mean, root = np.zeros(module.code_size), np.eye(module.code_size)
    if not (module.variational or option):
        codes = autoencoding.codes(module, trained.parameters, dataset.train.images)
        mean = codes.mean(axis=0, dtype=np.float64)
        power, axes = np.linalg.eigh(np.cov(codes.T))
        root = axes * np.sqrt(np.maximum(power, 0)) @ axes.T
    return Decoder(
        text,
        lambda codes: module.apply({"params": trained.parameters}, codes, method="decode"),
        mean,
        root,
        dataset.image_shape,
    )


def decoded(source: Decoder) -> Noise:
    """Images decoded from random codes; mean and deviation of every pixel are from `pixel_moments`."""

    def sample(key: jax.Array) -> jax.Array:
        return source.decode(_code(source, key)[None])[0]

    return Noise(source.name, source.image_shape, *pixel_moments(sample), sample, white=False)


def codes(source: Decoder) -> Noise:
    """The same samples with the code in the place of the image: averaged is the code, shown is its decoding.

    Code i of a seed, as an "image" [1, 1, d], is that of image i of `decoded`; so the two together tell, of the samples
    of a class, the mean image and the mean code.
    """
    shape = (1, 1, len(source.mean))
    deviation = np.sqrt((source.root**2).sum(axis=1))
    independent = bool(np.count_nonzero(source.root - np.diag(np.diag(source.root))) == 0)
    return Noise(
        f"code of {source.name}",
        shape,
        source.mean,
        deviation,
        lambda key: _code(source, key).reshape(shape),
        white=independent,
        present=lambda _, code: source.decode(code.reshape(1, -1))[0],
    )


def _code(source: Decoder, key: jax.Array) -> jax.Array:
    normal = generator.normal(key, source.mean.shape)
    root, mean = jnp.asarray(source.root, jnp.float32), jnp.asarray(source.mean, jnp.float32)
    return jnp.einsum("ij,j->i", root, normal, precision="highest") + mean
