"""Images and labels in arrays: NPZ, NPY and IDX files of one's own."""

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import RNG, everything, idx, refused, sizes

from wna_jax.data import arrays, check_classes, load

IMAGES = RNG.integers(0, 256, (30, 4, 6), dtype=np.uint8)
LABELS = np.arange(30) % 3
SPLIT: dict[str, Any] = {"x_train": IMAGES[:20], "y_train": LABELS[:20], "x_test": IMAGES[20:], "y_test": LABELS[20:]}


def write_arrays(path: Path, as_folder: bool, **arrays: Any) -> str:
    if not as_folder:
        np.savez_compressed(path / "x.npz", **arrays)
        return f"arrays:{path / 'x.npz'}"
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)
    return f"arrays:{path}"


@pytest.mark.parametrize("as_folder", [False, True])
def test_arrays_become_images_and_labels(tmp_path: Path, as_folder: bool) -> None:
    data = load(write_arrays(tmp_path, as_folder, **SPLIT))
    assert (sizes(data), data.image_shape, data.class_names) == ([18, 2, 10], (4, 6, 1), ("0", "1", "2"))
    np.testing.assert_array_equal(data.test.images[..., 0], IMAGES[20:])
    np.testing.assert_array_equal(data.test.labels, LABELS[20:])
    assert data.title == f"arrays:{tmp_path.name if as_folder else 'x.npz'}"


@pytest.mark.parametrize(
    "arrays",
    [
        {"train_images": IMAGES[:20], "train_labels": LABELS[:20, None], "test_images": IMAGES[20:]}
        | {"test_labels": LABELS[20:].astype(np.uint8)},
        {"X_train": IMAGES[:20].astype(np.int64), "Y_train": LABELS[:20], "X_val": IMAGES[20:], "Y_val": LABELS[20:]},
        {
            "images": IMAGES[:20, ..., None],
            "labels": LABELS[:20],
            "test_data": IMAGES[20:],
            "test_targets": LABELS[20:],
        },
    ]
    + [SPLIT | {"x_train": (IMAGES[:20] / 255).astype(kind)} for kind in ("float16", "float32", "float64")],
)
def test_arrays_of_other_names_and_types_are_the_same_data(tmp_path: Path, arrays: dict[str, Any]) -> None:
    expected = load(write_arrays(tmp_path, True, **SPLIT))
    assert load(write_arrays(tmp_path, False, **arrays)).fingerprint == expected.fingerprint


