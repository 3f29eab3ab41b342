"""Arrays of images and labels: NPZ files, NPY files, and IDX files (the format of MNIST)."""

import math
import re
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from wna_jax.data.dataset import SPLITS, Source, Split, printable, reason
from wna_jax.runs.errors import InputError

_SPLIT = "|".join(SPLITS)
_KIND = r"(?:(x|images?|data)|y|labels?|targets?)"
_NAME = re.compile(rf"(?:({_SPLIT})[_-])?{_KIND}(?:[_-]({_SPLIT}))?(?:[-.]idx\d[-.]ubyte)?")
_EXPECTED = "x_train, y_train, x_test and y_test, or images and labels"
_CLASS_NAMES = "class_names"
_REPAIR = "repair or replace it"
_NO_BOMB = 1 << 30  # bytes


def read_arrays(path: Path) -> Source:
    """Reads images and labels from an NPZ file, a folder of NPY or of IDX files (with or without .gz), or an NPY file.

    Arrays are called x_train and y_train, train_images and train_labels, images and labels, ...; those of test and val
    are splits of their own. Images are [n, H, W] or [n, H, W, C] with C = 1 or 3: integers from 0 to 255, Booleans, or
    floats from 0 to 1, which are rounded to bytes. Labels are whole numbers or texts; the classes are those that occur,
    in order, unless an array `class_names` says what the labels 0, 1, ... mean. Without labels there is one class.
    Raises InputError: an unreadable file, arrays missing or of other names, or arrays that are no images or labels.
    """
    where = printable(path)
    try:
        named = {name: _decoded(np.asarray(array)) for name, array in _load(path).items()}
    except (InputError, OSError):
        raise
    except Exception as error:  # NumPy, zipfile and zlib raise many types for a damaged file
        raise InputError(f"{where}: unreadable ({reason(error)}); {_REPAIR}") from error
    given = named.pop(_CLASS_NAMES, None)
    images: dict[str, np.ndarray] = {}
    labels: dict[str, np.ndarray] = {}
    for name, array in named.items():
        match = _NAME.fullmatch(name.lower())
        if not match or (match[1] and match[3]):
            raise InputError(f"{where}: unknown array {printable(name)!r}: expected {_EXPECTED}; rename or remove it")
        is_images, split = match[2] is not None, SPLITS[match[1] or match[3] or "train"]
        into = images if is_images else labels
        if split in into:
            kind = "images" if is_images else "labels"
            raise InputError(f"{where}: two arrays of {split} {kind}, {', '.join(named)}: keep one of them")
        into[split] = (_as_images if is_images else _as_labels)(f"{where}: {printable(name)}", array)
    if "train" not in images or (labels and labels.keys() != images.keys()):
        found = ", ".join(printable(name) for name in named) or "none"
        raise InputError(f"{where}: expected arrays {_EXPECTED}, got {found}; add or rename them")
    names: tuple[str, ...] = ("image",)
    if not labels:
        labels = {split: np.zeros(len(of), np.int64) for split, of in images.items()}
    elif given is None:
        labels, names = _numbered(where, labels)
    else:
        names = tuple(printable(name) for name in np.atleast_1d(given).tolist())
        inside = all(of.dtype.kind == "i" and ((of >= 0) & (of < len(names))).all() for of in labels.values())
        if not inside or len(set(names)) < len(names):
            raise InputError(f"{where}: expected {_CLASS_NAMES} that differ, and labels from 0 to {len(names) - 1}")
    splits = {split: Split(of, labels[split].astype(np.int32)) for split, of in images.items()}
    return Source(splits["train"], splits.get("test"), names, splits.get("validation"))


def unzipped(path: Path, way_out: str) -> bytes:
    """The bytes of a file, decompressed if it is a .gz file."""
    content = path.read_bytes()
    if path.suffix != ".gz":
        return content
    unpack = zlib.decompressobj(wbits=31)  # with gzip's header and check
    try:
        unpacked = unpack.decompress(content, _allowed(len(content)))
    except zlib.error as error:
        raise InputError(f"{printable(path)}: truncated or not a gzip file ({reason(error)}); {way_out}") from error
    if not unpack.eof:
        problem = "expands too much, as a decompression bomb does" if unpack.unconsumed_tail else "truncated"
        raise InputError(f"{printable(path)}: {problem}; {way_out}")
    return unpacked


def _allowed(packed: int) -> int:
    """The most bytes that so many packed bytes may be: up to a gigabyte any number, then 200 times as many."""
    return max(_NO_BOMB, 200 * packed)


