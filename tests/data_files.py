"""Small data sets for the tests of readers, and what is asked of every refusal."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wna_jax.data import Dataset
from wna_jax.runs.errors import InputError

RNG = np.random.default_rng(0)


@contextlib.contextmanager
def refused(*words: str) -> Iterator[None]:
    """An InputError of one line that says each of the words."""
    with pytest.raises(InputError) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message


def sizes(data: Dataset) -> list[int]:
    return [len(split.labels) for split in (data.train, data.validation, data.test)]


def everything(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(data.train, data.validation, data.test, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write_images(folder: Path, count: int, mode: str = "L", size: tuple[int, int] = (6, 4)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels if mode == "RGB" else pixels[..., 0]).save(folder / f"{mode}{number:02}.png")


def prepare(directory: Path, splits: dict[str, int], unequal: bool = False) -> Path:
    """Write what TFDS would: grey images in any order, of class "odd" where their number, each pixel, is odd.

    They are 5x7 pixels, or, if they are to be unequal, the odd ones 6x7.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.file_adapters import ArrayRecordFileAdapter

    kinds = {"id": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["even", "odd"])}
    features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(None if unequal else 5, 7, 1)), **kinds})
    directory.mkdir(parents=True)
    features.save_config(directory)
    for split, count in splits.items():
        numbers = [int(number) for number in RNG.permutation(count)]
        images = [Image.fromarray(np.full((5 + number % 2 * unequal, 7), number, np.uint8)) for number in numbers]
        examples = [{"image": i, "label": n % 2, "id": f"{n:05}"} for i, n in zip(images, numbers, strict=True)]
        records = [(None, features.serialize_example(features.encode_example(example))) for example in examples]
        ArrayRecordFileAdapter.write_examples(directory / f"x-{split}.array_record-00000-of-00001", iter(records))
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    infos = [{"name": s, "shardLengths": [str(n)], "filepathTemplate": template} for s, n in splits.items()]
    info = {"name": "x", "version": directory.name, "fileFormat": "array_record", "splits": infos}
    (directory / "dataset_info.json").write_text(json.dumps(info))
    return directory
