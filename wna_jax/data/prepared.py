"""Directories that tensorflow_datasets (TFDS) prepared as array_record, read without TensorFlow."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wna_jax.data.dataset import Source, Split, reason
from wna_jax.errors import InputError


def how_to_prepare(name: str) -> str:
    """What to tell a user who has no array_record directory of a set."""
    return (
        f"where TensorFlow is installed, tfds.builder({name!r}, file_format='array_record').download_and_prepare() "
        "makes it"
    )


def find_prepared(name: str, root: Path, skip_other_formats: bool = False) -> Path | None:
    """The newest version of a set that TFDS prepared as root / name / [configuration /] version, or None.

    Raises:
        InputError: it is there in another format than array_record, which TensorFlow alone can read (unless such a
            directory is to be skipped), or in several configurations.
    """
    base = root / name.replace(":", "/")
    infos = [info for depth in ("", "*/", "*/*/") for info in base.glob(f"{depth}dataset_info.json")] if name else []
    # Only a finished directory has a version, and nothing else, for its name.
    directories = [info.parent for info in infos if re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name)]
    usable = [path for path in directories if any(path.glob("*.array_record*"))]
    if directories and not usable and not skip_other_formats:
        raise InputError(f"{directories[0]} has no array_record files, which were expected; {how_to_prepare(name)}")
    if len({path.parent for path in usable}) > 1:
        options = ", ".join(sorted(f"tfds:{path.relative_to(root)}" for path in usable))
        raise InputError(f"{name}: {base} holds several configurations; choose one of {options}")
    return max(usable, key=lambda path: [int(part) for part in path.name.split(".")], default=None)


def read_prepared(directory: Path) -> Source:
    """Read the train and test splits of a prepared directory; without a test split, `validation` takes its place.

    The examples are sorted by the feature `id`, where there is one: TFDS stores them shuffled.

    Raises:
        InputError: the directory is damaged, or is not a set of equally large 8-bit images with a class each.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(directory)
        splits, features = builder.info.splits, dict(builder.info.features.items())
    except Exception as error:  # TFDS and protobuf raise many types for one damaged file
        raise InputError(f"{directory}: unreadable ({reason(error)}); prepare the set again") from error
    if "train" not in splits:
        raise InputError(f"{directory}: expected a split train, got {', '.join(splits) or 'none'}; choose another set")
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        raise InputError(
            f"{directory}: expected the features image and label, got {', '.join(features)}; choose another set"
        )
    if image.np_dtype != np.uint8 or image.shape[-1] not in (1, 3):
        raise InputError(
            f"{directory}: expected 8-bit images with 1 or 3 channels, got {np.dtype(image.np_dtype)} {image.shape}; "
            "choose another set"
        )

    def read(split: str) -> Split:
        try:
            # Pillow decodes here: as fast as TFDS itself, without its warning that OpenCV would be faster.
            source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
            examples = source.__getitems__(list(range(splits[split].num_examples)))
            if "id" in features:
                examples.sort(key=lambda example: example["id"])
            arrays = [_pixels(example["image"], image.shape[-1]) for example in examples]
        except Exception as error:  # array_record and Pillow raise many types for one damaged file
            raise InputError(f"{directory}: {split} unreadable ({reason(error)}); prepare the set again") from error
        shapes = sorted({array.shape for array in arrays})
        if len(shapes) != 1:
            raise InputError(f"{directory}: expected {split} images of one shape, got {shapes[:5]}; choose another set")
        return Split(np.stack(arrays), np.array([example["label"] for example in examples], np.int32))

    test = next((split for split in ("test", "validation") if split in splits), None)
    return Source(read("train"), read(test) if test else None, tuple(label.names))


def _pixels(encoded: Any, channels: int) -> np.ndarray:
    """One PNG or JPEG as uint8 [H, W, channels]."""
    mode = "L" if channels == 1 else "RGB"
    with Image.open(io.BytesIO(encoded)) as image:
        array = np.asarray(image if image.mode == mode else image.convert(mode))
    return array if array.ndim == 3 else array[..., None]
