"""What is said of a map in a few words: its samples, reliability, prior, and why there is none."""

import numpy as np

from wna_jax.figures.parts import percent
from wna_jax.maps import ClassificationImages
from wna_jax.posterior import PosteriorMaps
from wna_jax.statistics import SplitHalf
from wna_jax.studies.rare_classes import FEWEST_EFFECTIVE

RELIABLE = 0.9
"""The split-half reliability below which a map is marked."""


def amount(response: str, images: ClassificationImages, k: int) -> str:
    """How many samples a class got, and their share; for graded responses the mean weight."""
    share = images.share[k]
    if not response.startswith("decision"):
        return f"mean {share:.2g}"
    if not images.count[k]:
        return "0"
    return f"{images.count[k]:,} ({percent(share)})"


def reliability_said(halves: SplitHalf, k: int) -> tuple[str, bool]:
    """What is said of a map's reliability, and whether it is enough."""
    reliability = halves.reliability[k]
    if reliability is np.ma.masked:
        return "reliability unknown", False
    text = f"reliability {reliability:.2f}"
    if reliability < RELIABLE and halves.n0[k] is not np.ma.masked:
        # Spearman-Brown: reliability N / (N + N0) reaches R at N = N0 R / (1 - R).
        text += f", .9 at {short(halves.n0[k] * RELIABLE / (1 - RELIABLE))}"
    return text, bool(reliability >= RELIABLE)


def prior_said(posterior: PosteriorMaps, k: int) -> tuple[str, bool]:
    """What is said of a posterior map, and whether there is anything to be seen in it."""
    if posterior.priors[k] is None:
        return "", True
    if posterior.p_value[k] >= 0.05:
        return f"no structure (p {posterior.p_value[k]:.2f})", False
    return f"r {posterior.expected_correlation[k]:.2f} ({_times(posterior.gain[k])})", True


def _times(gain: float) -> str:
    """How many times as many samples a plain map would need."""
    return "no gain" if gain < 1.05 else f"{gain:.{0 if gain >= 10 else 1}f}×"


def why_empty(images: ClassificationImages, k: int) -> str:
    """Why a map, or its error, is masked."""
    if images.count[k] == 0:
        return "empty:\nno sample"
    if images.images[k].count():
        return "too few\nsamples for\nan error"
    if images.count[k] < FEWEST_EFFECTIVE and images.share[k] < 1:
        return "no map:\ntoo few\neffective\nsamples"
    return "no map:\nall weights\nare equal"


def short(number: float) -> str:
    """A number of samples in two digits or three, such as 2.7M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.{0 if number >= 10 * size else 1}f}{unit}"
    return f"{number:.0f}"