def test_classes_of_arrays_are_those_that_occur_or_that_are_named(tmp_path: Path) -> None:
    assert load(write_arrays(tmp_path, False, x=IMAGES, y=LABELS * 10 + 1)).class_names == ("1", "11", "21")
    texts = np.array(["cat", "ant", "bee"])[LABELS]
    data = load(write_arrays(tmp_path, False, x=IMAGES, y=texts))
    assert data.class_names == ("ant", "bee", "cat")
    cats = {image.tobytes() for image in IMAGES[LABELS == 0]}
    images, labels = everything(data)
    assert {image.tobytes() for image in images[labels == data.label_of("cat")]} == cats
    bytes_of = write_arrays(tmp_path, False, x=IMAGES, y=texts.astype("S"))
    assert load(bytes_of).class_names == data.class_names
    named = load(write_arrays(tmp_path, False, x=IMAGES, y=LABELS, class_names=np.array(["a", "b", "c", "d"])))
    assert named.class_names == ("a", "b", "c", "d")
    with refused("no training images of d"):
        check_classes(named)
    alone = load(write_arrays(tmp_path, False, x=IMAGES))
    assert alone.class_names == ("image",)
    with refused("one class"):
        check_classes(alone)
    np.save(tmp_path / "alone.npy", IMAGES)
    assert load(f"arrays:{tmp_path / 'alone.npy'}").fingerprint == alone.fingerprint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x_train": np.moveaxis(np.stack([IMAGES[:20]] * 3, -1), -1, 1)}, ["channels first", "transpose(0, 2, 3, 1)"]),
        ({"x_train": IMAGES[:20].reshape(20, -1)}, ["(20, 24)", "[n, H, W]"]),
        ({"x_train": np.stack([IMAGES[:20]] * 4, -1)}, ["(20, 4, 6, 4)", "1 or 3 channels"]),
        ({"x_train": IMAGES[:20] / 1.0}, ["ranges from", "floats from 0 to 1"]),
        ({"x_train": np.where(IMAGES[:20] > 9, IMAGES[:20] / 255, np.nan)}, ["from nan to nan", "floats from 0 to 1"]),
        ({"x_train": IMAGES[:20] * np.uint16(257)}, ["bytes from 0 to 255"]),
        ({"x_train": IMAGES[:20] - np.int16(1)}, ["ranges from -1", "bytes from 0 to 255"]),
        ({"x_train": (IMAGES[:20] > 127) * 1}, ["1 of 255", "nearly black"]),
        ({"x_train": IMAGES[:20] >> 4}, ["15 of 255", "nearly black"]),
        ({"x_train": IMAGES[:20].astype(complex)}, ["complex128"]),
        ({"x_train": IMAGES[:20].astype(object)}, ["x.npz", "unreadable", "allow_pickle"]),
        ({"x_test": IMAGES[20:, :, :5]}, ["all of one shape", "(10, 4, 5, 1)"]),
        ({"y_train": LABELS[:19]}, ["19 labels"]),
        ({"y_train": LABELS[:20] / 1.0}, ["float64", "whole number"]),
        ({"y_train": np.eye(3)[LABELS[:20]]}, ["(20, 3)", "argmax"]),
        ({"y_train": np.array(["a"] * 20)}, ["texts and some are numbers"]),
        ({"y_train": np.array(7)}, ["shape ()"]),
        ({"class_names": np.array(["a", "b"])}, ["class_names", "labels from 0 to 1"]),
        ({"class_names": np.array(["a", "b", "a"])}, ["class_names that differ"]),
        ({"train_images": IMAGES[:20]}, ["two arrays of train images", "x_train"]),
        ({"x_tset": IMAGES[20:]}, ["unknown array 'x_tset'", "x_train, y_train"]),
        ({"x_val": IMAGES[20:]}, ["expected arrays", "x_val"]),
    ],
)
def test_arrays_that_are_no_images_or_labels_are_refused(tmp_path: Path, change: dict, words: list[str]) -> None:
    name = write_arrays(tmp_path, False, **(SPLIT | change))
    with refused("x.npz", *words):
        load(name)


def test_idx_files_of_other_data_are_read_from_their_folder(tmp_path: Path) -> None:
    arrays = {"train-images-idx3-ubyte": IMAGES[:20], "t10k-images-idx3-ubyte": IMAGES[20:]}
    labels = {"train-labels-idx1-ubyte": LABELS[:20], "t10k-labels-idx1-ubyte": LABELS[20:]}
    for name, array in (arrays | labels).items():
        (tmp_path / name).write_bytes(idx(array.astype(np.uint8)))
    (tmp_path / "README.txt").write_text("mine")
    data = load(f"arrays:{tmp_path}")
    (tmp_path / "arrays").mkdir()
    assert data.fingerprint == load(write_arrays(tmp_path / "arrays", True, **SPLIT)).fingerprint
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS[:19].astype(np.uint8)))
    with refused("19 labels"):
        load(f"arrays:{tmp_path}")


@pytest.mark.parametrize("name", ["x_test.npy", "test-images-idx3-ubyte", "test-images-idx3-ubyte.gz"])
def test_links_to_nothing_and_pipes_are_said(tmp_path: Path, name: str) -> None:
    of = write_arrays(tmp_path, True, x_train=IMAGES, y_train=LABELS)
    (tmp_path / name).symlink_to("nowhere")
    with refused(name, "a link to nothing"):
        load(of)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with refused(name, "no ordinary file"):
        load(of)


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    white = np.full((2_000, 20, 20), 255, np.uint8)
    name = write_arrays(tmp_path, False, images=white)
    (tmp_path / "images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(white)))
    with pytest.warns(UserWarning, match="are training images too"):
        expected = load(name).fingerprint
    monkeypatch.setattr(arrays, "_NO_BOMB", 100_000)
    for bomb in (name, f"arrays:{tmp_path}"):
        with refused("expands too much"):
            load(bomb)
    monkeypatch.setattr(arrays, "_NO_BOMB", 900_000)
    with pytest.warns(UserWarning, match="are training images too"):
        assert load(f"arrays:{tmp_path}").fingerprint == expected
