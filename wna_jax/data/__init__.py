"""Image data sets as uint8 arrays: MNIST, Fashion-MNIST, CIFAR-10, digits, prepared TFDS directories, image folders.

Everything is read with NumPy and Pillow, without TensorFlow. Only what is missing is downloaded, and every published
file is checked against the sha256 that tensorflow_datasets (TFDS) lists for it.
"""

import difflib
import os
from pathlib import Path

import numpy as np
from PIL import Image

from wna_jax.data.dataset import Dataset, Source, Split, assemble, reason
from wna_jax.data.folder import read_folder
from wna_jax.data.prepared import find_prepared, how_to_prepare, read_prepared
from wna_jax.data.published import CLASS_NAMES, read_published
from wna_jax.errors import InputError
from wna_jax.progress import Report, silent

__all__ = ["Dataset", "Split", "load"]

_GREY = ":grey"


def load(name: str, data_dir: str | Path | None = None, report: Report = silent) -> Dataset:
    """Load a data set by name.

    Args:
        name: `digits` (scikit-learn's 1,797 digits, resized to 28x28), `mnist`, `fashion_mnist`, `cifar10`,
            `folder:PATH` (an image folder: a subfolder for each class, or images only) or `tfds:NAME` (a directory
            prepared by TFDS as array_record, with features `image` and `label`; NAME may go on to a configuration and
            a version, as in `kmnist:3.0.1`). Where such a directory exists the prefix `tfds:` can be left out. With
            `:grey` behind it, as in `cifar10:grey`, the mean of the channels of each image.
        data_dir: where to look for the folder `mnist/`, `cifar10/`, ...: published files (the IDX files of MNIST with
            or without .gz, cifar-10-binary.tar.gz or its cifar-10-batches-bin/) or a prepared TFDS directory. Without
            it `./data` is looked at. After it come the TFDS directory (TFDS_DATA_DIR, else ~/tensorflow_datasets), our
            cache (WNA_JAX_CACHE, else XDG_CACHE_HOME/wna_jax, else ~/.cache/wna_jax), and a download into the cache.
        report: progress of downloads, in bytes.

    Returns:
        The data set, in its published order (for TFDS: sorted by the feature `id` where there is one). A set without a
        test split gets one: its validation split if it has that, else a fifth of its images drawn by a fixed seed.

    Raises:
        InputError: the name is unknown, or the data are missing, damaged, not those published, or too few.
    """
    coloured = name.removesuffix(_GREY)
    try:
        source = _read(coloured, data_dir, report)
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({reason(error)}); check that file and its permissions") from error
    return assemble(name, source if name == coloured else _to_grey(source))


def _to_grey(source: Source) -> Source:
    def grey(split: Split) -> Split:
        channels = split.images.shape[-1]
        total = split.images.sum(axis=-1, dtype=np.uint32, keepdims=True)
        return Split(((total + channels // 2) // channels).astype(np.uint8), split.labels)

    return Source(grey(source.train), source.test and grey(source.test), source.class_names)


def _read(name: str, data_dir: str | Path | None, report: Report) -> Source:
    if name == "digits":
        return _read_digits()
    if name.startswith("folder:"):
        return read_folder(Path(name.removeprefix("folder:")).expanduser())
    given = Path(data_dir or "data").expanduser()
    if data_dir and not given.is_dir():
        raise InputError(f"data_dir {given} is not a directory; give the one that holds the data sets, or none")
    home = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    if name in CLASS_NAMES:
        return read_published(name, given, home, report)

    short = name.removeprefix("tfds:")
    if directory := find_prepared(short, given) or find_prepared(short, home):
        return read_prepared(directory)
    if short != name:
        raise InputError(f"{name}: no prepared directory of that name in {given} or {home}; {how_to_prepare(short)}")
    known = ("digits", *CLASS_NAMES)
    close = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise InputError(f"unknown data set {name!r}{hint}: expected {', '.join(known)}, folder:PATH or tfds:NAME")


def _read_digits() -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = np.round(digits.images * (255 / 16)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(image).resize((28, 28), Image.Resampling.BICUBIC)) for image in small]
    return Source(Split(np.stack(large)[..., None], digits.target.astype(np.int32)), None, tuple("0123456789"))
