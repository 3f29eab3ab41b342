"""Several networks at once, such as those of several training seeds: one pass of the loop, one program.

Each network is shown noise of its own: maps from the same samples share their noise, which makes the maps of any two
networks look alike. The noises of S networks lie beside one another in the channels of one sample, [H, W, S C], so that
the loop stays what it is; the sums of a network's weights with another network's noise are left aside (`apart`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wna_jax import responses, statistics
from wna_jax.errors import InputError
from wna_jax.maps import ClassificationImages
from wna_jax.moments import Moments
from wna_jax.noise import Noise


def side_by_side(noise: Noise, count: int) -> Noise:
    """Independent copies of a noise, one for each network, in the channels of one sample: [H, W, count C]."""
    present = noise.present

    def sample(key: jax.Array) -> jax.Array:
        return _join(jax.vmap(noise.sample)(jax.random.split(key, count)))

    def present_each(key: jax.Array, drawn: jax.Array) -> jax.Array:
        assert present is not None
        return _join(jax.vmap(present)(jax.random.split(key, count), _part(drawn, count)))

    height, width, channels = noise.shape
    return replace(
        noise,
        shape=(height, width, count * channels),
        mean=np.tile(noise.mean, count),
        deviation=np.tile(noise.deviation, count),
        sample=sample,
        draw=None,
        present=present and present_each,
    )


def of_networks(
    logits_functions: Sequence[Callable[[jax.Array], jax.Array]], names: Sequence[str] = ("decision", "probability")
) -> Callable[[jax.Array], dict[str, jax.Array]]:
    """The named responses of S networks, each to its own noise, in one program.

    Args:
        logits_functions: of each network, images [n, H, W, C] -> logits [n, K]; K is that of all.
        names: as `responses.from_name` takes them.

    Returns:
        Samples of `side_by_side` noise [n, H, W, S C] -> {name: weights [n, S K]}, the first network's K first.
    """
    each = [responses.of_classifier(function, names) for function in logits_functions]

    def respond(images: jax.Array) -> dict[str, jax.Array]:
        own = _part(images, len(each))
        answers = [answer(own[network]) for network, answer in enumerate(each)]
        return {name: jnp.concatenate([answer[name] for answer in answers], axis=1) for name in names}

    return respond


def apart(moments: Moments, count: int) -> list[Moments]:
    """The moments of each network with its own noise, as if it had been alone in the loop."""
    if moments.field_sums is not None:
        raise InputError("the networks were shown windows of fields: use sampling='independent'")
    responses_each, channels = len(moments.count) // count, moments.sum.shape[-1] // count

    def of(network: int) -> Moments:
        own = slice(network * responses_each, (network + 1) * responses_each)
        pixels = (..., slice(network * channels, (network + 1) * channels))
        return replace(
            moments,
            total_sum=moments.total_sum[pixels],
            total_square_sum=moments.total_square_sum[pixels],
            sum=moments.sum[own][pixels],
            square_sum=moments.square_sum[own][pixels],
            **{
                name: getattr(moments, name)[own]
                for name in ("count", "weight_sum", "weight_square_sum", "draw_square_sum")
            },
        )

    return [of(network) for network in range(count)]


class Agreement(NamedTuple):
    """How alike the maps of S networks are, for each of K classes; masked where a network has no map of the class."""

    mean: np.ma.MaskedArray
    """The mean map of the networks that have one, [K, H, W, C]; masked with fewer than two."""
    standard_error: np.ma.MaskedArray
    """Of the mean map across networks: the standard deviation over the root of their number, [K, H, W, C]."""
    num_maps: np.ndarray
    """Networks that have a map, [K]."""
    correlation: np.ma.MaskedArray
    """Pearson correlation of every two networks' maps as they are, [K, S, S]."""
    corrected: np.ma.MaskedArray
    """The same without the maps' noise, [K, S, S]: divided by the root of both reliabilities. 1: the same template."""


def agreement(maps: Sequence[ClassificationImages], reliability: Sequence[np.ma.MaskedArray]) -> Agreement:
    """Compares the maps of S networks class by class.

    Args:
        maps: of each network; from independent noise, else shared noise counts as agreement.
        reliability: of each network's maps, [K] each, such as `statistics.split_half(...).reliability`.

    Reading the result: `correlation` is lowered by the noise of both maps, `corrected` is not (and may pass 1 by
    chance); 1 says that the networks have learnt one template, and the distance from 1 what training left to the
    seed. The standard error is of the mean over networks trained from other seeds, measurement error included; of few
    networks it is itself uncertain (S - 1 degrees of freedom).

    Raises:
        InputError: fewer than two networks.
    """
    if len(maps) < 2:
        raise InputError(f"maps of {len(maps)} network: agreement needs two or more")
    images = np.ma.stack([m.images for m in maps], axis=1)  # [K, S, H, W, C]
    reliable = np.ma.stack(reliability, axis=1)  # [K, S]
    num_maps = (images.count(axis=(2, 3, 4)) > 0).sum(axis=1)
    spread = images.std(axis=1, ddof=1) / np.sqrt(np.maximum(num_maps, 1))[:, None, None, None]
    alone = np.broadcast_to((num_maps < 2)[:, None, None, None], spread.shape)
    correlation = np.ma.stack([statistics.correlation_matrix(own, own) for own in images])
    corrected = statistics.disattenuate(correlation, reliable[:, :, None], reliable[:, None, :])
    diagonal = np.broadcast_to(np.eye(len(maps), dtype=bool), corrected.shape)
    return Agreement(
        np.ma.masked_array(images.mean(axis=1), alone),
        np.ma.masked_array(spread, alone),
        num_maps,
        correlation,
        np.ma.where(diagonal, correlation, corrected),
    )


def _join(copies: jax.Array) -> jax.Array:
    """[S, h, w, c] -> [h, w, S c]."""
    return jnp.moveaxis(copies, 0, -2).reshape(*copies.shape[1:-1], -1)


def _part(joined: jax.Array, count: int) -> jax.Array:
    """[..., h, w, S c] -> [S, ..., h, w, c]."""
    return jnp.moveaxis(joined.reshape(*joined.shape[:-1], count, -1), -2, 0)
