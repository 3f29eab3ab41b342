"""Functions as values: a network or a noise is a pytree that can be called, and `jit` compiles it once for its kind.

A function that closes over its parameters is compiled anew for every set of parameters. A pytree whose leaves are the
parameters is not: `jit` traces its arrays, and everything else in it (the architecture, sizes, plain functions) decides
which compiled program is used. `jax.tree_util.Partial(function, *arguments)` makes such a value; so does a registered
dataclass. A plain function works too: all of it, closures included, is part of what is compiled for.
"""

import functools
import hashlib
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np

Result = TypeVar("Result")

_DEEPEST = 50  # objects within objects, of which a fingerprint is taken
_OF_LINEN = ("_state", "_id", "_parent_ref", "scope", "parent")  # of a module, not of what it computes
_KEPT = 16  # programs of a jitted function; a caller that makes a new closure for every call must not fill the memory


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


class _Itself(_Constant):
    """A constant that cannot be hashed, such as an instance of a mutable class: equal to itself alone."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.value is other.value

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
    try:
        hash(leaf)
    except TypeError:
        return _Itself(leaf, type(leaf))
    return _Constant(leaf, type(leaf))


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
        arrays, structure = take_apart(arguments)
        return program(structure)(arrays)

    return call


@jit
def call(function: Callable[..., Result], *arguments: Any) -> Result:
    """`function(*arguments)`, compiled."""
    return function(*arguments)


def fingerprint(value: Any) -> str:
    """The start (16 hex digits) of a sha256 over all that decides what a function or a pytree computes.

    Arrays by their bytes, functions by their name, code and what they close over, other objects by their type and
    attributes. Two values of one fingerprint are the same; of a foreign object that hides what it is, only the type is
    known.
    """
    digest = hashlib.sha256()
    _add_to(digest, value, [])
    return digest.hexdigest()[:16]


def _add_to(digest: Any, value: Any, above: list[int]) -> None:
    digest.update(f"<{type(value).__module__}.{type(value).__qualname__}>".encode())
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.dtype):
        digest.update(repr(value).encode())
        return
    if id(value) in above or len(above) > _DEEPEST:
        return
    above = [*above, id(value)]
    parts: Any
    if isinstance(value, types.FunctionType):
        code = value.__code__
        digest.update(f"{value.__module__}.{value.__qualname__}".encode() + code.co_code)
        constants = [each for each in code.co_consts if not isinstance(each, types.CodeType)]
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        parts = [constants, code.co_names, value.__defaults__, value.__kwdefaults__, cells]
    elif isinstance(value, type | types.ModuleType | types.BuiltinFunctionType):
        parts = [getattr(value, "__module__", ""), getattr(value, "__qualname__", value.__name__)]
    elif isinstance(value, types.MethodType):
        parts = [value.__func__, value.__self__]
    elif isinstance(value, functools.partial):
        parts = [value.func, value.args, value.keywords]
    elif isinstance(value, dict):
        parts = sorted(value.items(), key=lambda item: repr(item[0]))
    elif isinstance(value, set | frozenset):
        parts = sorted(value, key=repr)
    elif isinstance(value, list | tuple):
        parts = value
    elif hasattr(value, "__array__"):
        array = np.asarray(value)
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        parts = array.tolist() if array.dtype.hasobject else [np.ascontiguousarray(array).tobytes()]
    else:
        parts = {name: each for name, each in getattr(value, "__dict__", {}).items() if name not in _OF_LINEN}
    digest.update(str(len(parts)).encode())
    for part in parts.items() if isinstance(parts, dict) else parts:
        _add_to(digest, part, above)
