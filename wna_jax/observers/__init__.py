"""People and networks as observers of the same trials: stimuli for them, and maps of what they answered.

`export_stimuli` writes numbered noise images and a table to be filled in; `read_trials` reads it, and
`moments_from_trials` or `analyse_trials` makes of trials what `reverse_correlate` makes of a network. `analyse_group`
puts several observers together. `rcicr.read` reads the stimuli of the R package of that name. `answer` calculates what
a template or a network answers to the same trials.
"""

from wna_jax.observers import rcicr
from wna_jax.observers.group import Agreement, Group, agreement, analyse_group, group_map, maps_by_kind
from wna_jax.observers.pictures import DESIGNS, SCALINGS, Exported, export_stimuli, on_base, scaled
from wna_jax.observers.resolve import found_stimuli
from wna_jax.observers.simulated import answer, linear_observer, n0_of_linear_observer, network_observer
from wna_jax.observers.stimuli import Drawn, Stimuli, noise_of, read_image
from wna_jax.observers.table import COLUMNS, read_trials
from wna_jax.observers.trials import (
    Halves,
    Trials,
    analyse_trials,
    moments_from_trials,
    moments_in_halves,
    shared_noise,
)

__all__ = ["Agreement", "Group", "agreement", "analyse_group", "group_map", "maps_by_kind"]
__all__ += ["DESIGNS", "SCALINGS", "Exported", "export_stimuli", "on_base", "scaled"]
__all__ += ["answer", "linear_observer", "n0_of_linear_observer", "network_observer"]
__all__ += ["Drawn", "Stimuli", "noise_of", "read_image"]
__all__ += ["COLUMNS", "found_stimuli", "rcicr", "read_trials"]
__all__ += ["Halves", "Trials", "analyse_trials", "moments_from_trials", "moments_in_halves", "shared_noise"]
