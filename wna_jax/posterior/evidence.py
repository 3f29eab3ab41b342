"""The evidence for a smooth, local prior of one map, its gradient, and the posterior: all in closed form.

A map in standard errors is z = k + e. The errors e are independent N(0, 1), or correlated along rows and columns as
R_h (x) R_w. Under the prior k ~ N(0, K_h (x) K_w (x) S + v R_h (x) R_w) all of it factorises in the eigenvectors of
three small matrices: an image of 224x224x3 needs those of two 224x224 matrices and of one 3x3 matrix, never one of all
pixels. Along an axis

    K[i, j] = w_i w_j m(|i - j| / length) cos(2 pi frequency (i - j)),   w_i = exp(-(i - centre)^2 / (4 width^2))

with the Matern kernel m(r) = (1 + sqrt(3) r) exp(-sqrt(3) r). S is the covariance of channels, v the variance of detail
that no neighbour shares.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg, optimize

AXIS = 4
"""Numbers per image axis: log length, frequency, centre in axis lengths, log width in axis lengths."""
FREQUENCIES = (1, AXIS + 1)
_SPREAD = 1.1
"""Radius of the points that the posterior is averaged over, in units of sqrt(parameters) deviations."""
_STEP = 1e-4
_FARTHEST = 6
"""Deviations of its hyperprior within which a number is sought."""
_STEPS = 60
_FLAT = 0.01
"""Slope of the log density at which the search ends."""
_SMALL = 48
"""Pixels per side: the search for the numbers of a larger image starts with its squares of pixels."""


@dataclass(frozen=True)
class Problem:
    """One map z [C, H, W] in standard errors, and what is known of its errors.

    `roots` are R_h^(1/2) and R_w^(1/2), symmetric, or None where errors are independent.
    """

    z: np.ndarray
    roots: tuple[np.ndarray | None, np.ndarray | None] = (None, None)

    @cached_property
    def whitened(self) -> np.ndarray:
        """R_h^(-1/2) z R_w^(-1/2): with errors that are independent N(0, 1)."""
        rows, columns = self.roots
        z = self.z if rows is None else np.linalg.solve(rows, self.z)
        return z if columns is None else np.swapaxes(np.linalg.solve(columns, np.swapaxes(z, 1, 2)), 1, 2)

    @property
    def channels(self) -> int:
        """C."""
        return len(self.z)

    @cached_property
    def hyperprior(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of the normal priors of all numbers: weak, but no number is left to the noise alone.

        A length of 2 pixels within a factor of e, a window in the middle with half the image as its width, a map of one
        standard error and detail of a tenth within factors of e^2.
        """
        axis, spread = [np.log(2.0), 0.0, 0.5, np.log(0.5)], [1.0, 0.25, 0.25, 1.0]
        channels = self.channels
        others = channels * (channels - 1) // 2
        mean = np.array([*axis, *axis, *[0.0] * channels, *[0.0] * others, np.log(0.1)])
        return mean, np.array([*spread, *spread, *[2.0] * channels, *[2.0] * others, 2.0])


@dataclass(frozen=True)
class Evidence:
    """What one prior says of a map.

    `log_density` is log N(z; 0, prior + errors) + log hyperprior, less that of errors alone and without the
    hyperprior's constant; `gradient` its slopes. `variance` [C, H, W] is the prior's, of each coefficient of the map in
    the eigenvectors `vectors`, in units of that of its error.
    """

    log_density: float
    gradient: np.ndarray
    vectors: tuple[np.ndarray, np.ndarray, np.ndarray]
    variance: np.ndarray
    coefficients: np.ndarray


