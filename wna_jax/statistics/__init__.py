"""Statistics of maps and of answers: significance (pixels, clusters), reliability, intervals, classification reports.

`significance` tests whether a map holds anything but noise, pixel by pixel or as a whole; `clusters` tests neighbouring
pixels together; `findings` runs all tests on a set of maps; `reliability` estimates how close a map is to the map of
infinitely many samples, and how precisely a proportion or an average is known; `classification` scores the answers of
a classifier. All of them work on the host, maps on float64 arrays that are masked where there is no map.
"""

from wna_jax.statistics.classification import ClassificationReport as ClassificationReport
from wna_jax.statistics.classification import classification_report as classification_report
from wna_jax.statistics.classification import confusion_matrix as confusion_matrix
from wna_jax.statistics.classification import log_odds as log_odds
from wna_jax.statistics.clusters import cluster_mass as cluster_mass
from wna_jax.statistics.clusters import null_z_maps as null_z_maps
from wna_jax.statistics.clusters import permutation_max as permutation_max
from wna_jax.statistics.clusters import permutation_test as permutation_test
from wna_jax.statistics.clusters import random_field_cluster_size as random_field_cluster_size
from wna_jax.statistics.clusters import random_field_threshold as random_field_threshold
from wna_jax.statistics.clusters import smooth as smooth
from wna_jax.statistics.clusters import tfce as tfce
from wna_jax.statistics.findings import Findings as Findings
from wna_jax.statistics.findings import findings as findings
from wna_jax.statistics.reliability import BlockAverage as BlockAverage
from wna_jax.statistics.reliability import Convergence as Convergence
from wna_jax.statistics.reliability import Interval as Interval
from wna_jax.statistics.reliability import SeedMean as SeedMean
from wna_jax.statistics.reliability import SplitHalf as SplitHalf
from wna_jax.statistics.reliability import Threshold as Threshold
from wna_jax.statistics.reliability import batch_means as batch_means
from wna_jax.statistics.reliability import convergence as convergence
from wna_jax.statistics.reliability import correlation_matrix as correlation_matrix
from wna_jax.statistics.reliability import disattenuate as disattenuate
from wna_jax.statistics.reliability import known_noise_reliability as known_noise_reliability
from wna_jax.statistics.reliability import map_correlation as map_correlation
from wna_jax.statistics.reliability import predicted_correlation as predicted_correlation
from wna_jax.statistics.reliability import samples_for as samples_for
from wna_jax.statistics.reliability import seed_mean as seed_mean
from wna_jax.statistics.reliability import split_half as split_half
from wna_jax.statistics.reliability import threshold as threshold
from wna_jax.statistics.reliability import wilson_interval as wilson_interval
from wna_jax.statistics.significance import Contrast as Contrast
from wna_jax.statistics.significance import contrast as contrast
from wna_jax.statistics.significance import info_val as info_val
from wna_jax.statistics.significance import info_val_null as info_val_null
from wna_jax.statistics.significance import max_statistic_threshold as max_statistic_threshold
from wna_jax.statistics.significance import p_values as p_values
from wna_jax.statistics.significance import signal_contrast as signal_contrast
from wna_jax.statistics.significance import significant_pixels as significant_pixels
from wna_jax.statistics.significance import z_map as z_map