def parse_idx(path: Path, content: bytes, way_out: str) -> np.ndarray:
    """The bytes in an IDX file as an array of the shape in its header (big-endian sizes behind 00 00 08 rank)."""
    rank = content[3] if len(content) > 3 else 0
    start = 4 + 4 * rank
    if content[:3] != bytes((0, 0, 8)) or not 1 <= rank <= 4 or len(content) < start:
        found = f"starts with {content[:4].hex()}, expected 00000801 to 04"
        raise InputError(f"{printable(path)}: not IDX of bytes, {found}; {way_out}")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", rank, 4))
    if len(content) != (expected := start + math.prod(shape)):
        found = f"{len(content):,} bytes, expected {expected:,} for the {shape[0]:,} items in its header"
        raise InputError(f"{printable(path)}: {found}; {way_out}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _load(path: Path) -> dict[str, Any]:
    """The arrays of a file or folder by their names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        if path.is_dir():
            files = {each.name.removesuffix(".gz"): each for each in sorted(path.iterdir()) if each.name[0] != "."}
            chosen = {name: each for name, each in files.items() if name.endswith((".npy", "ubyte"))}
            return {name.removesuffix(".npy"): _load_file(each) for name, each in chosen.items()}
        if path.suffix == ".npz" and path.is_file():
            with path.open("rb") as file, np.load(file) as archive:  # NumPy leaves damaged files open
                if sum(each.file_size for each in archive.zip.infolist()) > _allowed(path.stat().st_size):
                    raise ValueError("it expands too much, as a decompression bomb does")
                return {name: archive[name] for name in archive.files}
        if path.suffix == ".npy" and path.is_file():
            return {"images": _load_file(path)}
    expected = "expected arrays:PATH of a .npz or .npy file, or of a folder of .npy or IDX files"
    raise InputError(f"{printable(path)} {'is none of these' if path.exists() else 'does not exist'}: {expected}")


def _decoded(array: np.ndarray) -> np.ndarray:
    return np.char.decode(array, "utf-8", "backslashreplace") if array.dtype.kind == "S" else array


def _load_file(path: Path) -> np.ndarray:
    if not path.is_file():  # reading a pipe would wait for ever
        raise ValueError(f"{path.name} is a link to nothing, or no ordinary file")
    if path.suffix != ".npy":
        return parse_idx(path, unzipped(path, _REPAIR), _REPAIR)
    with path.open("rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _as_images(what: str, array: np.ndarray) -> np.ndarray:
    """Images as uint8 [n, H, W, C]."""
    shape = array.shape
    if len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3):
        raise InputError(f"{what} of shape {shape} has its channels first: give array.transpose(0, 2, 3, 1)")
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)) or 0 in shape[1:]:
        raise InputError(f"{what} has shape {shape}: expected images [n, H, W] or [n, H, W, C] of 1 or 3 channels")
    kind = array.dtype.kind
    if kind not in "biuf":
        raise InputError(f"{what} has type {array.dtype}: expected bytes, or floats from 0 to 1")
    if array.dtype != np.uint8 and array.size:
        low, high, top = array.min(), array.max(), 1 if kind in "bf" else 255
        if not (low >= 0 and high <= top):  # which NaN is neither
            raise InputError(f"{what} ranges from {low} to {high}: expected bytes from 0 to 255, or floats from 0 to 1")
        array = np.rint(array.astype(np.float32) * 255) if top == 1 else array
    array = array.astype(np.uint8, copy=False)
    return array if len(shape) == 4 else array[..., None]


def _as_labels(what: str, array: np.ndarray) -> np.ndarray:
    """Labels [n], int64 or of Unicode texts."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    kind = array.dtype.kind
    if array.ndim != 1 or kind not in "biuU":
        found = f"shape {array.shape} and type {array.dtype}"
        raise InputError(f"{what} has {found}: expected one whole number or text per image (one-hot: give argmax(-1))")
    return array if kind == "U" else array.astype(np.int64)


def _numbered(where: str, labels: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Labels from 0, and the names of the classes: all values that occur, in order."""
    if len({of.dtype.kind for of in labels.values()}) > 1:
        raise InputError(f"{where}: some labels are texts and some are numbers; give all of one kind")
    values, numbers = np.unique(np.concatenate(list(labels.values())), return_inverse=True)
    ends = np.cumsum([len(of) for of in labels.values()])
    split = dict(zip(labels, np.split(numbers.reshape(-1), ends[:-1]), strict=True))
    return split, tuple(printable(value) for value in values)
