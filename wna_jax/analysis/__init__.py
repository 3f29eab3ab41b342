"""A whole analysis: one call from a network to maps, errors, tests and pictures, and what comes of it as a value."""

from wna_jax.analysis.archive import FILE
from wna_jax.analysis.call import analyse
from wna_jax.analysis.value import Analysis, load

__all__ = ["FILE", "Analysis", "analyse", "load"]
