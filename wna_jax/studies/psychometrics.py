"""Signals in noise: what a network bases its answer on, and how strong a signal must be to be answered.

A stimulus is t = g s + (1 - g) z, with a signal s, noise z and the signal's weight g. `discriminate` gives the
classification image of a choice between two signals. The psychometric curve of a class is how often it is answered at
each weight; its threshold is the weight at which it is answered in one half of the cases. A current in the units of a
layer (microstimulation) moves the threshold: `curves_under_currents`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Float, Float32, Int
from scipy import special

from wna_jax import responses, statistics
from wna_jax.correlation import Moments, draw_samples, reverse_correlate
from wna_jax.networks import Network, units
from wna_jax.noise import Noise
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Report, in_parts, silent
from wna_jax.statistics import Contrast, Interval, Threshold
from wna_jax.studies import interventions

_SCORINGS, _STEEPEST = 40, 20.0
"""Steps of a fit, and the largest 1 / w per octave."""


class PsychometricCurve(NamedTuple):
    """How often a class was the answer to so many trials at each of S rising weights of the signal."""

    weights: Sequence[float]
    hits: Int[np.ndarray, " S"]
    trials: int

    @property
    def share(self) -> Float[np.ndarray, " S"]:
        """The share of stimuli that were called the class."""
        return self.hits / self.trials

    @property
    def interval(self) -> Interval:
        """The Wilson interval of each share, 95%."""
        return statistics.wilson_interval(self.hits, self.trials)

    def threshold(self, *, rising: bool = False) -> Threshold | None:
        """The weight at which the share crosses one half; None where it, or an end of its interval, does not.

        If `rising`, only of a curve that starts below one half and ends there or above. Otherwise noise alone gives the
        answer, or the signal without noise does not.
        """
        if rising and not self.share[0] < 0.5 <= self.share[-1]:
            return None
        return statistics.threshold(self.weights, self.share, self.interval)


def psychometric_curve(
    network: Callable[[jax.Array], jax.Array],
    noise: Noise,
    signals: Float32[np.ndarray, "N H W C"],
    k: int,
    weights: Sequence[float],
    *,
    num_stimuli: int | None = None,
    seed: int = 0,
    report: Report = silent,
) -> PsychometricCurve:
    """How often stimuli g s + (1 - g) z are called class k, at each of S rising weights g from 0 to 1.

    Each stimulus has its own sample z of the noise, the same at all weights. There is one for each signal s, an image
    in [0, 1]; with more `num_stimuli`, the signals are repeated in the same order. Progress is in images shown.
    """
    shown = np.resize(signals, (num_stimuli or len(signals), *signals.shape[1:]))
    parts = np.asarray(draw_samples(noise, len(shown), seed=seed)), shown
    hits = interventions.hits(network, _in_noise, weights, parts, np.full(len(shown), k), report)
    return PsychometricCurve(weights, hits, len(shown))


def curves_under_currents(
    network: Network, layer: str, currents: Float32[np.ndarray, "C units"], *stimuli: Any, **options: Any
) -> list[PsychometricCurve]:
    """The psychometric curve under each of some currents in the units of a layer.

    The other arguments are those of `psychometric_curve` but for its network. All currents have the same stimuli.
    """
    under_currents = Partial(_under_currents, units.stimulated(network, layer), currents)
    curve = psychometric_curve(under_currents, *stimuli, **options)
    return [curve._replace(hits=hits) for hits in curve.hits.T]


def _under_currents(
    stimulated: Callable[[jax.Array, jax.Array], jax.Array], currents: jax.Array, images: jax.Array
) -> jax.Array:
    return jax.vmap(stimulated, in_axes=(None, 0))(images, currents)


def _in_noise(noise_and_signals: tuple[jax.Array, jax.Array], weight: jax.Array) -> jax.Array:
    return interventions.blend(*noise_and_signals, weight)


class Discrimination(NamedTuple):
    """A choice between two signals in noise, observed at one weight of the signal.

    For each signal the moments of both answers: of the noise in the first C channels, of the stimulus in the last C.
    The contrast is the classification image [n00 + n01] - [n10 + n11], of the same channels.
    """

    moments: list[Moments]
    contrast: Contrast


def discriminate(
    choose: Callable[[jax.Array], jax.Array],
    noise: Noise,
    signals: Sequence[np.ndarray],
    weight: float,
    num_samples: int,
    *,
    seed: int = 0,
    state_dir: Path | None = None,
    report: Report = silent,
    **options: Any,
) -> Discrimination:
    """The classification image of a choice of two between signals in noise, as in signal detection.

    The network that chooses gives logits [n, 2], as `units.only` does. Each of the two signals is any of the images of
    a class, float32 [N, H, W, C] in [0, 1], shown with a weight from 0 to 1 in `num_samples` of noise. The second
    signal takes the next seed: the errors of the two must be independent. Each signal's job keeps its state in a folder
    of its own in `state_dir`. Further `options` are those of `reverse_correlate`.
    """
    respond = responses.of_classifier(choose, ["decision"])
    stimuli = [interventions.embedded(noise, images, weight) for images in signals]
    moments = []
    for (i, stimulus), tell in in_parts(report, list(enumerate(stimuli)), "noise"):
        own = {"seed": (seed + i) % 2**32, "state_dir": state_dir and state_dir / str(i), "report": tell}
        moments.append(reverse_correlate(stimulus, respond, num_samples, **own, **options)["decision"])
    return Discrimination(moments, statistics.signal_contrast(list(zip(moments, stimuli, strict=True))))


class CurrentUnit(NamedTuple):
    """A current of strength 1 in a layer: factor x mean activation of each unit to the images of a class.

    If `divided`, the mean activation is divided by that of the most active unit.
    """

    factor: float
    divided: bool

    def __str__(self) -> str:
        """The current as a formula, for a figure."""
        factor = "" if self.factor == 1 else f"{self.factor:g} x "
        return f"strength x {factor}mean{' / largest mean' if self.divided else ''}"

    def currents(self, mean_activations: np.ndarray) -> np.ndarray:
        """The current of strength 1 for each class [K, units], from `units.mean_activations`."""
        means = mean_activations.reshape(len(mean_activations), -1, mean_activations.shape[-1]).mean(axis=1)
        largest = means.max(axis=1, keepdims=True) if self.divided else np.ones((1, 1))
        return (self.factor / np.where(largest == 0, 1, largest) * means).astype(np.float32)


CURRENT_UNITS = ("mean", "authors")
_AUTHORS = {"conv1": CurrentUnit(0.1, True), "conv2": CurrentUnit(1.0, True), "fc1": CurrentUnit(0.01, False)}
"""What arXiv 1912.12106's notebooks apply with ten classes; with two classes it is ten times as much."""


