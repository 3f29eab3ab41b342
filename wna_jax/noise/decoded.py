"""Noise decoded by a trained generator: from random codes to images that look like the data."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial, register_dataclass

from wna_jax.noise import random
from wna_jax.noise.base import Noise, Shape, of_dependent_pixels
from wna_jax.runs.progress import Report, silent

if TYPE_CHECKING:
    from wna_jax.data import Dataset

NAMES = ("autoencoder", "autoencoder:standard", "vae")


@register_dataclass
@dataclass(frozen=True, eq=False)
class Decoder:
    """A generator, codes [n, d] -> images [n, H, W, C] in [0, 1], with the normal distribution of its codes.

    The codes are mean + root e with e ~ N(0, 1), of covariance root root'; mean is [d], root [d, d].
    """

    name: str = field(metadata={"static": True})
    decode: Callable[[jax.Array], jax.Array]
    mean: np.ndarray
    root: np.ndarray
    image_shape: Shape = field(metadata={"static": True})

    def __repr__(self) -> str:
        """One line."""
        pixels = "x".join(map(str, self.image_shape))
        return f"<Decoder {self.name!r} of codes of {len(self.mean)} numbers to images of {pixels} pixels>"


def decoder(
    text: str, dataset: "Dataset", checkpoint_dir: Path | None = None, retrain: bool = False, report: Report = silent
) -> Decoder:
    """The trained decoder of "autoencoder", "autoencoder:standard" or "vae", from its checkpoint or trained now.

    A VAE is trained for codes from N(0, 1). The codes of an autoencoder follow no known distribution, so it is given
    normal codes with the mean and covariance of the training images' codes; "autoencoder:standard" gives it N(0, 1)
    codes nevertheless, as the authors of arXiv 1912.12106 do. It is kept in `checkpoint_dir`; None trains it each time,
    `retrain` even if there is a checkpoint.
    """
    from wna_jax.networks import autoencoders, checkpoints  # slow to import, and not needed for other noise
    from wna_jax.networks.models import generative

    model, _, option = text.partition(":")
    spec = autoencoders.default_spec(dataset, model)
    if checkpoint_dir is None:
        trained = autoencoders.fit(spec, dataset, report)
    else:
        trained, _ = checkpoints.load_or_train(spec, dataset, checkpoint_dir, retrain, report, autoencoders.fit)
    module = generative.create(model, dataset.image_shape)
    mean, root = np.zeros(module.code_size), np.eye(module.code_size)
    if not (module.variational or option):
        codes = autoencoders.Autoencoder(module, trained.parameters).encode(dataset.train.images)
        mean = codes.mean(axis=0, dtype=np.float64)
        power, axes = np.linalg.eigh(np.cov(codes.T))
        root = axes * np.sqrt(np.maximum(power, 0)) @ axes.T
    return Decoder(text, Partial(_decode, module, trained.parameters), mean, root, dataset.image_shape)


def decoded(source: Decoder) -> Noise:
    """Images decoded from random codes."""
    return of_dependent_pixels(source.name, source.image_shape, Partial(_draw_decoded, source))


def codes(source: Decoder) -> Noise:
    """The same samples as codes: the loop averages the code, and the network is shown its decoding.

    Code i of a seed, an "image" [1, 1, d], is the code of image i of `decoded`. So the two runs give the mean image and
    the mean code of the same samples of a class.
    """
    name, shape = f"code of {source.name}", (1, 1, len(source.mean))
    deviation = np.sqrt((source.root**2).sum(axis=1))
    independent = bool(np.count_nonzero(source.root - np.diag(np.diag(source.root))) == 0)
    sample, present = Partial(_draw_code, source), Partial(_present_code, source)
    return Noise(name, shape, source.mean, deviation, sample, white=independent, present=present)


def _decode(module: Any, parameters: Any, codes: jax.Array) -> jax.Array:
    return module.apply({"params": parameters}, codes, method="decode")


def _draw_decoded(source: Decoder, key: jax.Array) -> jax.Array:
    return _present_code(source, key, _draw_code(source, key))


def _draw_code(source: Decoder, key: jax.Array) -> jax.Array:
    normal = random.normal(key, source.mean.shape)
    root, mean = jnp.asarray(source.root, jnp.float32), jnp.asarray(source.mean, jnp.float32)
    return (jnp.einsum("ij,j->i", root, normal, precision="highest") + mean).reshape(1, 1, -1)


def _present_code(source: Decoder, _: jax.Array, code: jax.Array) -> jax.Array:
    return source.decode(code.reshape(1, -1))[0]
