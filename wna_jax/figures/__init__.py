"""All figures: functions that return a matplotlib Figure without global state. No other library module draws."""

from wna_jax.figures.activations import activation_bars as activation_bars
from wna_jax.figures.activations import activation_maps as activation_maps
from wna_jax.figures.activations import walk as walk
from wna_jax.figures.bars import dots as dots
from wna_jax.figures.bars import shares as shares
from wna_jax.figures.bars import speeds as speeds
from wna_jax.figures.curves import Curve as Curve
from wna_jax.figures.curves import curves as curves
from wna_jax.figures.curves import families as families
from wna_jax.figures.curves import spectra as spectra
from wna_jax.figures.maps import RELIABLE as RELIABLE
from wna_jax.figures.maps import across_networks as across_networks
from wna_jax.figures.maps import classification_images as classification_images
from wna_jax.figures.maps import convergence as convergence
from wna_jax.figures.maps import significance as significance
from wna_jax.figures.pictures import Panel as Panel
from wna_jax.figures.pictures import colour_mapped as colour_mapped
from wna_jax.figures.pictures import gallery as gallery
from wna_jax.figures.pictures import panels as panels
from wna_jax.figures.templates import confusions as confusions
from wna_jax.figures.templates import tables as tables
from wna_jax.figures.templates import template_accuracies as template_accuracies
from wna_jax.figures.training import learning_curves as learning_curves
from wna_jax.figures.training import seed_means as seed_means
from wna_jax.figures.training import surest_answers as surest_answers
