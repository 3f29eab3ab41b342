"""Several networks at once, such as those of several training seeds: one pass of the loop, one program.

Each network is shown noise of its own: maps of the same samples share their noise, which makes the maps of any two
networks look alike. The noises of S networks lie side by side in the channels of one sample, [H, W, S C], so that the
loop needs no change; the sums of one network's weights with another network's noise are dropped (`apart`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Float, Int

from wna_jax import responses, statistics
from wna_jax.correlation.moments import Moments
from wna_jax.correlation.origin import check_independent
from wna_jax.maps import ClassificationImages, classification_images
from wna_jax.noise import Noise
from wna_jax.runs.errors import InputError


def side_by_side(noise: Noise, count: int) -> Noise:
    """Independent copies of a noise, one per network, in the channels of one sample: [H, W, count C]."""
    height, width, channels = noise.shape
    mean, deviation = np.tile(noise.mean, count), np.tile(noise.deviation, count)
    sample = Partial(_sample_each, noise.sample, count)
    present = noise.present and Partial(_present_each, noise.present, count)
    shape = height, width, count * channels
    return replace(noise, shape=shape, mean=mean, deviation=deviation, sample=sample, draw=None, present=present)


def of_networks(
    networks: Sequence[Callable[[jax.Array], jax.Array]], names: Sequence[str] = ("decision", "probability")
) -> Callable[[jax.Array], dict[str, jax.Array]]:
    """The named responses of S networks, each images -> logits [n, K], to their own noise, in one program.

    Samples of `side_by_side` noise [n, H, W, S C] -> {name: weights [n, S K]}, the first network's K first.
    """
    return Partial(_respond_each, [responses.of_classifier(network, names) for network in networks])


def apart(moments: Moments, count: int) -> list[Moments]:
    """The moments of each network with its own noise, as if it had been alone in the loop.

    Raises:
        InputError: moments of windows of fields.
    """
    if moments.field_sums is not None:
        raise InputError("the networks were shown windows of fields: use sampling='independent'")
    responses_each, channels = len(moments.count) // count, moments.sum.shape[-1] // count

    def of(network: int) -> Moments:
        own = moments.of_responses(slice(network * responses_each, (network + 1) * responses_each))
        pixels = (..., slice(network * channels, (network + 1) * channels))
        images = ("total_sum", "total_square_sum", "sum", "square_sum")
        origin = own.origin and own.origin.of_one(network)
        return replace(own, origin=origin, **{name: getattr(own, name)[pixels] for name in images})

    return [of(network) for network in range(count)]


class Agreement(NamedTuple):
    """How alike the maps of S networks are, for each of K classes; masked where a network has no map of the class.

    `mean` is the mean map of the networks that have one, `num_maps` of them; it is masked with fewer than two. Its
    standard error is from the spread across networks. `correlation` is Pearson's of every two networks' maps as they
    are, `corrected` the same without the maps' noise: divided by the root of both reliabilities. 1: the same template.
    """

    maps: Sequence[ClassificationImages]
    reliability: Float[np.ma.MaskedArray, "S K"]
    mean: Float[np.ma.MaskedArray, "K H W C"]
    standard_error: Float[np.ma.MaskedArray, "K H W C"]
    num_maps: Int[np.ndarray, " K"]
    correlation: Float[np.ma.MaskedArray, "K S S"]
    corrected: Float[np.ma.MaskedArray, "K S S"]

    @property
    def mean_corrected(self) -> Float[np.ma.MaskedArray, " K"]:
        """The mean corrected correlation of two different networks."""
        return self.corrected[:, ~np.eye(len(self.maps), dtype=bool)].mean(axis=1)

    @property
    def error_across_networks(self) -> Float[np.ma.MaskedArray, " K"]:
        """The standard error of the mean map, root mean square over its pixels."""
        return np.ma.sqrt((self.standard_error**2).mean(axis=(1, 2, 3)))

    @property
    def error_of_measurement(self) -> Float[np.ma.MaskedArray, " K"]:
        """The part of that error that the noise samples account for: more samples make it smaller."""
        powers = np.ma.stack([(own.standard_error**2).mean(axis=(1, 2, 3)) for own in self.maps])
        return np.ma.sqrt(powers.mean(axis=0)) / np.sqrt(np.maximum(self.num_maps, 1))


def agreement(maps: Sequence[ClassificationImages], reliability: Sequence[np.ma.MaskedArray]) -> Agreement:
    """Compares the maps of S networks class by class; `reliability` [K] is that of each, as by `statistics.split_half`.

    The maps must be from independent noise: shared noise would count as agreement.

    Reading the result: `correlation` is lowered by the noise of both maps, `corrected` is not (and can exceed 1 by
    chance); 1 means that the networks have learnt one template, and the distance from 1 is due to the training seed.
    The standard error is that of the mean over networks of other training seeds, measurement error included; with few
    networks it is itself uncertain (S - 1 degrees of freedom).

    Raises:
        InputError: fewer than two networks, or maps that share noise samples.
    """
    if len(maps) < 2:
        raise InputError(f"maps of {len(maps)} network: agreement needs two or more")
    check_independent("the maps of the networks", *(own.origin for own in maps))
    images = np.ma.stack([own.images for own in maps], axis=1)  # [K, S, H, W, C]
    reliable = np.ma.stack(reliability)
    num_maps = (images.count(axis=(2, 3, 4)) > 0).sum(axis=1)
    spread = images.std(axis=1, ddof=1) / np.sqrt(np.maximum(num_maps, 1))[:, None, None, None]
    alone = np.broadcast_to((num_maps < 2)[:, None, None, None], spread.shape)
    correlation = np.ma.stack([statistics.correlation_matrix(own, own) for own in images])
    corrected = statistics.disattenuate(correlation, reliable.T[:, :, None], reliable.T[:, None, :])
    diagonal = np.broadcast_to(np.eye(len(maps), dtype=bool), corrected.shape)
    mean, error = np.ma.masked_array(images.mean(axis=1), alone), np.ma.masked_array(spread, alone)
    corrected = np.ma.where(diagonal, correlation, corrected)
    return Agreement(maps, reliable, mean, error, num_maps, correlation, corrected)


def agreement_of_halves(first: Moments, second: Moments, noise: Noise, count: int) -> Agreement:
    """Compares the classification images of so many networks that went through the loop together.

    The moments are those of two halves of the samples of `side_by_side` noise, of one response of `of_networks`; the
    noise is that of one network.
    """
    halves = list(zip(apart(first, count), apart(second, count), strict=True))
    maps = [classification_images(a + b, noise) for a, b in halves]
    return agreement(maps, [statistics.split_half(a, b, noise).reliability for a, b in halves])


def _sample_each(sample: Callable[[jax.Array], jax.Array], count: int, key: jax.Array) -> jax.Array:
    return _join(jax.vmap(sample)(jax.random.split(key, count)))


def _present_each(present: Callable[..., jax.Array], count: int, key: jax.Array, drawn: jax.Array) -> jax.Array:
    return _join(jax.vmap(present)(jax.random.split(key, count), _part(drawn, count)))


def _respond_each(each: Sequence[responses.Classifier], images: jax.Array) -> dict[str, jax.Array]:
    answers = [answer(own) for answer, own in zip(each, _part(images, len(each)), strict=True)]
    return {name: jnp.concatenate([answer[name] for answer in answers], axis=1) for name in answers[0]}


def _join(copies: jax.Array) -> jax.Array:
    """[S, h, w, c] -> [h, w, S c]."""
    return jnp.moveaxis(copies, 0, -2).reshape(*copies.shape[1:-1], -1)


def _part(joined: jax.Array, count: int) -> jax.Array:
    """[..., h, w, S c] -> [S, ..., h, w, c]."""
    return jnp.moveaxis(joined.reshape(*joined.shape[:-1], count, -1), -2, 0)
