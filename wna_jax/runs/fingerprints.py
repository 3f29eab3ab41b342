"""What a value is made of, as a few digits: whether a saved state is of the same noise and the same response."""

import contextlib
import functools
import hashlib
import logging
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

_DEEPEST = 50  # objects within objects
_OF_LINEN = {"_state", "_id", "_parent_ref", "scope", "parent"}  # of a module, not of what it computes
_OF_TORCH = {"training"}  # a module is asked in evaluation mode, and has its own mode at other times
_METHODS = types.MethodType | staticmethod | classmethod | property | functools.cached_property
_INSTALLED = tuple(str(Path(folder)) for folder in {*map(sysconfig.get_path, ("stdlib", "purelib", "platlib"))})
_OWN = str(Path(__file__).parents[1])


def fingerprint(value: Any) -> str:
    """The start (16 hex digits) of a sha256 over all that decides what a function or a pytree computes.

    Arrays by their bytes; functions by their name, their code, what they close over, and the globals that they name;
    other objects by their type, its methods, and their attributes. Two values of one fingerprint are the same; of a
    foreign object that hides what it is, only the type is known. A function of an installed package, or of this one, is
    what its name says: another version of Python compiles it to another code.
    """
    return _Digest().of(value, ()).hex()[:16]


class _Digest:
    """One digest for each object, whatever refers to it."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, bytes]] = {}  # the objects too, so that no other takes their place in memory

    def of(self, value: Any, above: tuple[int, ...]) -> bytes:
        digest = hashlib.sha256(f"<{type(value).__module__}.{type(value).__qualname__}>".encode())
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.dtype):
            digest.update(repr(value).encode())
        elif id(value) in self._known:
            return self._known[id(value)][1]
        elif id(value) not in above and len(above) < _DEEPEST:
            for part in _parts(value):
                digest.update(part if isinstance(part, bytes) else self.of(part, (*above, id(value))))
            self._known[id(value)] = value, digest.digest()
        return digest.digest()


def _parts(value: Any) -> Iterator[Any]:
    """What an object is made of: bytes of its own, and other objects."""
    parts: Any
    if isinstance(value, types.FunctionType):
        parts = [value.__module__, value.__qualname__, value.__defaults__, value.__kwdefaults__]
        parts += map(_content, value.__closure__ or ())
        if not _is_installed(value.__code__.co_filename):
            parts += [value.__code__, _globals(value)]
        elif value.__name__ == "<lambda>":  # its name does not tell it from another
            parts.append(value.__code__)
    elif isinstance(value, types.CodeType):
        parts = [value.co_code, value.co_consts, value.co_names]
    elif isinstance(value, type):
        parts = [value.__module__, value.__qualname__, *map(_own_code, value.__mro__)]
    elif isinstance(value, types.ModuleType | types.BuiltinFunctionType | logging.Logger):
        parts = [getattr(value, name, "") for name in ("__module__", "__qualname__", "__name__", "name")]
    elif isinstance(value, _METHODS):
        parts = [getattr(value, name, None) for name in ("__func__", "__self__", "fget", "func")]
    elif isinstance(value, functools.partial):
        parts = [value.func, value.args, value.keywords]
    elif isinstance(value, dict):
        parts = [each for item in sorted(value.items(), key=lambda item: repr(item[0])) for each in item]
    elif isinstance(value, set | frozenset):
        parts = sorted(value, key=repr)
    elif isinstance(value, list | tuple):
        parts = value
    elif (array := _as_numpy(value)) is not None:
        content = array.tolist() if array.dtype.hasobject else np.ascontiguousarray(array).tobytes()
        parts = [array.dtype.str, array.shape, content]
    else:
        state = _of_keras(value) if _is_of(value, "keras.src.layers.layer") else _state(value)
        parts = [state, *map(_own_code, type(value).__mro__)]
    yield str(len(parts)).encode()
    yield from parts


def _globals(function: types.FunctionType) -> dict[str, Any]:
    """The globals that a function of the user's names: in a notebook they are what elsewhere is closed over."""
    named: dict[str, Any] = {}
    codes = [function.__code__]
    for code in codes:
        codes.extend(each for each in code.co_consts if isinstance(each, types.CodeType))
        named |= {name: function.__globals__[name] for name in code.co_names if name in function.__globals__}
    for name, each in list(named.items()):
        if isinstance(each, types.ModuleType) and not _is_installed(getattr(each, "__file__", None) or _OWN):
            attributes = {attribute for code in codes for attribute in code.co_names}
            named |= {f"{name}.{attribute}": vars(each).get(attribute) for attribute in attributes}
    return named


def _own_code(kind: type) -> dict[str, Any]:
    """The methods and constants of a class of the user's own."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None) or _OWN  # a notebook's module has none
    if _is_installed(file) and kind.__module__ != "__main__":
        return {}
    data = bool | int | float | str | bytes | list | tuple | dict | np.ndarray | jax.Array
    return {
        name: each
        for name, each in vars(kind).items()
        if isinstance(each, types.FunctionType | _METHODS) or (isinstance(each, data) and not name.startswith("__"))
    }


def _is_installed(file: str) -> bool:
    return file.startswith((*_INSTALLED, _OWN))


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty, as of a function that is not defined yet
        return None


def _state(value: Any) -> Any:
    """The attributes of an object, but for those that it has only computed; without any, what pickling would keep.

    Those of the standard library without attributes are counters, locks and iterators: where they stand is not what a
    function computes.
    """
    if _has(value, "__dict__"):
        computed = {name for name, of in vars(type(value)).items() if isinstance(of, functools.cached_property)}
        left_out = computed | (_OF_TORCH if _is_of(value, "torch.nn.modules.module") else _OF_LINEN)
        return {name: each for name, each in vars(value).items() if name not in left_out}
    if type(value).__module__.partition(".")[0] in sys.stdlib_module_names:
        return None
    try:
        return value.__reduce_ex__(4)
    except Exception:  # it hides what it is
        return None


def _is_of(value: Any, module: str) -> bool:
    """Whether an object is of a class of that module, which need not be imported, or of one made of it."""
    return any(kind.__module__ == module for kind in type(value).__mro__)


def _of_keras(layer: Any) -> Any:
    """A layer or model of Keras: it holds much that is new in each process, and that a call changes."""
    config = None
    with contextlib.suppress(Exception):  # not every class of a user's own has one
        config = repr(layer.get_config())
    return config, layer.get_weights()


def _has(value: Any, name: str) -> bool:
    """`hasattr`; stand-ins of other packages raise what they like, such as that a module is not installed."""
    try:
        return hasattr(value, name)
    except Exception:
        return False


def _as_numpy(value: Any) -> np.ndarray | None:
    """An array's numbers; None of what is none, or has none, such as a symbol for an array to come."""
    if not _has(value, "__array__"):
        return None
    if isinstance(value, jax.Array | np.ndarray):
        is_key = jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(jax.numpy.asarray(value)) if is_key else value)
    try:
        if hasattr(value, "detach"):  # PyTorch refuses what has a gradient
            tensor = value.detach().cpu()
            return np.asarray(tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor)  # NumPy has none
        return np.asarray(value)
    except Exception:
        return None
