"""Statistics of maps and of answers: significance (pixels, clusters), reliability, intervals, classification reports.

`significance` tests whether a map holds anything but noise, pixel by pixel or as a whole; `clusters` tests neighbouring
pixels together, against the null maps of `nulls`; `findings` runs all tests on a set of maps; `reliability` estimates
how close a map is to the map of infinitely many samples, and how precisely a proportion or an average is known;
`paired` compares settings by networks that share their training seeds; `classification` scores the answers of a
classifier. All of them work on the host, maps on float64 arrays that are masked where there is no map.
"""

# ruff: noqa: I001 - the names of a module stand on several lines, by subject
from wna_jax.statistics.agreement import IntraclassCorrelation, intraclass_correlation
from wna_jax.statistics.checks import rectangle
from wna_jax.statistics.classification import ClassificationReport, classification_report, confusion_matrix, log_odds
from wna_jax.statistics.clusters import cluster_mass, permutation_max, permutation_test, smooth, tfce
from wna_jax.statistics.clusters import random_field_cluster_size, random_field_threshold
from wna_jax.statistics.findings import Findings, findings
from wna_jax.statistics.nulls import null_z_maps
from wna_jax.statistics.paired import PairedDifference, holm, paired_difference
from wna_jax.statistics.reliability import BlockAverage, Convergence, Interval, SeedMean, SplitHalf, Threshold
from wna_jax.statistics.reliability import batch_means, bootstrap_interval, seed_mean, threshold, wilson_interval
from wna_jax.statistics.reliability import convergence, correlation_matrix, disattenuate, known_noise_reliability
from wna_jax.statistics.reliability import map_correlation, predicted_correlation, samples_for, split_half
from wna_jax.statistics.significance import Contrast, contrast, info_val, info_val_null, info_val_of_responses
from wna_jax.statistics.significance import (
    max_statistic_threshold,
    p_values,
    signal_contrast,
    significant_pixels,
    z_map,
)

__all__ = ["IntraclassCorrelation", "intraclass_correlation"]
__all__ += ["ClassificationReport", "classification_report", "confusion_matrix", "log_odds"]
__all__ += ["cluster_mass", "permutation_max", "permutation_test", "smooth", "tfce"]
__all__ += ["random_field_cluster_size", "random_field_threshold"]
__all__ += ["Findings", "findings", "rectangle"]
__all__ += ["null_z_maps"]
__all__ += ["PairedDifference", "holm", "paired_difference"]
__all__ += ["BlockAverage", "Convergence", "Interval", "SeedMean", "SplitHalf", "Threshold"]
__all__ += ["batch_means", "bootstrap_interval", "seed_mean", "threshold", "wilson_interval"]
__all__ += ["convergence", "correlation_matrix", "disattenuate", "known_noise_reliability"]
__all__ += ["map_correlation", "predicted_correlation", "samples_for", "split_half"]
__all__ += ["Contrast", "contrast", "info_val", "info_val_null", "info_val_of_responses"]
__all__ += ["max_statistic_threshold", "p_values", "signal_contrast", "significant_pixels", "z_map"]
