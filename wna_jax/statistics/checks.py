"""Argument checks shared by the statistics, which raise InputError, and the pixels that a test is about.

A test is about the pixels of a map that are not masked. A region of interest (`roi`), bool [H, W] or [H, W, C] and the
same for all maps, masks what is outside of it; it must be chosen before the map is seen.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike

from wna_jax.runs.errors import InputError


def as_maps(what: str, values: ArrayLike, roi: ArrayLike | None = None) -> np.ma.MaskedArray:
    """Maps [..., H, W, C] as a masked float64 array, in a region; an InputError for another rank, NaN or infinity."""
    maps = np.ma.masked_array(values, dtype=np.float64)
    if maps.ndim < 3 or not maps.size:
        raise InputError(f"{what} has shape {maps.shape}: expected maps [..., height, width, channels]")
    if not np.isfinite(maps.compressed()).all():
        raise InputError(f"{what} contains NaN or infinite values: mask the maps that do not exist")
    return maps if roi is None else np.ma.masked_where(~as_roi(roi, maps.shape) | maps.mask, maps)


def as_roi(roi: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """A region of interest, bool [H, W] or [H, W, C], for maps of a shape [..., H, W, C]: bool of that shape."""
    inside, pixels = np.asarray(roi), shape[-3:]
    if inside.dtype != bool or inside.shape not in (pixels, pixels[:2]):
        given = f"a region of interest of {inside.dtype} {inside.shape}"
        raise InputError(f"{given}: expected bool {pixels[:2]} or {pixels}, True inside")
    if not inside.any():
        raise InputError("a region of interest without a pixel: expected True in at least one")
    return np.broadcast_to(inside if inside.ndim == 3 else inside[..., None], shape)


def region_of(maps: np.ma.MaskedArray) -> np.ndarray:
    """The pixels that tests of some maps are about, bool [..., H, W, C].

    Those that are not masked; where a whole map is masked, since there is none, those of any other map.
    """
    present = ~np.ma.getmaskarray(maps)
    shared = present.any(axis=tuple(range(maps.ndim - 3)))
    missing = ~present.any(axis=(-3, -2, -1), keepdims=True)
    return np.where(missing, shared | ~shared.any(), present)


def rectangle(image_shape: tuple[int, ...], row: int, column: int, height: int, width: int) -> Bool[np.ndarray, "H W"]:
    """A region of interest: the pixels of a rectangle, counted from the upper left corner of an image [H, W, ...].

    Raises:
        InputError: a rectangle without a pixel, or one that is not inside the image.
    """
    rows, columns = image_shape[:2]
    if min(row, column) < 0 or min(height, width) < 1 or row + height > rows or column + width > columns:
        given = f"a rectangle of {height}x{width} pixels at row {row}, column {column}"
        raise InputError(f"{given}: expected one inside images of {rows}x{columns}, rows and columns counted from 0")
    inside = np.zeros((rows, columns), bool)
    inside[row : row + height, column : column + width] = True
    return inside


def in_region(nulls: Iterable[np.ndarray], maps: np.ma.MaskedArray) -> Iterator[np.ndarray]:
    """Null maps in the pixels that tests of some maps are about: of the shape of the maps, or of some or one of them.

    Raises:
        InputError: nulls of another shape, or fewer than the maps, which are masked in different pixels.
    """
    region = region_of(maps)
    for null in nulls:
        own = region
        while own.ndim > np.ndim(null):
            if (own != own[:1]).any():
                raise InputError(f"maps {maps.shape} masked in different pixels: expected nulls of the same shape")
            own = own[0]
        if own.shape != null.shape:
            raise InputError(f"a null map has shape {null.shape}: expected {maps.shape} or {maps.shape[-3:]}")
        yield null if own.all() else np.ma.masked_where(~own | np.ma.getmaskarray(null), null)


def check_alpha(alpha: float) -> None:
    """Checks a significance level."""
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha is {alpha}: expected a significance level above 0 and below 0.5, such as 0.05")


def check_confidence(confidence: float) -> None:
    """Checks the confidence level of an interval."""
    if not 0.5 <= confidence < 1:
        raise InputError(f"confidence is {confidence}: expected at least 0.5 and below 1, such as 0.95")


def check_at_least(what: str, value: float, least: float) -> None:
    """Checks that a number is finite and at least `least`."""
    if not least <= value < np.inf:
        raise InputError(f"{what} is {value}: expected a finite number of at least {least}")
