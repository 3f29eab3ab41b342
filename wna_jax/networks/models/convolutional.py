"""Convolutional classifiers: images [n, h, w, c] on the [0, 1] scale -> logits."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax

from wna_jax.networks.models.layers import BatchNormalisation, Convolution, max_pool
from wna_jax.runs.errors import InputError


class ValidConvolutionNetwork(nn.Module):
    """Two VALID 5x5 convolutions, each with 2x2 max-pooling and ReLU, and two dense layers (arXiv 1912.12106).

    The network is fully convolutional: its dense layers are VALID convolutions, so that the same `apply` takes single
    images, [n, H, W, C] -> logits [n, K], and larger fields, [n, h, w, C] -> logits [n, h', w', K] of every H x W
    window at stride 4. Pooling comes before ReLU: the value is the same, and the gradient on a CPU is cheaper.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    widths: Sequence[int] = (20, 50, 500)

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Images -> logits; the intermediates conv1, conv2, fc1 and fc2 are taken before their ReLU."""
        _check_size(self.image_shape, 16)
        last_map = tuple(((size - 4) // 2 - 4) // 2 for size in self.image_shape[:2])
        conv1, conv2, fc1 = self.widths
        x = nn.relu(_conv(conv1, (5, 5), "VALID", "conv1").pooled(images))
        x = nn.relu(_conv(conv2, (5, 5), "VALID", "conv2").pooled(x))
        x = nn.relu(_conv(fc1, last_map, "VALID", "fc1")(x))
        logits = _conv(self.num_classes, (1, 1), "VALID", "fc2")(x)
        return logits[:, 0, 0] if logits.shape[1:3] == (1, 1) else logits


class SameConvolutionNetwork(nn.Module):
    """Three SAME 3x3 convolutions of 32, 64 and 128 filters, each with 2x2 max-pooling, and two dense layers.

    It is `Net` of the student re-implementation. With SAME padding a window's answer depends on its border, so the
    network takes single images only.
    """

    image_shape: tuple[int, int, int]
    num_classes: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Images [n, H, W, C] -> logits [n, K]; intermediates conv1, conv2, conv3, fc1, fc2 before their ReLU."""
        _check_size(self.image_shape, 8)
        x = images
        for i, width in enumerate((32, 64, 128), start=1):
            x = nn.relu(max_pool(_conv(width, (3, 3), "SAME", f"conv{i}")(x)))
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(512, name="fc1")(x))
        return nn.Dense(self.num_classes, name="fc2")(x)


class BlockNetwork(nn.Module):
    """Three blocks of two SAME 3x3 convolutions with 2x2 max-pooling, and three dense layers.

    It is the authors' network for CIFAR-10. The first convolution of each block is batch-normalised. Given a key for
    "dropout", that is, in training, it drops 5% of the second block's channels and 10% of the inputs of the first and
    the last dense layer.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    widths: Sequence[int] = (32, 64, 128, 128, 256, 256, 1024, 512)

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Images [n, H, W, C] -> logits [n, K]; intermediates conv1 to conv6 and fc1 to fc3 before their ReLU."""
        _check_size(self.image_shape, 8)
        dropout = partial(nn.Dropout, deterministic=not self.has_rng("dropout"))
        x = images
        for i, width in enumerate(self.widths[:6], start=1):
            conv = _conv(width, (3, 3), "SAME", f"conv{i}")
            x = nn.relu(conv.pooled(x) if i % 2 == 0 else BatchNormalisation(name=f"bn{i}")(conv(x)))
            if i == 4:
                x = dropout(0.05, broadcast_dims=(1, 2))(x)
        x = dropout(0.1)(x.reshape(x.shape[0], -1))
        fc1, fc2 = self.widths[6:]
        x = nn.relu(nn.Dense(fc1, name="fc1")(x))
        x = dropout(0.1)(nn.relu(nn.Dense(fc2, name="fc2")(x)))
        return nn.Dense(self.num_classes, name="fc3")(x)


class PooledNetwork(nn.Module):
    """Blocks of 3x3 convolutions with ReLU, each block ending in max-pooling and dropout, and one or two dense layers.

    With `normalised`, batch normalisation comes before each pooling. Keras counts four parameters per normalised
    channel, a moving mean and variance among them; here there are two, since the statistics are folded into scale and
    bias. So `deep_cnn` has 551,018 parameters, not the published 551,466: 2 x (32 + 64 + 128) fewer.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    blocks: Sequence[Sequence[int]] = ((32, 64),)
    """Per block, the filters of each convolution."""
    width: int | None = 128
    """Units of the dense layer before the last; None for no such layer."""
    normalised: bool = False
    dropout: tuple[float, float, float] = (0.25, 0.5, 0.0)
    """Rates after each block, before the first dense layer, and after it."""
    padding: str = "SAME"

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Images [n, H, W, C] -> logits [n, K]; intermediates conv1, conv2, ..., fc1 (and fc2) before their ReLU."""
        _check_size(self.image_shape, 2 ** len(self.blocks))
        dropout = partial(nn.Dropout, deterministic=not self.has_rng("dropout"))
        of_block, of_map, of_dense = self.dropout
        x, i = images, 0
        for block in self.blocks:
            for j, filters in enumerate(block, start=1):
                i += 1
                # Pooling before ReLU gives the same value and a cheaper gradient, unless a normalisation is between.
                pooled = j == len(block) and not self.normalised
                conv = _conv(filters, (3, 3), self.padding, f"conv{i}")
                x = nn.relu(conv.pooled(x) if pooled else conv(x))
            x = dropout(of_block)(max_pool(BatchNormalisation(name=f"bn{i}")(x)) if self.normalised else x)
        x = dropout(of_map)(x.reshape(x.shape[0], -1))
        if self.width:
            x = dropout(of_dense)(nn.relu(nn.Dense(self.width, name="fc1")(x)))
        return nn.Dense(self.num_classes, name="fc2" if self.width else "fc1")(x)


def _check_size(image_shape: tuple[int, int, int], least: int) -> None:
    if min(image_shape[:2]) < least:
        raise InputError(f"this network needs images of at least {least}x{least} pixels, given {image_shape[:2]}")


def _conv(width: int, kernel: Sequence[int], padding: str, name: str) -> Convolution:
    return Convolution(width, kernel, padding, name=name)
