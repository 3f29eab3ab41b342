"""The layers of networks that are trees of modules: Flax NNX and Equinox. Those of Linen are in `units`.

A copy of the network is made in which each module hands on what it gives: its class is one of its own, whose `__call__`
says so. The network itself is not touched.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx

from wna_jax.networks.foreign import is_equinox

Watch = Callable[[str, Any], Any]
"""A layer's name, such as "layers/0", and its output -> what the network goes on with."""


def is_tree(network: object) -> bool:
    """Whether something is a module of NNX or Equinox."""
    return isinstance(network, nnx.Module) or is_equinox(network)


def watched(network: Any, watch: Watch) -> Any:
    """A copy of a module whose layers hand their outputs to `watch`."""
    copy = jax.tree.map(lambda leaf: leaf, network)
    for name, layer in _layers(copy, ()):
        object.__setattr__(layer, "__class__", _watching(type(layer), name, watch))
    return copy


def _watching(kind: type, name: str, watch: Watch) -> type:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return watch(name, kind.__call__(self, *args, **kwargs))

    return type(kind)(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})


def _layers(module: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """The modules inside one that have parameters and can be called, by their path; each once."""
    items = (
        module.items() if isinstance(module, dict) else enumerate(module) if isinstance(module, list | tuple) else ()
    )
    for name, each in (*items, *getattr(module, "__dict__", {}).items()):
        if is_tree(each) or isinstance(each, list | tuple | dict):
            own = (*path, str(name))
            has_parameters = any(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(each))
            if callable(each) and has_parameters and "Dropout" not in type(each).__name__:
                yield "/".join(own), each
            yield from _layers(each, own)
