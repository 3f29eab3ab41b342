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

from wna_jax import responses, statistics
from wna_jax.correlation import Moments, draw_samples, reverse_correlate
from wna_jax.networks import Network, units
from wna_jax.noise import Noise
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Report, silent
from wna_jax.statistics import Contrast, Interval, Threshold
from wna_jax.studies import interventions


class PsychometricCurve(NamedTuple):
    """How often a class was the answer at each of S weights of the signal."""

    weights: Sequence[float]
    """Rising, [S]."""
    hits: np.ndarray
    """How many stimuli were called the class, [S]."""
    trials: int
    """Stimuli per weight."""

    @property
    def share(self) -> np.ndarray:
        """The share of stimuli that were called the class, [S]."""
        return self.hits / self.trials

    @property
    def interval(self) -> Interval:
        """The Wilson interval of each share, 95%."""
        return statistics.wilson_interval(self.hits, self.trials)

    def threshold(self, *, rising: bool = False) -> Threshold | None:
        """The weight at which the share crosses one half.

        Args:
            rising: accept only a curve that starts below one half and ends there or above. Otherwise noise alone gives
                the answer, or the signal without noise does not.

        Returns:
            None where the curve, or an end of its interval, does not cross one half.
        """
        if rising and not self.share[0] < 0.5 <= self.share[-1]:
            return None
        return statistics.threshold(self.weights, self.share, self.interval)


def psychometric_curve(
    network: Callable[[jax.Array], jax.Array],
    noise: Noise,
    signals_nhwc: np.ndarray,
    k: int,
    weights: Sequence[float],
    *,
    num_stimuli: int | None = None,
    seed: int = 0,
    report: Report = silent,
) -> PsychometricCurve:
    """How often stimuli g s + (1 - g) z are called class k, at each weight g.

    Args:
        network: images -> logits [n, K].
        noise: each stimulus has its own sample z, the same at all weights.
        signals_nhwc: the signals s, float32 [N, H, W, C] on the [0, 1] scale.
        k: the class.
        weights: S rising numbers g from 0 (noise alone) to 1 (signal alone).
        num_stimuli: per weight. By default one per signal; with more, the signals are repeated in the same order.
        seed: of the noise.
        report: progress, in images shown.
    """
    size = num_stimuli or len(signals_nhwc)
    shown = np.resize(signals_nhwc, (size, *signals_nhwc.shape[1:]))
    hits = interventions.hits(network, _in_noise, weights, _parts(noise, shown, seed), np.full(size, k), report)
    return PsychometricCurve(weights, hits, size)


def curves_under_currents(
    network: Network,
    layer: str,
    currents: np.ndarray,
    noise: Noise,
    signals_nhwc: np.ndarray,
    k: int,
    weights: Sequence[float],
    *,
    seed: int = 0,
    report: Report = silent,
) -> list[PsychometricCurve]:
    """The psychometric curve under each of some currents, float32 [C, units], in the units of a layer.

    The stimuli are the same under all currents. The other arguments are those of `psychometric_curve`.
    """
    under_currents = Partial(_under_currents, units.stimulated(network, layer), currents)
    size = len(signals_nhwc)
    parts = _parts(noise, signals_nhwc, seed)
    hits = interventions.hits(under_currents, _in_noise, weights, parts, np.full(size, k), report)
    return [PsychometricCurve(weights, under_current, size) for under_current in hits.T]


def _under_currents(
    stimulated: Callable[[jax.Array, jax.Array], jax.Array], currents: jax.Array, images: jax.Array
) -> jax.Array:
    return jax.vmap(stimulated, in_axes=(None, 0))(images, currents)


def _parts(noise: Noise, signals: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(draw_samples(noise, len(signals), seed=seed)), signals


def _in_noise(noise_and_signals: tuple[jax.Array, jax.Array], weight: jax.Array) -> jax.Array:
    return interventions.blend(*noise_and_signals, weight)


def choice(network: Callable[[jax.Array], jax.Array], classes: Sequence[int]) -> Callable[[jax.Array], jax.Array]:
    """A network that chooses between some classes only: images [n, H, W, C] -> their logits [n, classes]."""
    return Partial(_choice, np.asarray(classes), network)


def _choice(classes: jax.Array, network: Callable[[jax.Array], jax.Array], images: jax.Array) -> jax.Array:
    return network(images)[..., classes]


class Discrimination(NamedTuple):
    """A choice between two signals in noise, observed at one weight of the signal."""

    moments: list[Moments]
    """Of both answers, for each signal: of the noise in the first C channels, of the stimulus in the last C."""
    contrast: Contrast
    """The classification image [n00 + n01] - [n10 + n11], of the same channels."""


def discriminate(
    choose: Callable[[jax.Array], jax.Array],
    noise: Noise,
    signals: Sequence[np.ndarray],
    weight: float,
    num_samples: int,
    *,
    seed: int = 0,
    state_dir: Path | None = None,
    **options: Any,
) -> Discrimination:
    """The classification image of a choice of two between signals in noise, as in signal detection.

    Args:
        choose: images -> logits [n, 2], such as a `choice`.
        noise: what the signals are shown in.
        signals: the images of each of the two classes, float32 [N, H, W, C] on the [0, 1] scale.
        weight: of the signal, from 0 to 1.
        num_samples: noise samples per signal.
        seed: of the noise. The second signal takes the next seed: the errors of the two must be independent.
        state_dir: where each signal's job keeps its state, in a folder of its own.
        **options: those of `reverse_correlate`.
    """
    respond = responses.of_classifier(choose, ["decision"])
    stimuli = [interventions.embedded(noise, images, weight) for images in signals]
    moments = [
        reverse_correlate(
            stimulus,
            respond,
            num_samples,
            seed=(seed + i) % 2**32,
            state_dir=state_dir and state_dir / str(i),
            **options,
        )["decision"]
        for i, stimulus in enumerate(stimuli)
    ]
    return Discrimination(moments, statistics.signal_contrast(list(zip(moments, stimuli, strict=True))))


class CurrentUnit(NamedTuple):
    """A current of strength 1 in a layer: factor x mean activation of each unit to the images of a class."""

    factor: float
    divided: bool
    """The mean activation is divided by that of the most active unit."""

    def __str__(self) -> str:
        """The current as a formula, for a figure."""
        factor = "" if self.factor == 1 else f"{self.factor:g} x "
        return f"strength x {factor}mean{' / largest mean' if self.divided else ''}"

    def currents(self, mean_activations: np.ndarray) -> np.ndarray:
        """The current of strength 1 for each class, float32 [K, units].

        Args:
            mean_activations: of the images of each class, [K, h, w, units] or [K, units] (`units.mean_activations`).
        """
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

    Args:
        thresholds: a sequence per class, of one threshold per current; the first current is none.

    Returns:
        One pair per current; None where no class has a threshold both with and without the current.

    Common mistakes: comparing currents whose means are over different classes. A strong current leaves a threshold to
    some classes only, and those are no random sample.
    """
    shifts: list[tuple[float, int] | None] = []
    without = [of_class[0] for of_class in thresholds]
    for under_current in zip(*thresholds, strict=True):
        known = [after.at - before.at for before, after in zip(without, under_current, strict=True) if before and after]
        shifts.append((float(np.mean(known)), len(known)) if known else None)
    return shifts
