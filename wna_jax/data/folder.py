"""Folders of images, with or without one subfolder per class."""

from pathlib import Path

import numpy as np
from PIL import Image

from wna_jax.data.dataset import MIN_IMAGES, Source, Split, pixels, reason
from wna_jax.runs.errors import InputError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_GREY_MODES = ("1", "L", "LA")


def read_folder(folder: Path) -> Source:
    """Reads the images of a folder, in the order of their names.

    The classes are the subfolders with images, in the order of their names; a folder that contains images directly has
    the single class "image". Images are grey (C = 1) if all of them are, else colour (C = 3); transparency is dropped.
    Raises InputError: no such folder, too few images, an unreadable image, or images of several sizes.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give folder:PATH, a folder of images or of class subfolders")
    loose = _images_in(folder)
    subfolders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    classes = {subfolder.name: paths for subfolder in subfolders if (paths := _images_in(subfolder))}
    if loose and classes:
        raise InputError(f"{folder} holds both images and subfolders with images; keep only one of the two")
    classes = classes or {"image": loose}
    paths = [path for members in classes.values() for path in members]
    if len(paths) < MIN_IMAGES:
        wanted = f"expected at least {MIN_IMAGES} ({' '.join(_SUFFIXES)})"
        raise InputError(f"{folder} holds {len(paths)} images, {wanted}; add images")
    arrays: list[np.ndarray] = []
    for path in paths:
        try:
            array = _pixels(path)
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error and more
            raise InputError(f"{path}: not a readable image ({reason(error)}); repair or remove it") from error
        arrays.append(array)
        if array.shape[:2] != arrays[0].shape[:2]:
            (a, b), (c, d) = arrays[0].shape[:2], array.shape[:2]
            raise InputError(f"{paths[0]} is {b}x{a} but {path} is {d}x{c}; resize the images to one size")
    channels = max(array.shape[2] for array in arrays)
    images = np.stack([np.broadcast_to(array, (*array.shape[:2], channels)) for array in arrays])
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), [len(members) for members in classes.values()])
    return Source(Split(images, labels), None, tuple(classes))


def _images_in(folder: Path) -> list[Path]:
    files = (path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    return sorted(path for path in files if not path.name.startswith("."))


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        if image.mode in ("I", "F") or image.mode.startswith("I;"):
            raise ValueError(f"more than 8 bits per channel, Pillow mode {image.mode}")
        return pixels(image, image.mode in _GREY_MODES)
