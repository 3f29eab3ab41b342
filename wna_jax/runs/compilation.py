"""Functions as values: a network or a noise is a pytree that can be called, and `jit` compiles it once for its kind.

A function that closes over its parameters is compiled anew for every set of parameters. A pytree whose leaves are the
parameters is not: `jit` traces its arrays, and everything else in it (the architecture, sizes, plain functions) decides
which compiled program is used. `jax.tree_util.Partial(function, *arguments)` makes such a value; so does a registered
dataclass. A plain function works too: all of it, closures included, is part of what is compiled for.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from wna_jax.runs.errors import InputError
from wna_jax.runs.fingerprints import fingerprint

Result = TypeVar("Result")

_KEPT = 16  # programs of a jitted function; a caller that makes a new closure for every call must not fill the memory


class OnHost:
    """A function that JAX cannot trace: it takes arrays of JAX, or of NumPy, and gives such arrays.

    What `jit` compiles otherwise is computed step by step where one of these is among the arguments.
    """

    @staticmethod
    def check(images: Any) -> None:
        """Raises an InputError where JAX asks for a gradient, or compiles what does not go through `jit`."""
        if isinstance(images, jax.core.Tracer):
            raise InputError(
                "the network is not one of JAX: it answers to images, and JAX knows neither its gradient nor its layers"
            )


@dataclass(frozen=True)
class Structure:
    """All of a pytree but its arrays, compared by value."""

    tree: Any
    constants: tuple[Any, ...]
    """The leaves that are not arrays, None in the place of an array."""

    def with_arrays(self, arrays: list[Any]) -> Any:
        """The pytree with these arrays: undoes `take_apart`."""
        rest = iter(arrays)
        leaves = [next(rest) if constant is None else constant.value for constant in self.constants]
        return jax.tree.unflatten(self.tree, leaves)


@dataclass(frozen=True)
class _Constant:
    value: Any
    kind: type  # 1, 1.0 and True are equal, and compile to different programs
    made_of: str = ""  # of a user's function: the globals that it names may change, in a notebook


class _Itself(_Constant):
    """A constant that cannot be hashed, such as an instance of a mutable class: equal to itself alone."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.value is other.value and self.made_of == other.made_of

    def __hash__(self) -> int:
        return id(self.value)


class ByIdentity:
    """Arrays as the key of a cache: equal to those very arrays alone."""

    def __init__(self, arrays: list[Any]) -> None:
        """Keeps the arrays, so that no other takes their place in memory."""
        self.arrays = arrays

    def __eq__(self, other: object) -> bool:
        """They are the same objects."""
        return isinstance(other, ByIdentity) and list(map(id, self.arrays)) == list(map(id, other.arrays))

    def __hash__(self) -> int:
        """By their places in memory."""
        return hash(tuple(map(id, self.arrays)))


def take_apart(tree: Any) -> tuple[list[Any], Structure]:
    """The arrays of a pytree, and the rest."""
    leaves, structure = jax.tree.flatten(tree)
    is_array = [isinstance(leaf, jax.Array | np.ndarray | np.generic) for leaf in leaves]
    arrays = [leaf for leaf, array in zip(leaves, is_array, strict=True) if array]
    constants = tuple(None if array else _constant(leaf) for leaf, array in zip(leaves, is_array, strict=True))
    return arrays, Structure(structure, constants)


def _constant(leaf: Any) -> _Constant:
    made_of = fingerprint(leaf) if callable(leaf) else ""
    try:
        hash(leaf)
    except TypeError:
        return _Itself(leaf, type(leaf), made_of)
    return _Constant(leaf, type(leaf), made_of)


def jit(function: Callable[..., Result]) -> Callable[..., Result]:
    """`jax.jit` for arguments that may be networks, noises or functions: arrays are traced, the rest is static."""

    @functools.lru_cache(maxsize=_KEPT)
    def program(structure: Structure) -> Callable[..., Result]:
        @functools.wraps(function)  # a program bears the function's name, in profiles and logs
        def of_arrays(arrays: list[Any]) -> Result:
            return function(*structure.with_arrays(arrays))

        return jax.jit(of_arrays)

    @functools.wraps(function)
    def call(*arguments: Any) -> Result:
        if is_on_host(arguments):
            return function(*jax.tree.map(_on_device, arguments))
        arrays, structure = take_apart(arguments)
        return program(structure)(arrays)

    return call


@jit
def call(function: Callable[..., Result], *arguments: Any) -> Result:
    """`function(*arguments)`, compiled."""
    return function(*arguments)


def is_on_host(tree: Any) -> bool:
    """Whether a function in a pytree, or one that is all of it, cannot be traced by JAX."""
    return any(isinstance(leaf, OnHost) for leaf in jax.tree.leaves(tree))


def _on_device(leaf: Any) -> Any:
    return jnp.asarray(leaf) if isinstance(leaf, np.ndarray | np.generic) else leaf


def shape_of(function: Callable[..., Any], *arguments: jax.ShapeDtypeStruct) -> Any:
    """The shapes of what a function gives for arguments of such shapes; what is on the host is asked about zeros."""
    if is_on_host(function):
        return function(*(jnp.zeros(each.shape, each.dtype) for each in arguments))
    return jax.eval_shape(lambda *each: function(*each), *arguments)
