"""Argument checks shared by the statistics; they raise InputError."""

import numpy as np
from numpy.typing import ArrayLike

from wna_jax.runs.errors import InputError


def as_maps(what: str, values: ArrayLike) -> np.ma.MaskedArray:
    """Maps [..., H, W, C] as a masked float64 array; an InputError for another rank, NaN or infinity."""
    maps = np.ma.masked_array(values, dtype=np.float64)
    if maps.ndim < 3 or not maps.size:
        raise InputError(f"{what} has shape {maps.shape}: expected maps [..., height, width, channels]")
    if not np.isfinite(maps.compressed()).all():
        raise InputError(f"{what} contains NaN or infinite values: mask the maps that do not exist")
    return maps


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
