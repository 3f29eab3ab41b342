"""What a map can be said to show: significance (pixels, clusters), reliability, and intervals.

`significance` asks whether a map holds anything but noise, pixel by pixel or as a whole; `clusters` asks it of
neighbouring pixels together; `findings` is all tests of a set of maps; `reliability` asks how near a map is to the map
of infinitely many samples, and how well a share or an average is known. All work on float64 arrays on the host, masked
where there is no map.
"""

from wna_jax.statistics.clusters import (
    cluster_mass,
    null_z_maps,
    permutation_max,
    permutation_test,
    random_field_cluster_size,
    random_field_threshold,
    smooth,
    tfce,
)
from wna_jax.statistics.findings import Findings, findings
from wna_jax.statistics.reliability import (
    BlockAverage,
    Convergence,
    Interval,
    SeedMean,
    SplitHalf,
    Threshold,
    batch_means,
    convergence,
    correlation_matrix,
    disattenuate,
    known_noise_reliability,
    map_correlation,
    predicted_correlation,
    samples_for,
    seed_mean,
    split_half,
    threshold,
    wilson_interval,
)
from wna_jax.statistics.significance import (
    Contrast,
    contrast,
    info_val,
    info_val_null,
    max_statistic_threshold,
    p_values,
    signal_contrast,
    significant_pixels,
    z_map,
)

__all__ = [
    "BlockAverage",
    "Contrast",
    "Convergence",
    "Findings",
    "Interval",
    "SeedMean",
    "SplitHalf",
    "Threshold",
    "batch_means",
    "cluster_mass",
    "contrast",
    "convergence",
    "correlation_matrix",
    "disattenuate",
    "findings",
    "info_val",
    "info_val_null",
    "known_noise_reliability",
    "map_correlation",
    "max_statistic_threshold",
    "null_z_maps",
    "p_values",
    "permutation_max",
    "permutation_test",
    "predicted_correlation",
    "random_field_cluster_size",
    "random_field_threshold",
    "samples_for",
    "seed_mean",
    "signal_contrast",
    "significant_pixels",
    "smooth",
    "split_half",
    "tfce",
    "threshold",
    "wilson_interval",
    "z_map",
]