def axis_kernel(count: int, numbers: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """K [n, n] along an axis of n pixels, and its derivative with respect to each of the axis' numbers."""
    length, frequency, centre, width = np.exp(numbers[0]), numbers[1], numbers[2] * count, np.exp(numbers[3]) * count
    place = np.arange(count) + 0.5
    lag = place[:, None] - place
    r = np.sqrt(3) * np.abs(lag) / length
    window = np.exp(-(((place - centre) / width) ** 2) / 4)
    envelope = np.exp(-r) * np.outer(window, window)
    wave = np.cos(2 * np.pi * frequency * lag)
    kernel = (1 + r) * wave * envelope
    by_frequency = -2 * np.pi * lag * np.sin(2 * np.pi * frequency * lag) * (1 + r) * envelope
    by_centre = (place - centre) * count / (2 * width**2)
    by_width = ((place - centre) / width) ** 2 / 2
    of_window = [kernel * np.add.outer(by, by) for by in (by_centre, by_width)]
    return kernel, [r**2 * wave * envelope, by_frequency, *of_window]


def channel_root(numbers: np.ndarray, channels: int) -> np.ndarray:
    """L of the channels' covariance S = L L^T: L[i, j] = exp(log scale_i) o_ij, with o_ii = 1."""
    root = np.eye(channels)
    root[np.tril_indices(channels, -1)] = numbers[channels:]
    return np.exp(numbers[:channels])[:, None] * root


def evidence(problem: Problem, numbers: np.ndarray, gradient: bool = True) -> Evidence:
    """What the prior of these numbers says of a map."""
    whitened = problem.whitened
    channels, *size = whitened.shape
    root = channel_root(numbers[2 * AXIS : -1], channels)
    detail = np.exp(2 * numbers[-1])
    kernels, slopes_of = [], []
    for count, own, error in zip(size, (numbers[:AXIS], numbers[AXIS : 2 * AXIS]), problem.roots, strict=True):
        kernel, derivatives = axis_kernel(count, own)
        kernels.append(_both_sides(kernel, error))
        slopes_of.append(derivatives)
    (eh, vh), (ew, vw), (ec, vc) = (linalg.eigh(kernel) for kernel in (*kernels, root @ root.T))
    eh, ew, ec = np.maximum(eh, 0)[:, None], np.maximum(ew, 0), np.maximum(ec, 0)[:, None, None]
    coefficients = np.tensordot(vc.T, vh.T @ whitened @ vw, 1)
    variance = ec * (eh * ew) + detail
    total = variance + 1
    answer = coefficients / total
    mean, deviation = problem.hyperprior
    away = (numbers - mean) / deviation
    log_density = -0.5 * ((np.log(total) - coefficients * answer * variance).sum() + (away**2).sum())
    slopes = np.zeros(len(numbers))
    if gradient:  # d log N / d K = (K^-1 z z^T K^-1 - K^-1) / 2, summed over the other two axes
        by_rows = _products(answer * (ec * ew), answer) - np.diag((ec * ew / total).sum(axis=(0, 2)))
        turned = np.swapaxes(answer, 1, 2)
        by_columns = _products(turned * (ec * eh[:, 0]), turned) - np.diag((ec * eh / total).sum(axis=(0, 1)))
        over = (answer * (eh * ew)).reshape(channels, -1)
        by_channels = over @ answer.reshape(channels, -1).T - np.diag((eh * ew / total).sum(axis=(1, 2)))
        for axis, (own, vectors) in enumerate(((by_rows, vh), (by_columns, vw))):
            back = _both_sides(vectors @ own @ vectors.T, problem.roots[axis])
            slopes[axis * AXIS : (axis + 1) * AXIS] = [0.5 * np.vdot(back, slope) for slope in slopes_of[axis]]
        by_root = vc @ by_channels @ vc.T @ root
        slopes[2 * AXIS : 2 * AXIS + channels] = (by_root * root).sum(axis=1)
        of_rows = np.exp(numbers[2 * AXIS : 2 * AXIS + channels])[:, None]
        slopes[2 * AXIS + channels : -1] = (by_root * of_rows)[np.tril_indices(channels, -1)]
        slopes[-1] = detail * (answer**2 - 1 / total).sum()
        slopes -= away / deviation
    return Evidence(float(log_density), slopes, (vh, vw, vc), variance, coefficients)


def _both_sides(matrix: np.ndarray, root: np.ndarray | None) -> np.ndarray:
    """R^(-1/2) M R^(-1/2)."""
    return matrix if root is None else np.linalg.solve(root, np.linalg.solve(root, matrix).T).T


def _products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """sum over c of a_c b_c^T."""
    return (a @ np.swapaxes(b, 1, 2)).sum(axis=0)


@dataclass(frozen=True)
class Fit:
    """The best numbers of a prior, which of them are `free`, and the covariance [p, p] of those that are.

    `log_evidence` is log of the probability of the map, over all numbers (Laplace's approximation), less that of errors
    alone.
    """

    problem: Problem
    numbers: np.ndarray
    free: np.ndarray
    covariance: np.ndarray
    log_evidence: float


def fit(problem: Problem, frequencies: Sequence[float] = (0.0, 0.0)) -> Fit:
    """The prior of the largest posterior density, near frequencies in cycles per pixel; these stay 0 if both are 0."""
    deviation, free = problem.hyperprior[1], _free(problem, any(frequencies))
    numbers, density, minus = _best(problem, _first(problem, frequencies), free)
    own = numbers[free]
    curvature = np.array(
        [(minus(own + step)[1] - minus(own - step)[1]) / (2 * _STEP) for step in np.eye(len(own)) * _STEP]
    )
    values, vectors = np.linalg.eigh((curvature + curvature.T) / 2)
    covariance = (vectors / np.maximum(values, 1 / deviation.max() ** 2)) @ vectors.T
    log_evidence = density + 0.5 * np.linalg.slogdet(covariance)[1] - np.log(deviation[free]).sum()
    return Fit(problem, numbers, free, covariance, float(log_evidence))


def _free(problem: Problem, with_frequencies: bool) -> np.ndarray:
    free = np.ones(len(problem.hyperprior[0]), bool)
    free[list(FREQUENCIES)] = with_frequencies
    return free


def _best(
    problem: Problem, first: np.ndarray, free: np.ndarray
) -> tuple[np.ndarray, float, Callable[[np.ndarray], tuple[float, np.ndarray]]]:
    """The numbers of the largest density, that density, and minus the density of any free numbers with its slopes."""
    mean, deviation = problem.hyperprior

    def minus(own: np.ndarray) -> tuple[float, np.ndarray]:
        found = evidence(problem, _with(first, free, own))
        return -found.log_density, -found.gradient[free]

    around = _FARTHEST * deviation[free]
    bounds = optimize.Bounds(mean[free] - around, mean[free] + around)
    options = {"maxiter": _STEPS, "gtol": _FLAT}
    found = optimize.minimize(minus, first[free], jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return _with(first, free, found.x), -float(found.fun), minus


def _first(problem: Problem, frequencies: Sequence[float]) -> np.ndarray:
    """Where the search starts: at the map's own strength; of a large image at the best numbers of a smaller one."""
    factor = min(problem.z.shape[1:]) // _SMALL
    if factor < 2 or any(root is not None for root in problem.roots):
        first = problem.hyperprior[0].copy()
        power = np.maximum((problem.whitened**2).mean(axis=(1, 2)) - 1, 0.02)
        first[_strengths(problem)] = np.log(power) / 2
    else:
        rows, columns = (count // factor * factor for count in problem.z.shape[1:])
        squares = problem.z[:, :rows, :columns].reshape(problem.channels, rows // factor, factor, -1, factor)
        coarse = Problem(squares.mean(axis=(2, 4)) * factor)  # errors stay 1, smooth maps are as much stronger
        first = _best(coarse, _first(coarse, (0, 0)), _free(coarse, False))[0]
        first[[0, AXIS]] += np.log(factor)
        first[_strengths(problem)] -= np.log(factor)
    first[list(FREQUENCIES)] = frequencies
    return first


def _strengths(problem: Problem) -> slice:
    return slice(2 * AXIS, 2 * AXIS + problem.channels)


def _with(numbers: np.ndarray, free: np.ndarray, own: np.ndarray) -> np.ndarray:
    changed = numbers.copy()
    changed[free] = own
    return changed


def posterior_of(fitted: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and variance [C, H, W] of a map in standard errors, over the uncertainty of its prior's numbers.

    The average is over the best numbers and two points on each principal axis of their covariance, with the weights
    that are exact for a quadratic function and a normal density (the star of a central composite design, as in Rue,
    Martino & Chopin 2009, Journal of the Royal Statistical Society B 71:319), times the true density over that one.
    """
    problem, own = fitted.problem, fitted.numbers[fitted.free]
    values, vectors = np.linalg.eigh(fitted.covariance)
    count = len(values)
    arms = (vectors * np.sqrt(values)).T * _SPREAD * np.sqrt(count)
    places = [np.zeros(count), *arms, *-arms]
    found = [evidence(problem, _with(fitted.numbers, fitted.free, own + place), gradient=False) for place in places]
    logs = np.full(len(places), -np.log(2 * count * _SPREAD**2))
    logs[0] = np.log(1 - 1 / _SPREAD**2)
    normal = np.where(np.arange(len(places)) > 0, _SPREAD**2 * count / 2, 0)
    logs += np.minimum(np.array([each.log_density for each in found]) - found[0].log_density + normal, 1.0)
    weights = np.exp(logs - logs.max())
    mean = square = np.zeros_like(problem.z)
    for weight, each in zip(weights / weights.sum(), found, strict=True):
        own_mean, variance = _posterior(problem, each)
        mean = mean + weight * own_mean
        square = square + weight * (variance + own_mean**2)
    return mean, square - mean**2


def _posterior(problem: Problem, own: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance [C, H, W] of the map under one prior."""
    vh, vw, vc = own.vectors
    rows, columns = problem.roots
    vh, vw = vh if rows is None else rows @ vh, vw if columns is None else columns @ vw
    shrink = own.variance / (own.variance + 1)
    mean = np.tensordot(vc, vh @ (own.coefficients * shrink) @ vw.T, 1)
    return mean, np.tensordot(vc**2, vh**2 @ shrink @ (vw**2).T, 1)
