"""Generative networks: dense autoencoders, whose decoders turn random codes into images."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from wna_jax.errors import unknown_name


class DenseAutoencoder(nn.Module):
    """Dense layers to a code and back, with ReLU between, and a sigmoid at the end.

    A variational one encodes an image as a normal distribution, by mean and log variance (Kingma & Welling 2014).
    """

    image_shape: tuple[int, int, int]
    widths: Sequence[int]
    """Of the encoder's hidden layers; the decoder has them in reverse."""
    code_size: int
    variational: bool = False

    def setup(self) -> None:
        """Layers of both halves."""
        self.encoder = _dense([*self.widths, self.code_size * (2 if self.variational else 1)])
        self.decoder = _dense([*reversed(self.widths), math.prod(self.image_shape)])

    def __call__(self, images: jax.Array) -> jax.Array:
        """Images [n, H, W, C] -> logits of their reconstruction from the mean code, [n, H, W, C]."""
        return self.decode_logits(self.encode(images)[0])

    def encode(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Images [n, H, W, C] -> mean [n, d] and log variance [n, d] of the code (0 where it is not variational)."""
        code = self.encoder(images.reshape(len(images), -1))
        if not self.variational:
            return code, jnp.zeros_like(code)
        mean, log_variance = jnp.split(code, 2, axis=-1)
        return mean, log_variance

    def decode_logits(self, codes: jax.Array) -> jax.Array:
        """Codes [n, d] -> logits of images [n, H, W, C]."""
        return self.decoder(codes).reshape(-1, *self.image_shape)

    def decode(self, codes: jax.Array) -> jax.Array:
        """Codes [n, d] -> images [n, H, W, C] in [0, 1]."""
        return nn.sigmoid(self.decode_logits(codes))


_REGISTRY: dict[str, Callable[..., DenseAutoencoder]] = {
    "autoencoder": partial(DenseAutoencoder, widths=(128, 64, 12), code_size=9),
    "vae": partial(DenseAutoencoder, widths=(400,), code_size=20, variational=True),
}
NAMES = tuple(_REGISTRY)


def create(name: str, image_shape: tuple[int, int, int]) -> DenseAutoencoder:
    """Builds an autoencoder of `NAMES` for images (H, W, C), with a code of 9 numbers, the variational one 20."""
    if name not in _REGISTRY:
        raise unknown_name("autoencoder", name, NAMES)
    return _REGISTRY[name](image_shape=image_shape)


def _dense(widths: Sequence[int]) -> nn.Sequential:
    layers: list[Callable] = []
    for width in widths:
        layers += [nn.Dense(width), nn.relu]
    return nn.Sequential(layers[:-1])
