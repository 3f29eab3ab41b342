"""The registry of classifiers: Flax Linen modules by name."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from wna_jax.networks.models import convolutional as conv
from wna_jax.networks.models.dense import DenseNetwork
from wna_jax.networks.models.recurrent import RecurrentNetwork
from wna_jax.networks.network import Network
from wna_jax.runs.errors import unknown_name
from wna_jax.runs.seeds import key_of

_REGISTRY: dict[str, Callable[..., nn.Module]] = {
    "logistic": DenseNetwork,
    "mlp": partial(DenseNetwork, widths=(1000,)),
    "dropout_mlp": partial(DenseNetwork, widths=(512, 512), dropout=0.2),
    "paper_cnn": conv.ValidConvolutionNetwork,
    "wide_cnn": partial(conv.ValidConvolutionNetwork, widths=(40, 50, 1000)),
    "pair_cnn": partial(conv.ValidConvolutionNetwork, widths=(10, 50, 100)),
    "net": conv.SameConvolutionNetwork,
    "cifar_cnn": conv.BlockNetwork,
    "half_cifar_cnn": partial(conv.BlockNetwork, widths=(16, 32, 64, 64, 128, 128, 512, 256)),
    "flat_cnn": conv.PooledNetwork,
    "noise_cnn": partial(conv.PooledNetwork, dropout=(0.25, 0.0, 0.5), padding="VALID"),
    "deep_cnn": partial(
        conv.PooledNetwork, blocks=((32, 32), (64, 64), (128, 128)), normalised=True, dropout=(0.1, 0.0, 0.3)
    ),
    "plain_cnn": partial(conv.PooledNetwork, blocks=((32,), (64,), (128,)), width=None, dropout=(0.0, 0.5, 0.0)),
    "rnn": RecurrentNetwork,
    "lstm": partial(RecurrentNetwork, cell=nn.OptimizedLSTMCell, width=128),
}
NAMES = tuple(_REGISTRY)


def create(name: str, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """A classifier of `NAMES`: `apply({"params": parameters}, images [n, H, W, C] in [0, 1]) -> logits [n, K]`.

    Raises:
        InputError: no such model, or images too small for it.
    """
    if name not in _REGISTRY:
        raise unknown_name("model", name, NAMES)
    module = _REGISTRY[name](image_shape=image_shape, num_classes=num_classes)
    jax.eval_shape(partial(initial_parameters, module), key_of(0))  # raises where images are too small
    return module


def initial_parameters(module: nn.Module, key: jax.Array) -> dict:
    """Draws a classifier's parameters at random: the pytree under "params"."""
    return initialised(module, key, jnp.zeros((1, *module.image_shape)))


def initialised(module: nn.Module, key: jax.Array, inputs: jax.Array) -> dict:
    """Draws any module's parameters at random, for inputs like the given ones.

    Parameters are drawn once, so on a CPU the program is compiled with few optimisations: in a quarter of the time, to
    the same bits.
    """
    is_traced = isinstance(key, jax.core.Tracer)  # within another program, whose options hold
    return (_draw if is_traced or jax.default_backend() != "cpu" else _draw_on_cpu)(module, key, inputs)


def _parameters(module: nn.Module, key: jax.Array, inputs: jax.Array) -> dict:
    return module.init(key, inputs)["params"]


_draw = jax.jit(_parameters, static_argnums=0)
_draw_on_cpu = jax.jit(_parameters, static_argnums=0, compiler_options={"xla_backend_optimization_level": 1})


def untrained(name: str, image_shape: tuple[int, int, int], num_classes: int, seed: int = 0) -> Network:
    """A network of the registry with random parameters; see `create` for the arguments and errors."""
    module = create(name, image_shape, num_classes)
    return Network(module, initial_parameters(module, key_of(seed)))
