"""Is a backdoor seen in the maps of a network? Scores of its patch, against those of clean networks.

A contrast with one clean network is no test: clean networks of two seeds differ significantly too. The null is the
spread between clean networks.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special, stats

from wna_jax import data, interventions, maps, statistics, training

ALPHA = 0.05
"""Of all tests."""
_BATCH = 500


def patch_scores(maps_khwc: np.ma.MaskedArray, patch: np.ndarray) -> np.ma.MaskedArray:
    """How a map stands out inside a patch: (mean inside - mean outside) / deviation over the map, at every place.

    Args:
        maps_khwc: maps [K, H, W, C]; channels are added up.
        patch: bool [h, w], the patch's own rectangle.

    Returns:
        [K, H - h + 1, W - w + 1], for the patch's first row and column; masked where there is no map.
    """
    planes = maps_khwc.sum(axis=-1)
    windows = np.lib.stride_tricks.sliding_window_view(planes.filled(0), patch.shape, axis=(1, 2))
    inside = windows[..., patch]
    total = planes.filled(0).sum(axis=(1, 2))[:, None, None]
    outside = (total - inside.sum(axis=-1)) / (planes[0].size - patch.sum())
    deviation = planes.std(axis=(1, 2))[:, None, None]
    return (inside.mean(axis=-1) - outside) / np.ma.masked_equal(deviation, 0)


def against_clean(score: np.ma.MaskedArray, clean: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """A score as a normal number, given those of n clean networks: t = (score - mean) / (sd sqrt(1 + 1/n)).

    Where the score is of one more clean network, t is Student's with n - 1 degrees of freedom (a prediction interval);
    the normal number has the same tail.

    Args:
        score: of any shape.
        clean: [n, ...]; a place where fewer than three of them have a score is masked.
    """
    n = clean.count(axis=0)
    deviation = np.ma.filled(clean.std(axis=0, ddof=1), 0)
    known = (n >= 3) & (deviation > 0) & ~np.ma.getmaskarray(score)
    error = np.where(known, deviation * np.sqrt(1 + 1 / np.maximum(n, 1)), 1)
    t = np.where(known, np.ma.filled(score, 0) - np.ma.filled(clean.mean(axis=0), 0), 0) / error
    tail = np.maximum(stats.t.sf(t, np.maximum(n - 1, 1)), 1e-300)
    return np.ma.masked_array(-special.ndtri(tail), ~known)


def mean_gradients(
    logits_function: interventions.LogitsFunction, split: data.Split, num_classes: int
) -> np.ma.MaskedArray:
    """The mean loss gradient over the images of each class that are called right, in its standard errors."""

    @jax.jit
    def sums_of(images_u8: jax.Array, labels: jax.Array) -> tuple[jax.Array, ...]:
        images = training.to_unit_range(images_u8)
        right = logits_function(images).argmax(axis=-1) == labels
        gradient = interventions.loss_gradient(logits_function, images, labels)
        weight = jnp.where(right[:, None], jax.nn.one_hot(labels, num_classes), 0)
        both = [jnp.einsum("nk,nhwc->khwc", weight, values) for values in (gradient, jnp.square(gradient))]
        return weight.sum(axis=0), *both

    sums: Any = 0
    for start in range(0, len(split.labels), _BATCH):
        batch = sums_of(*(jnp.asarray(array[start : start + _BATCH]) for array in split))
        sums = [np.asarray(array, np.float64) + (sums[i] if start else 0) for i, array in enumerate(batch)]
    count, total, square = sums
    count = np.ma.masked_less(count, 2)[:, None, None, None]
    mean = total / count
    return mean / np.ma.masked_equal(np.ma.sqrt((square / count - mean**2) / (count - 1)), 0)


def normal_scores(scores: Mapping[str, np.ma.MaskedArray]) -> dict[str, np.ma.MaskedArray]:
    """Each network's scores against the clean networks, or the other clean networks, as normal numbers."""
    clean = scores["clean"]
    others = [np.ma.concatenate([clean[:i], clean[i + 1 :]]) for i in range(len(clean))]
    return {
        "clean": np.ma.stack([against_clean(np.ma.masked_array(s), o) for s, o in zip(clean, others, strict=True)]),
        "poisoned": np.ma.stack([against_clean(np.ma.masked_array(s), clean) for s in scores["poisoned"]]),
    }


def rejections(normal: Mapping[str, np.ma.MaskedArray]) -> dict[str, int]:
    """Networks whose one score rejects "a clean network" at .05; one without a map does not."""
    return {kind: int((z > special.ndtri(1 - ALPHA)).filled(False).sum()) for kind, z in normal.items()}


def pixel_rejections(
    mapped: Mapping[str, Sequence[maps.ClassificationImages]], target: int, inside: np.ndarray
) -> dict[str, int]:
    """Networks whose map of the target differs significantly from the next clean one's, in a pixel inside or more."""
    clean = mapped["clean"]
    return {
        kind: sum(
            bool(statistics.significant_pixels(statistics.contrast(own, other).z[target])[inside].any())
            for own, other in zip(all_images, [*clean[1:], clean[0]], strict=True)
        )
        for kind, all_images in mapped.items()
    }


def scan(normal: Mapping[str, np.ma.MaskedArray], place: tuple[int, int, int], letter: np.ndarray) -> dict[str, Any]:
    """The largest score of each network over classes and places, and in how many it is at the patch, of the target."""
    largest = {kind: z.reshape(len(z), -1).max(axis=1).filled(-np.inf) for kind, z in normal.items()}
    at_the_patch = {}
    for kind, all_scores in normal.items():
        found = 0
        for z in all_scores:
            k, row, column = (int(i) for i in np.unravel_index(int(z.filled(-np.inf).argmax()), z.shape))
            near = abs(row - place[1]) < letter.shape[0] / 2 and abs(column - place[2]) < letter.shape[1] / 2
            found += int(k == place[0] and near)
        at_the_patch[kind] = found
    return {
        "largest": {kind: values.tolist() for kind, values in largest.items()},
        "above_all_clean": int((largest["poisoned"] > largest["clean"].max()).sum()),
        "largest_is_at_the_patch": at_the_patch,
    }


def unit(z_hwc: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """A map in deviations over its own pixels, so that maps of unlike kinds stand on one scale."""
    return z_hwc / z_hwc.std()


def welch(clean: np.ma.MaskedArray, poisoned: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """Poisoned minus clean, in standard errors over the networks (Welch), of maps in deviations over their pixels."""
    groups = [np.ma.stack([unit(z) for z in maps_]) for maps_ in (clean, poisoned)]
    error = np.ma.sqrt(sum(g.var(axis=0, ddof=1) / g.count(axis=0) for g in groups))
    return (groups[1].mean(axis=0) - groups[0].mean(axis=0)) / error
