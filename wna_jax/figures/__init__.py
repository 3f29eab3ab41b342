"""All figures: functions that return a matplotlib Figure without global state. No other library module draws."""

from wna_jax.figures.activations import activation_bars, activation_maps, walk
from wna_jax.figures.bars import dots, point_ranges, shares, speeds
from wna_jax.figures.captions import RELIABLE
from wna_jax.figures.channels import channels
from wna_jax.figures.curves import Curve, curves, families, spectra
from wna_jax.figures.maps import (
    MOST_CLASSES,
    across_networks,
    classification_images,
    comparison,
    convergence,
    significance,
)
from wna_jax.figures.observers import observers
from wna_jax.figures.parts import limit_of, percent, save
from wna_jax.figures.pictures import Panel, colour_mapped, gallery, panels
from wna_jax.figures.posterior import with_and_without_prior
from wna_jax.figures.subunits import subunits
from wna_jax.figures.templates import confusions, tables, template_accuracies
from wna_jax.figures.tiles import tint
from wna_jax.figures.training import learning_curves, regimes, seed_means, surest_answers

__all__ = ["activation_bars", "activation_maps", "walk"]
__all__ += ["dots", "point_ranges", "shares", "speeds"]
__all__ += ["channels"]
__all__ += ["Curve", "curves", "families", "spectra"]
__all__ += ["MOST_CLASSES", "RELIABLE", "across_networks", "classification_images", "comparison", "convergence"]
__all__ += ["significance"]
__all__ += ["observers"]
__all__ += ["limit_of", "percent", "save", "tint"]
__all__ += ["Panel", "colour_mapped", "gallery", "panels"]
__all__ += ["with_and_without_prior"]
__all__ += ["subunits"]
__all__ += ["confusions", "tables", "template_accuracies"]
__all__ += ["learning_curves", "regimes", "seed_means", "surest_answers"]
