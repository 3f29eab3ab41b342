"""Maps as images: what does a network call its own map?"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wna_jax.maps import min_max


class Feedback(NamedTuple):
    """What a network calls a map."""

    predicted: int
    """The class of the largest probability."""
    confidence: float
    """That probability."""


def feed_back(
    logits_function: Callable[[jax.Array], jax.Array], images_khwc: np.ma.MaskedArray
) -> list[Feedback | None]:
    """Stretches each map to [0, 1] and lets the network classify it (the feed-back test of arXiv 1912.12106).

    Args:
        logits_function: images [n, H, W, C] -> logits [n, K].
        images_khwc: the maps [K, H, W, C]; masked where there is none.

    Returns:
        One `Feedback` a map, None for one that is masked or constant.
    """
    stretched = min_max(np.ma.masked_array(images_khwc))
    present = ~np.ma.getmaskarray(stretched).any(axis=(1, 2, 3))
    answers: list[Feedback | None] = [None] * len(images_khwc)
    if present.any():
        images = stretched[present].filled().astype(np.float32)
        probabilities = np.asarray(jax.nn.softmax(logits_function(jnp.asarray(images))))
        for k, probability in zip(np.flatnonzero(present), probabilities, strict=True):
            answers[k] = Feedback(int(probability.argmax()), float(probability.max()))
    return answers
