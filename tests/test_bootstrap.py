import numpy as np
import pytest

from wna_jax import statistics
from wna_jax.runs.errors import InputError


def test_a_bootstrap_interval_is_that_of_the_normal_distribution_for_many_values() -> None:
    values = np.random.default_rng(0).standard_normal((500, 3)) * [1, 2, 5] + [0, 7, -3]
    found = statistics.bootstrap_interval(values, resamples=10_000)
    margin = 1.95996 * values.std(axis=0) / np.sqrt(500)
    np.testing.assert_allclose(found.low, values.mean(axis=0) - margin, atol=0.05 * margin.min())
    np.testing.assert_allclose(found.high, values.mean(axis=0) + margin, atol=0.05 * margin.max())
    again = statistics.bootstrap_interval(values, resamples=10_000)
    np.testing.assert_array_equal(again, found)
    single = statistics.bootstrap_interval(values[:, 1], resamples=10_000)
    np.testing.assert_allclose(single, [found.low[1], found.high[1]])


@pytest.mark.parametrize("draw", [np.random.Generator.standard_normal, np.random.Generator.standard_exponential])
def test_bootstrap_intervals_cover_the_mean_of_100_values_as_often_as_they_say(draw: object) -> None:
    """All runs side by side: each is a column; the same resamples serve all, which changes no run's coverage."""
    runs, truth = 800, float(draw is np.random.Generator.standard_exponential)
    values = draw(np.random.default_rng(1), (100, runs))  # type: ignore[operator]
    found = statistics.bootstrap_interval(values, resamples=2_000)
    held = np.mean((found.low <= truth) & (truth <= found.high))
    assert 0.91 < held < 0.98  # 5 errors of a share of 800 below .95, and the 1% that 100 skewed values cost


def test_wrong_numbers_for_a_bootstrap_are_said() -> None:
    with pytest.raises(InputError, match="1 values: expected at least 2"):
        statistics.bootstrap_interval([3.0])
    with pytest.raises(InputError, match="confidence"):
        statistics.bootstrap_interval([3.0, 4.0], 95)
