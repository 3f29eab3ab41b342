"""Image data sets as uint8 arrays: MNIST, Fashion-MNIST, CIFAR-10, digits, image folders, arrays, TFDS directories.

Everything is read with NumPy and Pillow, without TensorFlow. Missing files are downloaded, and what is in a published
file is checked against its SHA-256, compressed or not.
"""

import difflib
import os
from pathlib import Path

import numpy as np
from PIL import Image

from wna_jax.data.arrays import read_arrays
from wna_jax.data.dataset import Dataset, Source, Split, assemble, check_classes, of_splits, printable, reason
from wna_jax.data.folder import image_files, read_folder, read_image
from wna_jax.data.prepared import find_prepared, how_to_prepare, read_prepared
from wna_jax.data.published import CLASS_NAMES, read_published
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Report, silent

__all__ = ["Dataset", "Split", "check_classes", "image_files", "load", "read_image"]


def load(
    name: str, data_dir: str | Path | None = None, report: Report = silent, image_size: int | None = None
) -> Dataset:
    """Loads a data set by name.

    Names are `digits` (scikit-learn's 1,797 digits, resized to 28x28), `mnist`, `fashion_mnist`, `cifar10`,
    `folder:PATH` (a folder of images, see `folder.read_folder`), `arrays:PATH` (images and labels in an NPZ file, or in
    a folder of NPY or IDX files, see `arrays.read_arrays`) or `tfds:NAME` (a directory prepared by tensorflow_datasets
    (TFDS) as array_record, with features `image` and `label`; NAME may include a configuration and a version, as in
    `kmnist:3.0.1`). Where such a directory exists the prefix `tfds:` is optional. A suffix `:grey`, as in
    `cifar10:grey`, averages the channels of each image. A final list of class names, as in `mnist:5,6`, selects these
    classes in this order. With `image_size` images are resized (Lanczos) to that many pixels per side, whatever their
    height and width were; they may then differ in size.

    The folder `mnist/`, `cifar10/`, ... is looked for in `data_dir`, by default `./data`: published files (the IDX
    files of MNIST with or without .gz, also in torchvision's MNIST/raw; cifar-10-binary.tar.gz or its
    cifar-10-batches-bin/) or a prepared TFDS directory. Searched next are the TFDS directory (TFDS_DATA_DIR, else
    ~/tensorflow_datasets) and the cache (`runs.files.cache_directory`), into which missing files are downloaded.

    The data set has its published order (for TFDS: sorted by the feature `id` where there is one). Without a test
    split, the validation split is used, or else a fifth of the images drawn with a fixed seed.

    Raises:
        InputError: the name or a class is unknown, or the data are missing, damaged, not as published, or too few.
    """
    if image_size is not None and image_size < 1:
        raise InputError(f"image_size is {image_size}: expected pixels per side, at least 1, or None")
    whole, _, chosen = name.rpartition(":")
    if "," not in chosen or whole in ("", "folder", "arrays", "tfds"):  # such as folder:a,b, which is a path
        whole, chosen = name, ""
    coloured = whole.removesuffix(":grey")
    try:
        source = _read(coloured, data_dir, report, image_size)
    except OSError as error:
        raise InputError(
            f"{printable(name)}: cannot be read ({reason(error)}); check the file and its permissions"
        ) from error
    if whole != coloured:
        source = of_splits(source, _grey)
    dataset = assemble(printable(name), source, chosen.split(",") if chosen else None)
    return dataset.resized(image_size) if image_size and dataset.image_shape[:2] != (image_size,) * 2 else dataset


def _grey(split: Split) -> Split:
    channels = split.images.shape[-1]
    total = split.images.sum(axis=-1, dtype=np.uint32, keepdims=True)
    return Split(((total + channels // 2) // channels).astype(np.uint8), split.labels)


def _read(name: str, data_dir: str | Path | None, report: Report, image_size: int | None) -> Source:
    if name == "digits":
        return _read_digits()
    if name in ("folder:", "arrays:"):
        raise InputError(f"data set {name!r} names nothing: expected a path behind the colon")
    if name.startswith("folder:"):
        return read_folder(_expanded(name.removeprefix("folder:")), image_size)
    if name.startswith("arrays:"):
        return read_arrays(_expanded(name.removeprefix("arrays:")))
    given = _expanded(data_dir or "data")
    if data_dir and not given.is_dir():
        raise InputError(f"data_dir {given} is not a directory; give the directory that holds the data sets, or none")
    home = _expanded(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    if name in CLASS_NAMES:
        return read_published(name, given, home, report)

    short = name.removeprefix("tfds:")
    if directory := find_prepared(short, given) or find_prepared(short, home):
        return read_prepared(directory, image_size)
    if short != name:
        raise InputError(f"{name}: no prepared directory of that name in {given} or {home}; {how_to_prepare(short)}")
    if name and _expanded(name).exists():
        kind = "folder" if _expanded(name).is_dir() else "arrays"
        raise InputError(f"data set {name!r} is a path: give folder:PATH or arrays:PATH, here {kind}:{name}")
    known = ("digits", *CLASS_NAMES)
    whole, _, one = name.rpartition(":")
    if whole in known:
        raise InputError(f"data set {name!r} names one class: choose two or more, as in {whole}:{one},...")
    close = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    choices = f"{', '.join(known)}, folder:PATH, arrays:PATH or tfds:NAME, or two or more classes of one of these"
    raise InputError(f"unknown data set {name!r}{hint}: expected {choices}, as in mnist:5,6")


def _expanded(path: str | Path) -> Path:
    return Path(os.path.expanduser(path))  # Path.expanduser raises where nobody is at home


def _read_digits() -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = np.round(digits.images * (255 / 16)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(image).resize((28, 28), Image.Resampling.BICUBIC)) for image in small]
    return Source(Split(np.stack(large)[..., None], digits.target.astype(np.int32)), None, tuple("0123456789"))
