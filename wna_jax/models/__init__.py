"""The registry: Flax Linen classifiers by name."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from wna_jax.errors import unknown_name
from wna_jax.models.convolutional import (
    BlockNetwork,
    PooledNetwork,
    SameConvolutionNetwork,
    ValidConvolutionNetwork,
)
from wna_jax.models.dense import DenseNetwork
from wna_jax.models.recurrent import RecurrentNetwork

_REGISTRY: dict[str, Callable[..., nn.Module]] = {
    "logistic": DenseNetwork,
    "mlp": partial(DenseNetwork, widths=(1000,)),
    "dropout_mlp": partial(DenseNetwork, widths=(512, 512), dropout=0.2),
    "paper_cnn": ValidConvolutionNetwork,
    "wide_cnn": partial(ValidConvolutionNetwork, widths=(40, 50, 1000)),
    "pair_cnn": partial(ValidConvolutionNetwork, widths=(10, 50, 100)),
    "net": SameConvolutionNetwork,
    "cifar_cnn": BlockNetwork,
    "half_cifar_cnn": partial(BlockNetwork, widths=(16, 32, 64, 64, 128, 128, 512, 256)),
    "flat_cnn": PooledNetwork,
    "noise_cnn": partial(PooledNetwork, dropout=(0.25, 0.0, 0.5), padding="VALID"),
    "deep_cnn": partial(
        PooledNetwork, blocks=((32, 32), (64, 64), (128, 128)), normalised=True, dropout=(0.1, 0.0, 0.3)
    ),
    "plain_cnn": partial(PooledNetwork, blocks=((32,), (64,), (128,)), width=None, dropout=(0.0, 0.5, 0.0)),
    "rnn": RecurrentNetwork,
    "lstm": partial(RecurrentNetwork, cell=nn.OptimizedLSTMCell, width=128),
}
NAMES = tuple(_REGISTRY)


def create(name: str, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Builds a classifier of the registry.

    Args:
        name: one of `NAMES`.
        image_shape: (H, W, C) of one image.
        num_classes: K.

    Returns:
        A Linen module with `apply({"params": parameters}, images [n, H, W, C] in [0, 1]) -> logits [n, K]`.

    Raises:
        InputError: no such model, or images too small for it.
    """
    if name not in _REGISTRY:
        raise unknown_name("model", name, NAMES)
    module = _REGISTRY[name](image_shape=image_shape, num_classes=num_classes)
    jax.eval_shape(partial(initial_parameters, module), jax.random.key(0))  # too small an image is said here
    return module


def initial_parameters(module: nn.Module, key: jax.Array) -> dict:
    """Draws a module's parameters at random: the pytree under "params"."""
    return jax.jit(module.init)(key, jnp.zeros((1, *module.image_shape)))["params"]


def parameter_count(parameters: dict) -> int:
    """The number of scalars in a parameter pytree."""
    return sum(leaf.size for leaf in jax.tree.leaves(parameters))
