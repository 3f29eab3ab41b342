"""Generative networks: dense and convolutional autoencoders, whose two halves are also the two networks of a GAN."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from wna_jax.networks.models.layers import BatchNormalisation, DoublingConvolution, HalvingConvolution
from wna_jax.runs.errors import InputError, unknown_name


class ConvolutionalEncoder(nn.Module):
    """4x4 convolutions at stride 2 with leaky ReLU, and a dense layer; with one output, a DCGAN's discriminator.

    With `hidden` units there is one more dense layer before the last. Without it an output is a sum over places, each
    of which knows its neighbourhood alone: a discriminator then knows strokes, but not which of them make a digit.

    The widths are the channels of each convolution, the one next to the image first. Unlike in the DCGAN (Radford et
    al. 2016, arXiv 1511.06434) there is no batch normalisation, so that the output for an image does not depend on the
    rest of its batch.
    """

    image_shape: tuple[int, int, int]
    widths: Sequence[int]
    outputs: int
    hidden: int = 0

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Images [n, H, W, C] (or flat) in [0, 1] -> [n, outputs]."""
        smallest_map(self.image_shape, self.widths)
        x = 2 * images.reshape(-1, *self.image_shape) - 1
        for i, width in enumerate(self.widths, start=1):
            x = nn.leaky_relu(HalvingConvolution(width, name=f"conv{i}")(x), 0.2)
        x = x.reshape(len(x), -1)
        if self.hidden:
            x = nn.leaky_relu(nn.Dense(self.hidden, name="hidden")(x), 0.2)
        return nn.Dense(self.outputs, name="fc")(x)


class ConvolutionalDecoder(nn.Module):
    """A dense layer and transposed 4x4 convolutions at stride 2 with ReLU between them; a DCGAN's generator.

    The widths are in the encoder's order. A generator is batch-normalised, as in the DCGAN, by layers without state
    (see `layers.BatchNormalisation`).
    """

    image_shape: tuple[int, int, int]
    widths: Sequence[int]
    normalised: bool = False
    hidden: int = 0

    @nn.compact
    def __call__(self, codes: jax.Array) -> jax.Array:
        """Codes [n, d] -> logits of images [n, H, W, C]."""
        shape = (*smallest_map(self.image_shape, self.widths), self.widths[-1])
        if self.hidden:
            codes = nn.Dense(self.hidden, name="hidden")(codes)
            codes = nn.relu(BatchNormalisation(name="bn0")(codes) if self.normalised else codes)
        x = nn.Dense(math.prod(shape), name="fc")(codes).reshape(-1, *shape)
        for i, width in enumerate([*reversed(self.widths[:-1]), self.image_shape[-1]], start=1):
            x = BatchNormalisation(name=f"bn{i}")(x) if self.normalised else x
            x = DoublingConvolution(width, name=f"conv{i}")(nn.relu(x))
        return x


def smallest_map(image_shape: tuple[int, int, int], widths: Sequence[int]) -> tuple[int, int]:
    """Height and width of the map after one halving per width.

    Raises:
        InputError: the images cannot be halved that often.
    """
    height, width, _ = image_shape
    block = 2 ** len(widths)
    if height % block or width % block:
        way_out = f"resize them to sides that are multiples of {block}"
        raise InputError(f"images of {width}x{height} cannot be halved {len(widths)} times: {way_out}")
    return height // block, width // block


class DenseAutoencoder(nn.Module):
    """Dense layers from an image to its code and back, with ReLU between them and a sigmoid at the end.

    The widths are the units of the encoder's hidden layers; the decoder has them in reverse order. A variational
    autoencoder encodes an image as the mean and log variance of a normal distribution (Kingma & Welling 2014).
    """

    image_shape: tuple[int, int, int]
    widths: Sequence[int]
    code_size: int
    variational: bool = False

    def setup(self) -> None:
        """The layers of both halves."""
        self.encoder = _dense([*self.widths, self.code_size * (2 if self.variational else 1)])
        self.decoder = _dense([*reversed(self.widths), math.prod(self.image_shape)])

    def __call__(self, images: jax.Array) -> jax.Array:
        """Images [n, H, W, C] -> logits of their reconstruction from the mean code, [n, H, W, C]."""
        return self.decode_logits(self.encode(images)[0])

    def encode(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Images [n, H, W, C] -> mean [n, d] and log variance [n, d] of the code (0 if not variational)."""
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


class ConvolutionalAutoencoder(DenseAutoencoder):
    """An autoencoder of convolutions; `widths` are the channels after each halving of the image."""

    def setup(self) -> None:
        """The layers of both halves."""
        outputs = self.code_size * (2 if self.variational else 1)
        self.encoder = ConvolutionalEncoder(self.image_shape, self.widths, outputs)
        self.decoder = ConvolutionalDecoder(self.image_shape, self.widths)


class TwoScaleAutoencoder(ConvolutionalAutoencoder):
    """A convolutional autoencoder whose code a dense layer also decodes to a thumbnail of 10x10 pixels."""

    thumbnail: int = 10

    def setup(self) -> None:
        """The layers of both halves, and the thumbnail's decoder."""
        super().setup()
        self.small = nn.Dense(self.thumbnail**2 * self.image_shape[-1])

    def __call__(self, images: jax.Array) -> jax.Array:
        """As in every autoencoder; the thumbnail's decoder is called so that its parameters are initialised."""
        code = self.encode(images)[0]
        self.decode_thumbnail_logits(code)
        return self.decode_logits(code)

    def decode_thumbnail_logits(self, codes: jax.Array) -> jax.Array:
        """Codes [n, d] -> logits of thumbnails [n, 10, 10, C]."""
        return self.small(codes).reshape(-1, self.thumbnail, self.thumbnail, self.image_shape[-1])

    def decode_thumbnail(self, codes: jax.Array) -> jax.Array:
        """Codes [n, d] -> thumbnails [n, 10, 10, C] in [0, 1]."""
        return nn.sigmoid(self.decode_thumbnail_logits(codes))


_REGISTRY: dict[str, Callable[..., DenseAutoencoder]] = {
    "autoencoder": partial(DenseAutoencoder, widths=(128, 64, 12), code_size=9),
    "vae": partial(DenseAutoencoder, widths=(400,), code_size=20, variational=True),
    "conv_autoencoder": partial(ConvolutionalAutoencoder, widths=(16, 32), code_size=64),
    "two_scale_autoencoder": partial(TwoScaleAutoencoder, widths=(16, 32), code_size=64),
    "conv_vae": partial(ConvolutionalAutoencoder, widths=(16, 32), code_size=64, variational=True),
}
NAMES = tuple(_REGISTRY)


def create(name: str, image_shape: tuple[int, int, int], code_size: int | None = None) -> DenseAutoencoder:
    """Builds an autoencoder of `NAMES` for images (H, W, C); its codes have its own size unless another is given.

    Raises:
        InputError: no such autoencoder.
    """
    if name not in _REGISTRY:
        raise unknown_name("autoencoder", name, NAMES)
    own_size = {} if code_size is None else {"code_size": code_size}
    return _REGISTRY[name](image_shape=image_shape, **own_size)


def _dense(widths: Sequence[int]) -> nn.Sequential:
    layers = [layer for width in widths for layer in (nn.Dense(width), nn.relu)]
    return nn.Sequential(layers[:-1])
