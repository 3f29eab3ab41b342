"""The data set type, and how its splits are made."""

import functools
import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wna_jax.data.images import resize
from wna_jax.runs.errors import InputError, unknown_name

MIN_IMAGES = 10
SPLITS = dict.fromkeys(("train", "training"), "train")
SPLITS |= dict.fromkeys(("val", "valid", "validation"), "validation")
SPLITS |= dict.fromkeys(("test", "testing", "t10k"), "test")
"""What folders and arrays of a split are called."""
_DARK = 16  # levels of 255: what 12 bits in the place of 16, or sixteen levels in the place of 256, come to
_SEED = 20250101  # for every split made here; changing it makes checkpoints incomparable


class Split(NamedTuple):
    """Images and their labels: uint8 [N, H, W, C] and int32 [N]."""

    images: np.ndarray
    labels: np.ndarray


class Source(NamedTuple):
    """What a reader returns. Of the splits that are missing, `assemble` makes those that it can.

    `suffix` says in the name what the reader did to the images.
    """

    train: Split
    test: Split | None
    class_names: tuple[str, ...]
    validation: Split | None = None
    suffix: str = ""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A classification data set in three splits; the arrays are read-only.

    `validation`, where the data have none beside a test split, is a tenth of the training images, at most 5,000, drawn
    with a fixed seed; the rest of `train` keeps its order. `fingerprint` is the first 16 hex digits of a SHA-256 over
    the shapes, pixels and labels of all data before `validation` is split off: equal data have equal fingerprints,
    whichever files they came from.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    fingerprint: str

    def __repr__(self) -> str:
        """One line."""
        sizes = ", ".join(f"{len(getattr(self, part).labels):,} {part}" for part in ("train", "validation", "test"))
        pixels = "x".join(map(str, self.image_shape))
        return f"<Dataset {self.name!r} of {self.num_classes} classes: {sizes} images of {pixels} pixels>"

    def altered(self, what: str, train: Split, validation: Split | None = None) -> "Dataset":
        """This data set with other training (and validation) images or labels, a new name and a new fingerprint."""
        validation = self.validation if validation is None else validation
        digest = hashlib.sha256(self.fingerprint.encode())
        for array in (*train, *validation):
            digest.update(np.ascontiguousarray(array).data)
        name, fingerprint = f"{self.name}_{what}", digest.hexdigest()[:16]
        return replace(self, name=name, train=train, validation=validation, fingerprint=fingerprint)

    def resized(self, side: int) -> "Dataset":
        """This data set at side x side pixels (Lanczos), with a new name and a new fingerprint."""

        def at_size(split: Split) -> Split:
            return Split(np.stack([resize(image, side) for image in split.images]), split.labels)

        altered = self.altered(f"{side}x{side}", at_size(self.train), at_size(self.validation))
        return replace(altered, test=at_size(self.test))

    def members(self, k: int) -> np.ndarray:
        """The training images of class k, uint8 [n, H, W, C]."""
        return self.train.images[self.train.labels == k]

    @functools.cached_property
    def class_means(self) -> np.ndarray:
        """The mean training image of each class on the [0, 1] scale, [K, H, W, C]."""
        return np.stack([self.members(k).mean(axis=0) / 255 for k in range(self.num_classes)])

    @property
    def test_images(self) -> np.ndarray:
        """The test images, float32 on the [0, 1] scale."""
        return self.test.images / np.float32(255)

    def test_members(self, k: int) -> np.ndarray:
        """The test images of class k, float32 on the [0, 1] scale, [n, H, W, C]."""
        return self.test.images[self.test.labels == k] / np.float32(255)

    def label_of(self, class_name: str) -> int:
        """The label of the class of that name; an InputError if there is none."""
        if class_name not in self.class_names:
            raise unknown_name("class", class_name, self.class_names)
        return self.class_names.index(class_name)

    @property
    def title(self) -> str:
        """The name for figures: of a folder or file, only the last part of its path."""
        kind, _, path = self.name.partition(":")
        return f"{kind}:{Path(path).name}" if kind in ("folder", "arrays") else self.name

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        _, height, width, channels = self.train.images.shape
        return height, width, channels

    @property
    def num_classes(self) -> int:
        """Number of classes; labels lie in 0 .. num_classes - 1."""
        return len(self.class_names)

    def mean(self) -> np.ndarray:
        """Mean over all pixels of the training images, float32 [C], on the [0, 1] scale."""
        return self._moments[0]

    def deviation(self) -> np.ndarray:
        """Standard deviation (divisor N) over all pixels of the training images, float32 [C], on the [0, 1] scale."""
        return self._moments[1]

    @functools.cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        # 256 counts per channel give the exact moments without a float copy of the images.
        counts = np.zeros((self.image_shape[2], 256), np.int64)
        for channel, count in enumerate(counts):
            for start in range(0, len(self.train.images), 4096):
                count += np.bincount(self.train.images[start : start + 4096, ..., channel].ravel(), minlength=256)
        frequency, level = counts / counts.sum(axis=1, keepdims=True), np.arange(256) / 255
        mean = frequency @ level
        deviation = np.sqrt((frequency * (level - mean[:, None]) ** 2).sum(axis=1))
        return mean.astype(np.float32), deviation.astype(np.float32)


