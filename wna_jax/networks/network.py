"""A trained network as a value."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import register_dataclass

from wna_jax.runs.errors import InputError

PRECISIONS = ("float32", "bfloat16")
Parameters = Any
"""The pytree that Linen keeps under "params"."""


@register_dataclass
@dataclass(frozen=True, eq=False)
class Network:
    """A network as a value: images [n, H, W, C] in [0, 1] -> logits [n, K].

    It is a pytree: its parameters are leaves, the module (the architecture) is static. So it goes through `jax.jit`,
    `jax.grad` and the streaming loop as an argument, and all networks of one architecture share a compiled program
    (`runs.compilation` says how).
    """

    module: nn.Module = field(metadata={"static": True})
    parameters: Parameters
    precision: str = field(default="float32", metadata={"static": True})
    """In which parameters and activations are held: one of `PRECISIONS`. Logits are float32 in either."""
    state: Parameters = None
    """Linen's other collections by name, such as the "batch_stats" of a batch normalisation."""
    options: tuple[tuple[str, Any], ...] = field(default=(), metadata={"static": True})
    """Further arguments of the module, such as ("train", False)."""

    def __call__(self, images: jax.Array) -> jax.Array:
        """Images [n, H, W, C] -> logits [n, K]."""
        variables = {"params": self.parameters} | (self.state or {})
        held = jax.tree.map(lambda leaf: jnp.asarray(leaf, self.precision), variables)
        logits = self.module.apply(held, images.astype(self.precision), **dict(self.options))
        return logits.astype(jnp.float32)

    def __repr__(self) -> str:
        """One line."""
        shape = getattr(self.module, "image_shape", None)
        images = f", images {'x'.join(map(str, shape))}" if shape else ""
        size = sum(np.size(leaf) for leaf in jax.tree.leaves(self.parameters))
        return f"<Network {type(self.module).__name__}{images}, {size:,} parameters, {self.precision}>"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one image."""
        return self.module.image_shape

    @property
    def parameter_count(self) -> int:
        """The number of scalars in the parameters."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.parameters))

    @property
    def fingerprint(self) -> str:
        """The start (16 hex digits) of a sha256 over all parameters: which network a result is of."""
        return fingerprint(self.parameters if self.state is None else (self.parameters, self.state))


def of_linen(module: nn.Module, variables: Parameters, **options: Any) -> Network:
    """A Flax Linen module of one's own as a `Network`.

    Args:
        module: images [n, H, W, C] -> logits [n, K] by its `__call__`.
        variables: what `module.init` gives and training changes, such as {"params": ..., "batch_stats": ...}.
        options: further arguments of the module in evaluation mode, such as train=False or deterministic=True.

    Raises:
        InputError: variables without "params".
    """
    if not isinstance(variables, Mapping) or "params" not in variables:
        names = ", ".join(map(str, variables)) if isinstance(variables, Mapping) else type(variables).__name__
        raise InputError(f"variables of {names or 'nothing'}: expected those of Linen, {{'params': ..., ...}}")
    state = {name: of for name, of in variables.items() if name != "params"}
    return Network(module, variables["params"], state=state or None, options=tuple(sorted(options.items())))


def fingerprint(parameters: Parameters) -> str:
    """The start (16 hex digits) of a sha256 over all parameters, with their names."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(parameters):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()[:16]
