"""Convolutional classifiers: images [n, h, w, c] on the [0, 1] scale -> logits."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax

from wna_jax.errors import InputError
from wna_jax.models.layers import BatchNormalisation, convolution, max_pool


class ValidConvolutionNetwork(nn.Module):
    """Two VALID 5x5 convolutions, each with 2x2 max-pooling and ReLU, and two dense layers (arXiv 1912.12106).

    Fully convolutional: the dense layers are VALID convolutions, so that one `apply` serves single images,
    [n, H, W, C] -> logits [n, K], and any larger field, [n, h, w, C] -> logits [n, h', w', K] of every H x W window
    at stride 4. Pooling stands before ReLU; the order does not change the value and keeps the CPU gradient cheap.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    widths: Sequence[int] = (20, 50, 500)

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns logits; `capture_intermediates` gives conv1, conv2, fc1 and fc2 before their ReLU."""
        last_map = tuple(((size - 4) // 2 - 4) // 2 for size in self.image_shape[:2])
        if min(last_map) < 1:
            raise InputError(f"this network needs images of at least 16x16 pixels, given {self.image_shape[:2]}")
        conv1, conv2, fc1 = self.widths
        x = nn.relu(max_pool(_conv(conv1, (5, 5), "VALID", "conv1")(images)))
        x = nn.relu(max_pool(_conv(conv2, (5, 5), "VALID", "conv2")(x)))
        x = nn.relu(_conv(fc1, last_map, "VALID", "fc1")(x))
        logits = _conv(self.num_classes, (1, 1), "VALID", "fc2")(x)
        return logits[:, 0, 0] if logits.shape[1:3] == (1, 1) else logits


class SameConvolutionNetwork(nn.Module):
    """Three SAME 3x3 convolutions of 32, 64 and 128 filters, each with 2x2 max-pooling, and two dense layers.

    The student re-implementation's `Net`. SAME padding sees the border, so it takes single images alone.
    """

    image_shape: tuple[int, int, int]
    num_classes: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Images [n, H, W, C] -> logits [n, K]; intermediates conv1, conv2, conv3, fc1, fc2 before their ReLU."""
        if min(self.image_shape[:2]) < 8:
            raise InputError(f"this network needs images of at least 8x8 pixels, given {self.image_shape[:2]}")
        x = images
        for i, width in enumerate((32, 64, 128), start=1):
            x = nn.relu(max_pool(_conv(width, (3, 3), "SAME", f"conv{i}")(x)))
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(512, name="fc1")(x))
        return nn.Dense(self.num_classes, name="fc2")(x)


class BlockNetwork(nn.Module):
    """Three blocks of two SAME 3x3 convolutions with 2x2 max-pooling, and three dense layers.

    The authors' network for CIFAR-10. The first convolution of a block is batch-normalised; 5% of the second block's
    channels are dropped out, and 10% of what enters the first and the last dense layer. It is in training where it is
    given a key for "dropout".
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    widths: Sequence[int] = (32, 64, 128, 128, 256, 256, 1024, 512)

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Images [n, H, W, C] -> logits [n, K]; intermediates conv1 to conv6 and fc1 to fc3 before their ReLU."""
        if min(self.image_shape[:2]) < 8:
            raise InputError(f"this network needs images of at least 8x8 pixels, given {self.image_shape[:2]}")
        dropout = partial(nn.Dropout, deterministic=not self.has_rng("dropout"))
        x = images
        for i, width in enumerate(self.widths[:6], start=1):
            x = _conv(width, (3, 3), "SAME", f"conv{i}")(x)
            x = nn.relu(max_pool(x) if i % 2 == 0 else BatchNormalisation(name=f"bn{i}")(x))
            if i == 4:
                x = dropout(0.05, broadcast_dims=(1, 2))(x)
        x = dropout(0.1)(x.reshape(x.shape[0], -1))
        fc1, fc2 = self.widths[6:]
        x = nn.relu(nn.Dense(fc1, name="fc1")(x))
        x = dropout(0.1)(nn.relu(nn.Dense(fc2, name="fc2")(x)))
        return nn.Dense(self.num_classes, name="fc3")(x)


class PooledNetwork(nn.Module):
    """Blocks of 3x3 convolutions with ReLU, each ended by max-pooling and dropout, and one or two dense layers.

    With `normalised`, batch normalisation stands before each pooling. Keras counts four numbers a channel for it, the
    moving mean and variance among them; here there are two, as the statistics are folded into scale and bias. So the
    551,466 parameters that are stated for `deep_cnn` are 551,018 here: less 2 x (32 + 64 + 128).
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    blocks: Sequence[Sequence[int]] = ((32, 64),)
    """Filters of each convolution, by block."""
    width: int | None = 128
    """Of a dense layer before the last."""
    normalised: bool = False
    dropout: tuple[float, float, float] = (0.25, 0.5, 0.0)
    """After each block, of what enters the first dense layer, and of what leaves it."""
    padding: str = "SAME"

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Images [n, H, W, C] -> logits [n, K]; intermediates conv1, conv2, ..., fc1 (and fc2) before their ReLU."""
        least = 2 ** len(self.blocks)
        if min(self.image_shape[:2]) < least:
            raise InputError(
                f"this network needs images of at least {least}x{least} pixels, given {self.image_shape[:2]}"
            )
        dropout = partial(nn.Dropout, deterministic=not self.has_rng("dropout"))
        of_block, of_map, of_dense = self.dropout
        x, i = images, 0
        for block in self.blocks:
            for j, filters in enumerate(block, start=1):
                i += 1
                x = _conv(filters, (3, 3), self.padding, f"conv{i}")(x)
                # pooling before ReLU has the same value and a cheaper gradient; a normalisation may turn signs
                x = nn.relu(x if j < len(block) or self.normalised else max_pool(x))
            x = dropout(of_block)(max_pool(BatchNormalisation(name=f"bn{i}")(x)) if self.normalised else x)
        x = dropout(of_map)(x.reshape(x.shape[0], -1))
        if self.width:
            x = dropout(of_dense)(nn.relu(nn.Dense(self.width, name="fc1")(x)))
        return nn.Dense(self.num_classes, name="fc2" if self.width else "fc1")(x)


def _conv(width: int, kernel: Sequence[int], padding: str, name: str) -> nn.Conv:
    return nn.Conv(width, kernel, padding=padding, conv_general_dilated=convolution, name=name)
