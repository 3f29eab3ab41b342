"""Mutated files of every format: each is refused in one line, or gives the pixels that an independent reader sees.

Formats with checksums (PNG, gzip, zip, published files) give the original pixels or nothing at all. The number of files
per format is set by WNA_JAX_FUZZ: `WNA_JAX_FUZZ=10000 pytest tests/test_data_fuzz.py --hypothesis-show-statistics`.
"""

import functools
import gzip
import hashlib
import io
import os
import struct
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from data_files import RNG, idx, prepare
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from wna_jax.data import Dataset, load, published
from wna_jax.runs.errors import InputError

FILES = int(os.environ.get("WNA_JAX_FUZZ", "40"))
GREY = RNG.integers(0, 256, (12, 4, 6), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (12, 4, 6, 3), dtype=np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 3
PLACE = 5  # of the image whose file is mutated


class Case(NamedTuple):
    """A data set in files, of which one is mutated; `expected` gives its images, "refused", or None for "any"."""

    files: dict[str, bytes]
    mutated: str
    name: str  # of the data set, below the folder {}
    expected: Callable[[bytes], Any]


def encoded(image: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def packed(save: Callable, **arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def original(images: np.ndarray) -> Callable[[bytes], Any]:
    """What has checksums gives what was written, or is refused."""
    return lambda content: images


def of_pictures(kind: str, images: np.ndarray, expected: Callable | None = None, **options: Any) -> Case:
    files = {f"{i:02}.{kind.lower()}": encoded(image, kind, **options) for i, image in enumerate(images)}
    mutated = f"{PLACE:02}.{kind.lower()}"

    def if_only_appended_to(content: bytes) -> Any:
        mode = "L" if kind == "TIFF" and images.ndim == 3 else "RGB"
        whole = [np.asarray(Image.open(io.BytesIO(file)).convert(mode)) for file in files.values()]
        return whole if content.startswith(files[mutated]) else None

    return Case(files, mutated, "folder:{}", expected or if_only_appended_to)


def with_one(images: np.ndarray, image: np.ndarray | None) -> np.ndarray | str:
    if image is None:
        return "refused"
    changed = images.copy()
    changed[PLACE] = image
    return changed


def of_pgm(content: bytes) -> Any:
    head = b"P5\n6 4\n255\n"
    if not content.startswith(head):
        return None
    body = content[len(head) :]
    return with_one(GREY, np.frombuffer(body[:24], np.uint8).reshape(4, 6) if len(body) >= 24 else None)


def of_bmp(content: bytes) -> Any:
    if content[:54] != encoded(COLOUR[PLACE], "BMP")[:54]:
        return None
    rows = content[54:][: 4 * 20]  # from the bottom up, blue before red, padded to 4 bytes
    if len(rows) < 4 * 20:
        return None  # the padding of the last row may be missing
    return with_one(COLOUR, np.frombuffer(rows, np.uint8).reshape(4, 20)[::-1, :18].reshape(4, 6, 3)[..., ::-1])


def of_idx(content: bytes) -> Any:
    if len(content) != 16 + GREY.size or struct.unpack(">4I", content[:16])[1] != 12:
        return "refused"
    if content[:16] != idx(GREY)[:16]:
        return None
    return np.frombuffer(content[16:], np.uint8).reshape(12, 4, 6)


def of_npy(content: bytes) -> Any:
    head = packed(np.save, arr=GREY)[: -GREY.size]
    if not content.startswith(head):
        return None
    body = content[len(head) :]
    return np.frombuffer(body[: GREY.size], np.uint8).reshape(12, 4, 6) if len(body) >= GREY.size else "refused"


def mnist_files(gz: bool) -> dict[str, bytes]:
    arrays = (GREY, LABELS, GREY[::-1][:4] ^ 255, LABELS[:4])
    files = dict(zip(published.CONTENTS["mnist"], map(idx, arrays), strict=True))
    return {f"mnist/{name}{'.gz' * gz}": gzip.compress(raw) if gz else raw for name, raw in files.items()}


def cifar_archive() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for i, batch in enumerate(published.CONTENTS["cifar10"]):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{batch}")
            content = cifar_batch(i)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


CIFAR = RNG.integers(0, 256, (18, 32, 32, 3), dtype=np.uint8)


def cifar_batch(i: int) -> bytes:
    return b"".join(bytes((i,)) + image.transpose(2, 0, 1).tobytes() for image in CIFAR[3 * i : 3 * i + 3])


NPZ = {"x_train": GREY, "y_train": LABELS}
IDX = {"images-idx3-ubyte": idx(GREY), "labels-idx1-ubyte": idx(LABELS)}
IDX_GZ = {f"{name}.gz": gzip.compress(content) for name, content in IDX.items()}
ARCHIVE = "cifar10/cifar-10-binary.tar.gz"
CASES = {
    "png": of_pictures("PNG", GREY, original(GREY)),
    "png_16": of_pictures("PNG", GREY.astype(np.uint16) * 257, original(GREY)),
    "jpeg": of_pictures("JPEG", COLOUR, quality=95),
    "gif": of_pictures("GIF", GREY),
    "webp": of_pictures("WEBP", COLOUR, lossless=True),
    "tiff": of_pictures("TIFF", GREY),
    "tiff_lzw": of_pictures("TIFF", COLOUR, compression="tiff_lzw"),
    "pgm": of_pictures("PPM", GREY, of_pgm),
    "bmp": of_pictures("BMP", COLOUR, of_bmp),
    "npz": Case({"x.npz": packed(np.savez, **NPZ)}, "x.npz", "arrays:{}/x.npz", original(GREY)),
    "npz_deflated": Case({"x.npz": packed(np.savez_compressed, **NPZ)}, "x.npz", "arrays:{}/x.npz", original(GREY)),
    "npy": Case({"images.npy": packed(np.save, arr=GREY)}, "images.npy", "arrays:{}", of_npy),
    "idx": Case(IDX, "images-idx3-ubyte", "arrays:{}", of_idx),
    "idx_gz": Case(IDX_GZ, "images-idx3-ubyte.gz", "arrays:{}", original(GREY)),
    "mnist": Case(mnist_files(False), "mnist/train-images-idx3-ubyte", "mnist", original(GREY)),
    "mnist_gz": Case(mnist_files(True), "mnist/train-images-idx3-ubyte.gz", "mnist", original(GREY)),
    "cifar10": Case({ARCHIVE: cifar_archive()}, ARCHIVE, "cifar10", original(CIFAR[:15])),
}

places = st.one_of(st.integers(0, 40), st.integers(0, 2**20))  # many near the beginning, where headers are
changes = st.one_of(
    st.tuples(st.just("flip"), places, st.integers(0, 7)),
    st.tuples(st.just("write"), places, st.binary(min_size=1, max_size=4)),
    st.tuples(st.just("insert"), places, st.binary(min_size=1, max_size=20)),
    st.tuples(st.just("append"), places, st.binary(min_size=1, max_size=20)),
    st.tuples(st.just("cut"), places, st.integers(1, 40)),
    st.tuples(st.just("truncate"), places, st.just(0)),
)


def changed(content: bytes, change: tuple[str, int, Any]) -> bytes:
    kind, place, what = change
    at = place % (len(content) or 1)
    before, after = content[:at], content[at:]
    match kind:
        case "flip":
            return before + bytes((after[0] ^ 1 << what,)) + after[1:] if after else content
        case "write":
            return before + what + after[len(what) :]
        case "insert":
            return before + what + after
        case "append":
            return content + what
        case "cut":
            return before + after[what:]
        case _:
            return before


of_many = settings(
    max_examples=FILES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("kind", CASES)
@of_many
@given(mutations=st.lists(changes, min_size=1, max_size=3))
def test_a_mutated_file_is_refused_or_read_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, mutations: list[tuple[str, int, Any]]
) -> None:
    case = CASES[kind]
    if not (tmp_path / case.mutated).exists():
        for name, content in case.files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(content)
        monkeypatch.setenv("WNA_JAX_CACHE", str(tmp_path / "cache"))
        table = {Path(name).name.removesuffix(".gz"): content for name, content in mnist_files(False).items()}
        table |= {batch: cifar_batch(i) for i, batch in enumerate(published.CONTENTS["cifar10"])}
        for name in ("mnist", "cifar10"):
            sums = {file: hashlib.sha256(table[file]).hexdigest() for file in published.CONTENTS[name]}
            monkeypatch.setitem(published.CONTENTS, name, sums)
    content = functools.reduce(changed, mutations, case.files[case.mutated])
    (tmp_path / case.mutated).write_bytes(content)
    expected = case.expected(content)
    data, problem = outcome(kind, case.name.format(tmp_path), tmp_path)
    if data is None:
        assert content != case.files[case.mutated]
        assert "\n" not in problem
        return
    assert not isinstance(expected, str), "expected to be refused"
    images = np.concatenate([data.train.images, data.validation.images, data.test.images])
    assert images.dtype == np.uint8
    if expected is not None:
        seen = {image.tobytes() for image in images}
        assert {image.tobytes() for image in expected} <= seen


def outcome(kind: str, name: str, folder: Path) -> tuple[Dataset | None, str]:
    """The data set, or why there is none."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* are training images too")
            data = load(name, folder)
    except InputError as error:
        event(f"{kind} refused")
        return None, str(error)
    event(f"{kind} read")
    return data, ""


@of_many
@given(file=st.integers(0, 4), mutations=st.lists(changes, min_size=1, max_size=3))
def test_a_mutated_directory_of_tfds_is_refused_or_read(
    tmp_path: Path, file: int, mutations: list[tuple[str, int, Any]]
) -> None:
    directory = tmp_path / "x" / "1.0.0"
    if not directory.exists():
        prepare(directory, {"train": 20, "test": 4})
    path = sorted(directory.iterdir())[file]
    content = path.read_bytes()
    path.write_bytes(functools.reduce(changed, mutations, content))
    data, problem = outcome("tfds", "tfds:x", tmp_path)
    path.write_bytes(content)
    if data is None:
        assert "\n" not in problem
    else:  # its records are checked, but not the descriptions beside them
        images = np.concatenate([data.train.images, data.validation.images])
        assert sorted(images[:, 4, 6, 0].tolist()) == list(range(20))
