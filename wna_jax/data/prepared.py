"""Directories prepared by tensorflow_datasets (TFDS) as array_record, read without TensorFlow."""

import re
from pathlib import Path

import numpy as np

from wna_jax.data.dataset import Source, Split, reason
from wna_jax.data.images import decode, resize
from wna_jax.runs.errors import InputError


def how_to_prepare(name: str) -> str:
    """The advice for a user without an array_record directory of a data set."""
    builder = f"tfds.builder({name!r}, file_format='array_record')"
    return f"to make it, install TensorFlow and run {builder}.download_and_prepare()"


def find_prepared(name: str, root: Path, skip_other_formats: bool = False) -> Path | None:
    """The newest version of a data set that TFDS prepared as root / name / [configuration /] version, or None.

    Raises InputError: it exists only in a format other than array_record, which needs TensorFlow (unless such
    directories are to be skipped), or in several configurations.
    """
    base = root / name.replace(":", "/")
    infos = [info for depth in ("", "*/", "*/*/") for info in base.glob(f"{depth}dataset_info.json")] if name else []
    # The name of a finished directory is a version and nothing else.
    directories = [info.parent for info in infos if re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name)]
    usable = [path for path in directories if any(path.glob("*.array_record*"))]
    if directories and not usable and not skip_other_formats:
        raise InputError(f"{directories[0]} contains no array_record files; {how_to_prepare(name)}")
    if len({path.parent for path in usable}) > 1:
        options = ", ".join(sorted(f"tfds:{path.relative_to(root)}" for path in usable))
        raise InputError(f"{name}: {base} holds several configurations; choose one of {options}")
    return max(usable, key=lambda path: [int(part) for part in path.name.split(".")], default=None)


def read_prepared(directory: Path, side: int | None = None) -> Source:
    """Reads the train and test splits of a prepared directory; `validation` replaces a missing test split.

    Examples are sorted by the feature `id` where there is one, because TFDS stores them shuffled. Images are resized to
    side x side pixels if a side is given.
    Raises InputError: tensorflow_datasets is not installed, or the directory is damaged, or does not hold 8-bit images
    of one size (or a `side`) with a class each.
    """
    try:
        import tensorflow_datasets as tfds
        from array_record.python.array_record_module import ArrayRecordReader
    except ImportError as error:
        way_out = "run pip install tensorflow-datasets importlib_resources"
        raise InputError(f"{directory} needs tensorflow_datasets ({reason(error)}); {way_out}") from error

    try:
        builder = tfds.builder_from_directory(directory)
        splits, features = builder.info.splits, dict(builder.info.features.items())
    except Exception as error:  # TFDS and protobuf raise many types for a damaged file
        raise InputError(f"{directory}: unreadable ({reason(error)}); prepare the set again") from error
    if "train" not in splits:
        raise InputError(f"{directory}: expected a split train, got {', '.join(splits) or 'none'}; choose another set")
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        wanted = "the features image and label"
        raise InputError(f"{directory}: expected {wanted}, got {', '.join(features)}; choose another set")
    if image.np_dtype != np.uint8 or image.shape[-1] not in (1, 3):
        found = f"{np.dtype(image.np_dtype)} {image.shape}"
        raise InputError(f"{directory}: expected 8-bit images with 1 or 3 channels, got {found}; choose another set")

    was_resized = False

    def read(split: str) -> Split:
        nonlocal was_resized
        try:
            held = sum(ArrayRecordReader(str(path)).num_records() for path in splits[split].filepaths)
            if held != splits[split].num_examples:
                raise ValueError(f"{held:,} records, expected {splits[split].num_examples:,}")
            # Decoded with Pillow: as fast as TFDS, without its warning that OpenCV would be faster.
            source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
            examples = source.__getitems__(list(range(splits[split].num_examples)))
            if "id" in features:
                examples.sort(key=lambda example: example["id"])
            arrays = [decode(example["image"], image.shape[-1] == 1) for example in examples]
        except Exception as error:  # array_record and Pillow raise many types for a damaged file
            raise InputError(f"{directory}: {split} unreadable ({reason(error)}); prepare the set again") from error
        shapes = sorted({array.shape for array in arrays})
        if side and shapes != [(side, side, image.shape[-1])]:
            arrays, was_resized = [resize(array, side) for array in arrays], True
        elif len(shapes) != 1:
            found = f"expected {split} images of one shape, got {shapes[:5]}"
            raise InputError(f"{directory}: {found}; resize them to one size (--image_size=64)")
        return Split(np.stack(arrays), np.array([example["label"] for example in examples], np.int32))

    test = next((split for split in ("test", "validation") if split in splits), None)
    train, tests = read("train"), read(test) if test else None
    return Source(train, tests, tuple(label.names), suffix=f"_{side}x{side}" if was_resized else "")
