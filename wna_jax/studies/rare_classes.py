"""Maps and shares of classes that noise is hardly ever called, by subset simulation.

Plain noise needs many samples per class, and of a class that one image in 10^9 is called it finds none. Here noise
images walk towards the class instead. The margin of an image is the logit of the class less the largest other one: it
is called that class where the margin is above 0. Of a population of images the fifth with the largest margins is kept
and copied; each copy then walks at random, but never below the smallest margin that was kept. That is repeated until
the kept ones are called the class. A step of the walk replaces part of each pixel by fresh noise, and is undone where
the margin falls too low, so that the images remain samples of the noise, given the margin (Metropolis). The product of
the kept shares is the share of the class in plain noise, and the mean of the images is its decision map in plain noise:
nothing is tilted, and no gradient is needed.

Subset simulation: Au & Beck 2001, Probabilistic Engineering Mechanics 16:263; as multilevel splitting of neural
networks' failures Webb, Rainforth, Teh & Kumar 2019, ICLR (arXiv 1811.07209). Several populations that know nothing of
each other tell the errors.
"""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy import special

from wna_jax import statistics
from wna_jax.correlation.fields import show
from wna_jax.maps import ClassificationImages
from wna_jax.noise import Noise, random
from wna_jax.noise.checks import check
from wna_jax.runs import compilation
from wna_jax.runs.errors import InputError
from wna_jax.runs.fingerprints import fingerprint
from wna_jax.runs.progress import Progress, Report, silent
from wna_jax.runs.seeds import key_of
from wna_jax.runs.store import State, Store
from wna_jax.statistics import SplitHalf

NetworkFunction = Callable[[jax.Array], jax.Array]
"""Images [n, H, W, C] -> logits [n, K]; `responses.as_logits` makes one of any network."""
FEWEST_EFFECTIVE = 50
"""Effective samples below which a map is masked."""
_KEPT = 5  # one in so many images is kept
_STEPS = 10  # of a walk at each level
_MOST_LEVELS = 60  # a share of 1e-42
_ACCEPTED, _GAIN = 0.3, 0.3  # the share of steps that are not undone is brought to the first, by the second


class RareClass(NamedTuple):
    """A class as P populations found it: its `shares` [P] of plain noise, and the mean noise called it, [P, H, W, C].

    `variance` [H, W, C] is that of the noise called it. `levels` and `images`, both [], are the number of levels, and
    of images that the network was shown.
    """

    shares: np.ndarray
    means: np.ndarray
    variance: np.ndarray
    levels: np.ndarray
    images: np.ndarray

    @property
    def share(self) -> float:
        """The share of plain noise that is called this class: the mean of all populations, which is unbiased."""
        return float(self.shares.mean())

    @property
    def share_interval(self) -> tuple[float, float]:
        """95% interval of the share, by Cox's method for the mean of a log-normal distribution.

        A share is a product of many independent factors, so its logarithm is nearly normal. With m and v the mean and
        variance of the logarithms of P shares: exp(m + v / 2 +- t_{P-1} sqrt(v / P + v^2 / (2 (P - 1)))) (Zhou & Gao
        1997, Statistics in Medicine 16:783).
        """
        logs, count = np.log(self.shares), len(self.shares)
        v = logs.var(ddof=1)
        margin = special.stdtrit(count - 1, 0.975) * np.sqrt(v / count + v**2 / (2 * (count - 1)))
        low, high = np.exp(logs.mean() + v / 2 + np.array([-margin, margin]))
        return float(low), float(high)

    @property
    def effective_samples(self) -> float:
        """The number of independent samples of the class whose mean would be as precise.

        P x (variance of the noise called this class, summed over pixels) / (variance of its mean between populations,
        summed likewise). For D pixels its relative error is about sqrt(2 / (D (P - 1))).
        """
        between = self.means.var(axis=0, ddof=1).sum()
        return float(len(self.means) * self.variance.sum() / between) if between > 0 else 0.0


_NOTHING = RareClass(*[np.zeros(())] * len(RareClass._fields))


def check_noise(noise: Noise) -> None:
    """Raises an InputError of a noise that classes are not sought in."""
    if not (noise.white and (noise.gaussian or _is_uniform(noise))):
        raise InputError(f"{noise.name} noise: rare classes are sought in white noise that is Gaussian or uniform")


