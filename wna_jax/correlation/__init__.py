"""Reverse correlation: the one loop from noise and responses to additive moments."""

from wna_jax.correlation.loop import (
    SAMPLINGS,
    Parts,
    Sampling,
    draw_samples,
    reverse_correlate,
    reverse_correlate_in_parts,
)
from wna_jax.correlation.moments import FieldSums, Moments

__all__ = [
    "SAMPLINGS",
    "FieldSums",
    "Moments",
    "Parts",
    "Sampling",
    "draw_samples",
    "reverse_correlate",
    "reverse_correlate_in_parts",
]