def current_unit(name: str, layer: str, num_classes: int) -> CurrentUnit:
    """The current of strength 1 in a layer: "mean" is the mean activation, "authors" what arXiv 1912.12106 applies.

    Raises:
        InputError: the authors have no number for this layer.
    """
    if name == "mean":
        return CurrentUnit(1.0, False)
    if layer not in _AUTHORS:
        raise InputError(f"unit is authors, who have no number for layer {layer}: choose from {', '.join(_AUTHORS)}")
    factor, divided = _AUTHORS[layer]
    return CurrentUnit(factor * (10 if num_classes == 2 else 1), divided)


def mean_shifts(thresholds: Sequence[Sequence[Threshold | None]]) -> list[tuple[float, int] | None]:
    """How far each current shifts the threshold, as a mean over classes, and the number of classes in that mean.

    There is one threshold per class and current, of which the first is none. A current is None where no class has a
    threshold both with and without it.

    Common mistakes: comparing currents whose means are over different classes. A strong current leaves a threshold to
    some classes only, and those are no random sample.
    """
    shifts: list[tuple[float, int] | None] = []
    without = [of_class[0] for of_class in thresholds]
    for under_current in zip(*thresholds, strict=True):
        known = [after.at - before.at for before, after in zip(without, under_current, strict=True) if before and after]
        shifts.append((float(np.mean(known)), len(known)) if known else None)
    return shifts


def fitted_thresholds(
    strengths: Sequence[float],
    share: Float[np.ndarray, "... S"],
    trials: int,
    first: Float[np.ndarray, "..."] | float,
    last: Float[np.ndarray, "..."] | float,
) -> np.ma.MaskedArray:
    """The strengths at which psychometric curves are half-way between their ends, each by a fit of a cumulative normal.

    A share of `trials` at strength x is binomial, of p(x) = last + (first - last) Phi((m - log2 x) / w). The threshold
    is 2^m of the largest likelihood (Fisher scoring; Wichmann & Hill 2001, Perception & Psychophysics 63:1293). Masked
    where it lies outside the strengths that were tested, or where the curve does not go from `first` to `last`.

    Args:
        strengths: S of them, above 0 and rising.
        share: of S strengths, for any number of curves.
        trials: for each share.
        first: the share at strength 0, such as the accuracy without noise.
        last: the share at a boundless strength, such as chance.
    """
    x = np.log2(np.asarray(strengths, np.float64))
    low, high = (np.broadcast_to(end, share.shape[:-1])[..., None] for end in (last, first))
    span = np.where(high > low, high - low, 1)
    passed = np.clip((share - low) / span, 0, 1)
    # The start: half-way by the area under the curve, and a width of one octave.
    m = x[0] - np.diff(x)[0] / 2 + (passed * np.gradient(x)).sum(axis=-1, keepdims=True)
    a, b = m, np.ones_like(m)  # of the normal deviate a - b x
    for _ in range(_SCORINGS):
        deviate = np.clip(a - b * x, -6, 6)
        p = np.clip(low + span * special.ndtr(deviate), 1e-9, 1 - 1e-9)
        slope = span * np.exp(-(deviate**2) / 2) / np.sqrt(2 * np.pi)
        weight = trials * slope**2 / (p * (1 - p)) + 1e-9
        residual = trials * slope * (share - p) / (p * (1 - p))
        s0, s1, s2 = (np.sum(weight * x**power, axis=-1, keepdims=True) for power in (0, 1, 2))
        r0, r1 = (np.sum(residual * x**power, axis=-1, keepdims=True) for power in (0, 1))
        # In coordinates about the mean of x, where the two parameters do not depend on each other.
        centre = s1 / s0
        turned = (r1 - centre * r0) / (s2 - centre * s1 + 1e-9)
        moved = np.clip(r0 / s0, -1, 1)
        new = np.clip(b - np.clip(turned, -0.5, 0.5), 0.05, _STEEPEST)
        at_centre = a - b * centre + moved
        a, b = at_centre + new * centre, new
    m = (a / b)[..., 0]
    outside = ~((m >= x[0]) & (m <= x[-1])) | (high <= low)[..., 0]
    return np.ma.masked_array(2.0 ** np.clip(m, x[0], x[-1]), outside)