def assemble(name: str, source: Source, chosen: list[str] | None = None) -> Dataset:
    """Checks what a reader returned, chooses from its classes, and makes the three splits.

    A validation split takes the place of a missing test split. Warns of test images that are training images too.
    Raises InputError: labels do not match the images or are out of range, a class that was chosen does not exist, there
    are fewer than 10 images in all, or all of them are nearly black.
    """
    if source.test is None:
        source = source._replace(test=source.validation, validation=None)
    _check(name, source)
    if chosen:
        source = choose_classes(name, source, chosen)
    name += source.suffix
    everything = _splits_of(source)
    digest, sizes = hashlib.sha256(), [len(split.labels) for split in everything]
    if sum(sizes) < MIN_IMAGES or sizes[0] < 2 or 0 in sizes:
        got = " + ".join(map(str, sizes))
        raise InputError(f"{name}: {got} images are too few to split, expected at least {MIN_IMAGES}; add images")
    if (top := source.train.images.max()) <= _DARK:
        found = f"the brightest training pixel is {top} of 255, which is nearly black"
        raise InputError(f"{name}: {found}; stretch the levels (12 bits in 16: by 16; zeros and ones: by 255)")
    for images, labels in everything:
        digest.update(repr(images.shape).encode())
        digest.update(np.ascontiguousarray(images).data)
        digest.update(labels.astype("<i4").data)
    train, test, validation = source.train, source.test, source.validation
    if test is None:
        train, test = _hold_out(train, sizes[0] // 5)
    if validation is None:
        train, validation = _hold_out(train, min(5000, max(1, len(train.labels) // 10)))
    if shared := _shared(train, test):
        many = f"{shared:,} of {len(test.labels):,} test images are training images too"
        warnings.warn(f"{name}: {many}: accuracy on them says little of others", stacklevel=3)
    for array in (*train, *validation, *test):
        array.flags.writeable = False
    return Dataset(name, train, validation, test, source.class_names, digest.hexdigest()[:16])


def _splits_of(source: Source) -> list[Split]:
    return [split for split in (source.train, source.validation, source.test) if split is not None]


def _check(name: str, source: Source) -> None:
    """Raises an InputError unless there is a label per image, 0 to the number of classes, and one shape of images."""
    everything, last = _splits_of(source), len(source.class_names) - 1
    for images, labels in everything:
        if len(images) != len(labels) or images.shape[1:] != source.train.images.shape[1:]:
            found = " and ".join(f"{len(part.labels):,} labels for images {part.images.shape}" for part in everything)
            raise InputError(f"{name}: expected one label per image, all of one shape, got {found}; replace the data")
        if len(labels) and not 0 <= labels.min() <= labels.max() <= last:
            found = f"labels range from {labels.min()} to {labels.max()}, expected 0 to {last}"
            raise InputError(f"{name}: {found}; replace the data")


def _shared(train: Split, test: Split) -> int:
    """How many test images are training images to the last bit."""
    known = {hash(image.tobytes()) for image in train.images}
    return sum(hash(image.tobytes()) in known for image in test.images)


def check_classes(dataset: Dataset) -> None:
    """Raises an InputError unless a data set has at least two classes, and training images of each."""
    if dataset.num_classes < 2:
        way_out = "put images of two or more classes into a subfolder each, or choose two or more, as in mnist:5,6"
        raise InputError(f"{dataset.name} has one class: {way_out}")
    counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
    if not counts.all():
        lacking = ", ".join(dataset.class_names[k] for k in np.flatnonzero(counts == 0))
        raise InputError(f"{dataset.name} has no training images of {lacking}: add some, or remove the class")


def choose_classes(name: str, source: Source, chosen: list[str]) -> Source:
    """The images of the chosen classes, labelled in the order in which the classes are given.

    Raises InputError: a class that the source does not have, or one that is given twice.
    """
    for class_name in chosen:
        if class_name not in source.class_names:
            raise unknown_name(f"class of {name}:", class_name, source.class_names)
    if len(set(chosen)) < len(chosen):
        raise InputError(f"{name}: a class is given twice; give each class once")
    new_label = np.full(len(source.class_names), -1, np.int32)
    new_label[[source.class_names.index(class_name) for class_name in chosen]] = np.arange(len(chosen))

    def part(split: Split) -> Split:
        labels = new_label[split.labels]
        return Split(split.images[labels >= 0], labels[labels >= 0])

    return of_splits(source, part)._replace(class_names=tuple(chosen))


def of_splits(source: Source, change: Callable[[Split], Split]) -> Source:
    """A source of which every split is changed."""
    test, validation = (split and change(split) for split in (source.test, source.validation))
    return source._replace(train=change(source.train), test=test, validation=validation)


def _hold_out(split: Split, count: int) -> tuple[Split, Split]:
    """The rest, and `count` members drawn with the fixed seed; both keep the original order."""
    # NumPy guarantees the raw stream of PCG64, but not that of Generator.permutation.
    order = np.random.PCG64(_SEED).random_raw(len(split.labels)).argsort(kind="stable")
    held, rest = np.sort(order[:count]), np.sort(order[count:])
    return Split(split.images[rest], split.labels[rest]), Split(split.images[held], split.labels[held])


def printable(text: str | Path) -> str:
    """A text for figures, JSON files and messages of one line: escapes stand for what cannot be printed."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in str(text))


def reason(error: BaseException) -> str:
    """The message of another library's exception, on one line."""
    return printable(" ".join(str(error).split())[:300]) or type(error).__name__
