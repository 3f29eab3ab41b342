"""Figures for people. matplotlib lives only here; every function returns a Figure, made without global state."""

from wna_jax.figures.activations import activation_bars, activation_maps, walk
from wna_jax.figures.bars import dots, shares, speeds
from wna_jax.figures.curves import Curve, curves, families, spectra
from wna_jax.figures.maps import (
    RELIABLE,
    across_networks,
    classification_images,
    convergence,
    significance,
)
from wna_jax.figures.pictures import Panel, colour_mapped, gallery, panels
from wna_jax.figures.templates import confusions, tables, template_accuracies
from wna_jax.figures.training import learning_curves, seed_means

__all__ = [
    "RELIABLE",
    "Curve",
    "Panel",
    "across_networks",
    "activation_bars",
    "activation_maps",
    "classification_images",
    "colour_mapped",
    "confusions",
    "convergence",
    "curves",
    "dots",
    "families",
    "gallery",
    "learning_curves",
    "panels",
    "seed_means",
    "shares",
    "significance",
    "spectra",
    "speeds",
    "tables",
    "template_accuracies",
    "walk",
]