def seek(
    network: NetworkFunction,
    noise: Noise,
    classes: Sequence[int],
    *,
    num_populations: int = 20,
    num_chains: int = 50,
    num_steps: int = 100,
    seed: int = 0,
    state_dir: Path | None = None,
    identity: Mapping[str, Any] | None = None,
    report: Report = silent,
) -> tuple[RareClass | None, ...]:
    """Finds classes in white noise, however rare they are; None of a class beyond a share of 1e-42.

    The network is shown populations x chains x (10 levels + 3/2 steps) images per class; a level is a factor of 5 in
    the share. The images of a population are held at once. Works for white noise
    that is Gaussian or uniform, and for any network with graded outputs, black boxes too.

    Reading the result: `maps_of` makes maps of it, `split_half` says how reliable they are. The share has an interval
    from the spread between populations; it holds where all populations find the same kinds of image. A class of several
    templates that no path joins may be found in part, which shows as populations that disagree: a split-half
    correlation below that which the effective samples promise.
    Common mistakes: too few chains (fewer than some 50 per population) for a very rare class, of which each population
    then descends from one image.

    Args:
        network: images -> logits, finite numbers.
        noise: white noise, Gaussian (such as "matched") or uniform.
        classes: the numbers of the classes.
        num_populations: P, at least 3.
        num_chains: images of a population, at least 20.
        num_steps: that are averaged, after half as many that are not.
        seed: of the noise and the walks; what is found of a class does not depend on the other classes.
        state_dir: a directory that keeps what is found, class by class, to go on from.
        identity: what else decides the result (JSON values).
        report: progress, in classes.

    Raises:
        InputError: noise that is not white, or neither Gaussian nor uniform; numbers that are too small, a class that
            the network does not have, logits that are NaN, or a state of another job.
    """
    check_noise(noise)
    least = {"num_populations": (num_populations, 3), "num_chains": (num_chains, 20), "num_steps": (num_steps, 1)}
    for name, (number, low) in least.items():
        if number < low:
            raise InputError(f"{name} is {number}: expected at least {low}")
    check(noise)
    shown = jax.ShapeDtypeStruct((2, *noise.shown_shape), jnp.float32)
    num_classes = compilation.shape_of(network, shown).shape[-1]
    if outside := [k for k in classes if not 0 <= k < num_classes]:
        raise InputError(f"class {outside[0]} of a network with {num_classes} classes: they count from 0")
    size = num_populations, num_chains, num_steps
    what = {"noise": fingerprint(noise), "network": fingerprint(network), "size": list(size), "seed": seed}
    found: dict[int, RareClass | None] = {}
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Store(state_dir, what | dict(identity or {}))) if state_dir else None
        if store and (state := store.load(lambda record: [_NOTHING if reached else None for _, reached in record])):
            found = {k: one for (k, _), one in zip(state.record, state.tree, strict=True)}
        for i, k in enumerate(classes):
            report(Progress("rare classes", i, len(classes), "classes"))
            if k in found:
                continue
            found[k] = _seek(network, noise, k, *size, seed)
            if store:
                store.save(State(len(found), list(found.values()), [[k, one is not None] for k, one in found.items()]))
    report(Progress("rare classes", len(classes), len(classes), "classes"))
    return tuple(found[k] for k in classes)


def maps_of(found: Sequence[RareClass | None], noise: Noise) -> ClassificationImages:
    """The decision maps of plain noise of some classes, b_k - mean of the noise, with their standard errors.

    The error of a pixel of deviation s is s / sqrt(n), n the effective samples, which are the `count`. Masked where a
    class was not reached, or has fewer than 50 effective samples: more steps or chains would help.
    """
    effective = np.array([0 if one is None else one.effective_samples for one in found])
    enough = (effective >= FEWEST_EFFECTIVE)[:, None, None, None]
    empty = np.zeros(noise.shape)
    images = np.stack([empty if one is None else one.means.mean(axis=0) - noise.mean for one in found])
    deviation = np.broadcast_to(noise.deviation, noise.shape)
    error = deviation / np.sqrt(np.maximum(effective, 1))[:, None, None, None]
    mask = np.broadcast_to(~enough, images.shape)
    shares = np.array([0.0 if one is None else one.share for one in found])
    return ClassificationImages(
        np.ma.masked_array(images, mask), np.ma.masked_array(error, mask), effective.astype(np.int64), shares
    )


def split_half(found: Sequence[RareClass | None], noise: Noise) -> SplitHalf:
    """Split-half reliability of the maps, from two halves of the populations (Spearman-Brown).

    N0, at which the reliability is 1/2, is in images that the network is shown. Populations beyond an even number are
    left out of the halves.
    """
    r = np.ma.masked_all(len(found))
    images = np.array([1 if one is None else int(one.images) for one in found])
    for k, one in enumerate(found):
        if one is not None and one.effective_samples >= FEWEST_EFFECTIVE:
            half = len(one.means) // 2
            halves = (one.means[None, part * half : (part + 1) * half].mean(axis=1) - noise.mean for part in (0, 1))
            r[k] = statistics.map_correlation(*halves)[0]
    positive = np.ma.masked_less_equal(r, 0)
    reliability = 2 * positive / (1 + positive)
    return SplitHalf(r, reliability, np.ma.sqrt(reliability), images * (1 / reliability - 1))


class _Chains(NamedTuple):
    """All populations, one after the other: the standard normal numbers that images are made of, and the margins."""

    normal: jax.Array
    margin: jax.Array


