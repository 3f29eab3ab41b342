"""Is there any structure in a map? A test against a map of mere noise, exact for any size of image."""

import numpy as np
from scipy import fft, optimize, special

LENGTH = 2.0
"""In pixels, of the smooth maps that the test is most powerful for."""


def structure_p_value(whitened_chw: np.ndarray) -> float:
    """P of a map of independent N(0, 1) pixels with as much power at low spatial frequencies.

    The statistic is T = sum lambda_i c_i^2 over the map's cosine coefficients c, weighted by the spectrum of smooth
    maps with a length of 2 pixels: the score of the prior's strength at 0, locally the most powerful test of a smooth
    map against none. Without structure T is a weighted sum of chi-squares; P is its saddlepoint approximation (Kuonen
    1999, Biometrika 86:929).
    """
    coefficients = fft.dctn(whitened_chw, axes=(1, 2), norm="ortho")
    frequencies = [np.arange(count) / (2 * count) for count in whitened_chw.shape[1:]]
    rows, columns = (1 / (1 + (2 * np.pi * LENGTH * own) ** 2 / 3) ** 2 for own in frequencies)  # of Matern 3/2
    weights = np.broadcast_to(np.outer(rows, columns), whitened_chw.shape)
    return weighted_chi_square_tail(float((weights * coefficients**2).sum()), weights.ravel())


def weighted_chi_square_tail(value: float, weights: np.ndarray) -> float:
    """P(sum w_i x_i^2 > value) for independent N(0, 1) x_i and weights > 0, by the saddlepoint approximation."""
    scaled = weights / weights.max()
    value = value / weights.max()
    if value <= 0:
        return 1.0
    mean = scaled.sum()
    if abs(value / mean - 1) < 1e-6:
        value = mean * (1 + 1e-6)  # where the approximation has a removable singularity

    def slope(s: float) -> float:
        return float((scaled / (1 - 2 * s * scaled)).sum()) - value

    low = -0.5 * len(scaled) / value
    at = optimize.brentq(slope, low - 1, 0.5 - 1e-9 / max(value, 1)) if value > 0 else 0.0
    cumulant = -0.5 * np.log1p(-2 * at * scaled).sum()
    curvature = 2 * (scaled**2 / (1 - 2 * at * scaled) ** 2).sum()
    w = np.sign(at) * np.sqrt(max(2 * (at * value - cumulant), 0))
    v = at * np.sqrt(curvature)
    return float(special.ndtr(-(w + np.log(v / w) / w)))
