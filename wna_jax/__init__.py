"""White-noise analysis of neural networks in JAX: what a trained network sees in noise, with error bars.

The main job in one call: `analyse`, from a network to maps with errors, tests and pictures. Or by its steps: a noise
(`wna_jax.noise`), a response (`wna_jax.responses`), their streamed moments (`reverse_correlate`), and the maps that
come of them (`classification_images`).
"""

import importlib
from typing import Any

from wna_jax import noise, responses, statistics
from wna_jax.analysis import Analysis, analyse, load
from wna_jax.correlation import Moments, draw_samples, reverse_correlate
from wna_jax.maps import ClassificationImages, classification_images
from wna_jax.observers import export_stimuli, moments_from_trials
from wna_jax.runs.errors import InputError
from wna_jax.templates import feed_back

__version__ = "0.3.0"

__all__ = [
    "Analysis",
    "ClassificationImages",
    "InputError",
    "Moments",
    "analyse",
    "classification_images",
    "draw_samples",
    "export_stimuli",
    "feed_back",
    "load",
    "moments_from_trials",
    "noise",
    "responses",
    "reverse_correlate",
    "statistics",
]


def __getattr__(name: str) -> Any:
    """The other parts of the package, such as `wna_jax.figures`, without an import of their own when they are used."""
    if name in ("data", "figures", "networks"):
        return importlib.import_module(f"wna_jax.{name}")
    raise AttributeError(f"module 'wna_jax' has no attribute {name!r}")