def _seek(
    network: NetworkFunction, noise: Noise, k: int, populations: int, chains: int, steps: int, seed: int
) -> RareClass | None:
    key, rng = jax.random.fold_in(key_of(seed), k), np.random.default_rng([seed, k])
    of = network, noise, np.int32(k), key
    number = 0
    start = np.full(populations, -np.inf, np.float32), np.ones(populations, np.float32)
    empty = _Chains(jnp.zeros((populations * chains, *noise.shape)), jnp.full(populations * chains, -jnp.inf))
    own, accepted, _ = _step(*of, np.uint32(number), empty, *start)  # independent images: all is fresh noise
    _checked(accepted, k)
    fraction, log_shares = start[1], np.zeros(populations)

    def walk(own: _Chains, floor: np.ndarray, fraction: np.ndarray, count: int, adapt: bool) -> Any:
        nonlocal number
        total = np.zeros((2, populations, *noise.shape))
        for _ in range(count):
            number += 1
            own, accepted, sums = _step(*of, np.uint32(number), own, floor, fraction)
            total += np.asarray(sums)
            share = _checked(accepted, k)
            if adapt:
                change = np.exp(_GAIN * (share - _ACCEPTED))
                fraction = np.clip(fraction * change, 1 / math.prod(noise.shape), 1).astype(np.float32)
        return own, fraction, total / (count * chains)

    for level in range(1, _MOST_LEVELS + 1):
        margins = np.asarray(own.margin).reshape(populations, chains)
        floor = np.minimum(np.sort(margins, axis=1)[:, -1 - chains // _KEPT], 0)
        inside = margins > floor[:, None]
        if not inside.any(axis=1).all():  # the network's answers are all alike
            return None
        log_shares += np.log(inside.mean(axis=1))
        kept = [np.resize(rng.permutation(np.flatnonzero(row)), chains) + i * chains for i, row in enumerate(inside)]
        order = np.concatenate(kept)
        own = _Chains(own.normal[order], own.margin[order])
        if (floor >= 0).all():
            own, fraction, _ = walk(own, floor, fraction, math.ceil(steps / 2), adapt=True)
            _, _, (means, squares) = walk(own, floor, fraction, steps, adapt=False)
            variance = np.maximum(squares.mean(axis=0) - means.mean(axis=0) ** 2, 0)
            images = (number + 1) * len(own.margin)
            return RareClass(np.exp(log_shares), means, variance, np.array(level), np.array(images))
        own, fraction, _ = walk(own, floor, fraction, _STEPS, adapt=True)
    return None


def _checked(values: jax.Array, k: int) -> np.ndarray:
    if np.isnan(found := np.asarray(values)).any():
        raise InputError(f"the network gave NaN for noise that class {k} was sought in: check its outputs on noise")
    return found


@compilation.jit
def _step(
    network: NetworkFunction,
    noise: Noise,
    k: jax.Array,
    key: jax.Array,
    number: jax.Array,
    chains: _Chains,
    floor: Float[jax.Array, " P"],
    fraction: Float[jax.Array, " P"],
) -> tuple[_Chains, jax.Array, jax.Array]:
    """One step of all chains: they, the share of accepted steps of each population [P], and its sums of x and x^2.

    Sums are [2, P, H, W, C]. Of each normal number x and a fresh one y, sqrt(1 - f) x + sqrt(f) y is proposed, f being
    the `fraction` of the population.
    """
    of_noise, of_shown = jax.random.split(jax.random.fold_in(key, number))
    count, populations = len(chains.margin), len(floor)

    def of_chain(each: jax.Array) -> jax.Array:
        return jnp.repeat(each, count // populations)

    fresh = jax.vmap(lambda key: random.normal(key, noise.shape))(jax.random.split(of_noise, count))
    part = of_chain(fraction)[:, None, None, None]
    proposed = jnp.sqrt(1 - part) * chains.normal + jnp.sqrt(part) * fresh
    logits = network(show(noise, jax.random.split(of_shown, count), _drawn(noise, proposed))).astype(jnp.float32)
    others = jnp.where(jnp.arange(logits.shape[-1])[None] == k, -jnp.inf, logits)
    margin = logits[:, k] - others.max(axis=-1)
    accepted = margin > of_chain(floor)
    normal = jnp.where(accepted[:, None, None, None], proposed, chains.normal)
    drawn = _drawn(noise, normal)
    of_step = jnp.where(jnp.isnan(margin), jnp.nan, accepted.astype(jnp.float32))
    sums = jnp.stack([drawn, jnp.square(drawn)]).reshape(2, populations, -1, *drawn.shape[1:]).sum(axis=2)
    chains = _Chains(normal, jnp.where(accepted, margin, chains.margin))
    return chains, of_step.reshape(populations, -1).mean(axis=1), sums


def _is_uniform(noise: Noise) -> bool:
    return noise.draw is random.uniform


def _drawn(noise: Noise, normal: jax.Array) -> jax.Array:
    """The draws of a noise that standard normal numbers [n, H, W, C] make."""
    if _is_uniform(noise):
        return jax.scipy.special.ndtr(normal)
    mean, deviation = (
        jnp.broadcast_to(jnp.asarray(of, jnp.float32), noise.shape) for of in (noise.mean, noise.deviation)
    )
    return mean[None] + deviation[None] * normal
