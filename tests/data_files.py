"""Small data sets for the tests of readers, and what is asked of every refusal."""

import contextlib
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
