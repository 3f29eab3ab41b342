"""Observers that can be calculated: a known template, a network; and what theory says of their maps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from numpy.typing import ArrayLike
from scipy import stats

from wna_jax.noise import Noise
from wna_jax.observers.stimuli import Stimuli, source_of
from wna_jax.runs import compilation
from wna_jax.runs.errors import InputError

Variable = Callable[[Any], Any]
"""Images [n, H, W, C] -> decision variable [n]: how much of what is looked for is in each."""


def answer(
    variable: Variable,
    stimuli: Stimuli,
    second: Stimuli | None = None,
    *,
    criterion: float = 0.0,
    internal_noise: float = 0.0,
    seed: int = 0,
) -> np.ndarray:
    """The responses of an observer that is calculated: 1 or 0 to one stimulus per trial, 1 or -1 to two.

    It says yes where v + e > criterion, and chooses the first where (v1 + e1) - (v2 + e2) > criterion, with v the
    decision variable and e independent normal noise of deviation `internal_noise`. What JAX can trace is compiled.
    """
    one, two = source_of(stimuli), None if second is None else source_of(second)
    random = np.random.default_rng(seed)
    found = []
    for trials in one.batches():
        values = [
            np.asarray(variable(each.shown(trials)), np.float64) + internal_noise * random.standard_normal(len(trials))
            for each in (one, two)
            if each
        ]
        if any(value.shape != trials.shape for value in values):
            raise InputError(f"the decision variable has shape {values[0].shape}: expected one number per image")
        found.append(values[0] - (values[1] if two else 0) > criterion)
    first = np.concatenate(found)
    return first.astype(int) if two is None else np.where(first, 1, -1)


def linear_observer(template_hwc: ArrayLike, noise: Noise) -> Variable:
    """The match of each image with a template, sum t (x - mean) / sqrt(sum t^2 s^2): of variance 1 in white noise."""
    template, shape = np.asarray(template_hwc, np.float32), noise.shape
    if noise.present is not None:
        raise InputError(
            f"{noise.name} noise is shown in another form than it is drawn in: give a variable of your own"
        )
    if template.shape != shape or not template.any():
        raise InputError(f"a template of shape {template.shape} for noise {shape}: expected that, and not all 0")
    mean, deviation = (np.broadcast_to(value, shape).astype(np.float32) for value in (noise.mean, noise.deviation))
    return Partial(_match, template / np.sqrt(np.square(template * deviation).sum()), mean)


def network_observer(network: Callable[[jax.Array], jax.Array], k: int) -> Variable:
    """How much more an image is class k to a network than any other class: its logit less the largest of the others.

    Above 0 (the criterion) the network calls the image k; so it answers the trials that people do.
    """
    return Partial(_margin, network, k)


def n0_of_linear_observer(
    num_pixels: int, internal_noise: float = 0.0, criterion: ArrayLike = 0.0, intervals: int = 1
) -> float:
    """N0 of the map of a linear observer: the trials at which its expected correlation with the template is sqrt(1/2).

    N0 = D mean[P (1 - P)] / (r^2 mean[phi(c)]^2), with D pixels, r^2 = 1 / (1 + internal noise^2), and P = Phi(-c) the
    probability of yes at the criterion c in units of the whole deviation: pi D / (2 r^2) without a bias. After N trials
    the expected correlation is `statistics.predicted_correlation(N, N0)`. Internal noise and criterion are those of
    `answer` for a `linear_observer`; with signals, one criterion for each kind of trial: the criterion less what the
    signal adds to the decision variable. Two `intervals` have sqrt(2) times the deviation, and the same N0.

    The map is normal with the mean s r phi(c) t / (P (1 - P)) and the deviation s / sqrt(N P (1 - P)) per pixel, for a
    template t of length 1 (Murray 2011, Journal of Vision 11(5):2); the narrower deviation along t is left out, which
    is one direction of D.
    """
    power = 1 / (1 + internal_noise**2)
    c = np.atleast_1d(np.asarray(criterion, np.float64)) * np.sqrt(power / intervals)
    yes = stats.norm.sf(c)
    return float(num_pixels * (yes * (1 - yes)).mean() / (power * stats.norm.pdf(c).mean() ** 2))


def _match(template: jax.Array, mean: jax.Array, images: jax.Array) -> jax.Array:
    return _weighted(template, jnp.asarray(images) - mean[None])


@compilation.jit
def _weighted(template: jax.Array, images: jax.Array) -> jax.Array:
    return (images * template[None]).sum(axis=(1, 2, 3))


def _margin(network: Callable[[jax.Array], jax.Array], k: int, images: jax.Array) -> jax.Array:
    logits = network(jnp.asarray(images))
    others = jnp.where(jnp.arange(logits.shape[-1])[None] == k, -jnp.inf, logits)
    return logits[:, k] - others.max(axis=-1)
