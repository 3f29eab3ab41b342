"""Folders of images: loose, with a subfolder per class, or with such folders for training and for testing."""

from pathlib import Path

import numpy as np

from wna_jax.data.dataset import MIN_IMAGES, SPLITS, Source, Split, printable, reason
from wna_jax.data.images import SUFFIXES, decode, middle, resize
from wna_jax.runs.errors import InputError

_LAYOUTS = "IMAGE, CLASS/IMAGE, or train/CLASS/IMAGE and test/CLASS/IMAGE"


def read_folder(folder: Path, side: int | None = None) -> Source:
    """Reads the images of a folder, in the order of their names, resized to side x side pixels if a side is given.

    The classes are the subfolders with images, in the order of their names; a folder that contains images directly has
    the single class "image". A folder whose subfolders are called train, and test or validation (or val), holds one
    such folder per split. Images are grey (C = 1) if all of them are, else colour (C = 3). Hidden files are skipped.
    Raises InputError: no such folder, too few images, an unreadable image, or images of several sizes and no `side`.
    """
    where = printable(folder)
    if not folder.is_dir():
        raise InputError(f"{where} is not a folder; give folder:PATH, a folder of images or of class subfolders")
    parts = _parts(folder)
    classes = {split: _classes_in(part) for split, part in parts.items()}
    names = tuple(classes["train"])
    for split, members in classes.items():
        if len(parts) > 1 and not any(members.values()):
            raise InputError(f"{printable(parts[split])} holds no images; add some, or remove the folder")
        if unknown := ", ".join(printable(name) for name in members if name not in names):
            raise InputError(f"{where}: {parts[split].name} has {unknown}, which train has not; expected {_LAYOUTS}")
    paths = [path for members in classes.values() for group in members.values() for path in group]
    if len(paths) < MIN_IMAGES:
        wanted = f"expected at least {MIN_IMAGES} ({' '.join(SUFFIXES)})"
        raise InputError(f"{where} holds {len(paths)} images, {wanted}; add images")
    arrays: list[np.ndarray] = []
    was_resized = False
    for path in paths:
        array = _read(path)
        if side and array.shape[:2] != (side, side):
            array, was_resized = resize(array, side), True
        arrays.append(array)
        if array.shape[:2] != arrays[0].shape[:2]:
            (a, b), (c, d) = arrays[0].shape[:2], array.shape[:2]
            sizes = f"{printable(paths[0])} is {b}x{a} but {printable(path)} is {d}x{c}"
            raise InputError(f"{sizes}; resize the images to one size (--image_size=64)")
    channels = max(array.shape[2] for array in arrays)
    pending = iter([np.broadcast_to(array, (*array.shape[:2], channels)) for array in arrays])
    splits = {}
    for split, members in classes.items():
        labels = np.repeat([names.index(name) for name in members], [len(group) for group in members.values()])
        splits[split] = Split(np.stack([next(pending) for _ in labels]), labels.astype(np.int32))
    class_names, suffix = tuple(map(printable, names)), f"_{side}x{side}" if was_resized else ""
    return Source(splits["train"], splits.get("test"), class_names, splits.get("validation"), suffix)


def _parts(folder: Path) -> dict[str, Path]:
    """The folder of each split, "train" first; the folder itself as "train" where it is not made of splits."""
    subfolders = _subfolders(folder)
    splits = [SPLITS.get(path.name.lower(), "") for path in subfolders]
    if "" in splits or "train" not in splits or len(splits) < 2 or image_files(folder):
        return {"train": folder}
    if len(set(splits)) < len(splits):
        names = ", ".join(path.name for path in subfolders)
        raise InputError(f"{printable(folder)} holds {names}: expected one folder per split; keep one of each")
    found = dict(zip(splits, subfolders, strict=True))
    return {split: found[split] for split in ("train", "validation", "test") if split in found}


def _classes_in(folder: Path) -> dict[str, list[Path]]:
    """The images of each class, which may be none."""
    loose, subfolders = image_files(folder), _subfolders(folder)
    classes = {path.name: images for path in subfolders if (images := image_files(path))}
    if loose and classes:
        where = printable(folder)
        raise InputError(f"{where} holds both images and subfolders with images; keep only one of the two")
    for path in subfolders:
        if deep := next((below for below in _subfolders(path) if image_files(below)), None):
            raise InputError(f"{printable(deep)} holds images too far down: expected {_LAYOUTS}; move them")
    return classes or {"image": loose}


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def read_image(path: Path, shape: tuple[int, int, int]) -> tuple[np.ndarray, str]:
    """One image file as a network takes it, uint8 [H, W, C], and in words what was done for that ("" for nothing).

    It is grey if C is 1. Of an image that is wider or higher than the network's the middle is taken, so that nothing is
    stretched, and brought to the size (Lanczos).

    Raises:
        InputError: it is not there, or not an image.
    """
    image = _read(path, grey=shape[2] == 1)
    part = middle(image, *shape[:2])
    (wide, high), (whole_wide, whole_high) = part.shape[1::-1], image.shape[1::-1]
    done = [f"the middle {wide}x{high} of {whole_wide}x{whole_high} pixels"] * (part.shape != image.shape)
    done += [f"resized from {wide}x{high} to {shape[1]}x{shape[0]}"] * ((high, wide) != shape[:2])
    return resize(part, shape[:2]), ", ".join(done)


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder, in the order of their names; hidden files and subfolders are skipped."""
    files = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.is_dir())
    return sorted(path for path in files if not path.name.startswith("."))


def _read(path: Path, grey: bool | None = None) -> np.ndarray:
    try:
        if not path.is_file():  # reading a pipe would wait for ever
            raise ValueError("a link to nothing, or no ordinary file" if path.is_symlink() else "no such file")
        return decode(path.read_bytes(), grey)
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error and more
        problem = f"{printable(path)}: not a readable image ({reason(error)})"
        raise InputError(f"{problem}; repair or remove it") from error
