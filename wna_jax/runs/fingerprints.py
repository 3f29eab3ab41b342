"""What a value is made of, as a few digits: whether a saved state is of the same noise and the same response."""

import functools
import hashlib
import types
from typing import Any

import numpy as np

_DEEPEST = 50  # objects within objects
_OF_LINEN = ("_state", "_id", "_parent_ref", "scope", "parent")  # of a module, not of what it computes


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
