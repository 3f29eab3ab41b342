"""White-noise analysis of neural networks in JAX: what a trained network sees in noise, with error bars.

The main job in four calls: a noise (`wna_jax.noise`), a response (`wna_jax.responses`), their streamed moments
(`reverse_correlate`), and the maps that come of them (`classification_images`).
"""

from wna_jax import noise, responses
from wna_jax.correlation import Moments, draw_samples, reverse_correlate
from wna_jax.maps import ClassificationImages, classification_images
from wna_jax.runs.errors import InputError
from wna_jax.templates import feed_back

__version__ = "0.2.0"

__all__ = [
    "ClassificationImages",
    "InputError",
    "Moments",
    "classification_images",
    "draw_samples",
    "feed_back",
    "noise",
    "responses",
    "reverse_correlate",
]
