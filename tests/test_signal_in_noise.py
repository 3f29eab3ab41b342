import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments import signal_in_noise
from wna_jax import noise, statistics
from wna_jax.errors import InputError
from wna_jax.interventions import embedded
from wna_jax.reverse_correlation import reverse_correlate

WHITE = noise.gaussian((8, 8, 1), 0.5, 0.2)
TEMPLATE = np.zeros((8, 8, 1), np.float32)
TEMPLATE[2:5, 3:6] = [[[1], [-1], [2]]]


def observer(images: jax.Array) -> jax.Array:
    """Answer 0 where the image agrees with the template."""
    match = jnp.einsum("nhwc,hwc->n", images - 0.5, TEMPLATE)
    return jnp.stack([match > 0, match <= 0], axis=-1).astype(jnp.float32)


def contrast(weight: float, n: int = 100_000) -> statistics.Contrast:
    signals = [0.5 + sign * TEMPLATE[None] / 4 for sign in (1, -1)]
    stimuli = [embedded(WHITE, images, weight) for images in signals]
    return statistics.signal_contrast(
        [
            (reverse_correlate(stimulus, observer, n, seed=seed, batch_size=5_000), stimulus)
            for seed, stimulus in enumerate(stimuli)
        ]
    )


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_the_classification_image_of_a_linear_observer_is_its_template(weight: float) -> None:
    """Given the answer, z shifts along the template by s phi(d) / Phi(d), d the signal's distance in deviations."""
    found = contrast(weight)
    norm = np.linalg.norm(TEMPLATE)
    d = weight * norm / 4 / ((1 - weight) * 0.2)
    expected = 2 * 0.2 * stats.norm.pdf(d) * (1 / stats.norm.cdf(d) + 1 / stats.norm.cdf(-d)) * TEMPLATE / norm
    of_noise, error = found.difference[0, ..., :1], found.standard_error[0, ..., :1]
    np.testing.assert_allclose(of_noise, expected, atol=float(5 * error.max()))
    unseen = found.z[0, ..., 0][TEMPLATE[..., 0] == 0]
    assert unseen.std() == pytest.approx(1, abs=0.3)
    significant = statistics.significant_pixels(found.z[..., :1], alpha=1e-4)[0]
    np.testing.assert_array_equal(significant, TEMPLATE != 0)


def test_an_answer_that_is_never_given_leaves_no_map() -> None:
    found = contrast(1.0, n=500)
    assert found.difference.count() == found.standard_error.count() == found.z.count() == 0


@pytest.fixture
def settings(network_settings: dict[str, Any], tmp_path: Path) -> signal_in_noise.Settings:
    return signal_in_noise.Settings(
        **network_settings,
        out_dir=str(tmp_path),
        classes=("3", "8"),
        gammas=("0", "0.3"),
        noise="uniform",
        num_samples=1_000,
        batch_size=None,
        seed=0,
    )


def test_it_counts_every_sample_and_finds_the_threshold(settings: signal_in_noise.Settings, tmp_path: Path) -> None:
    signal_in_noise.run(settings)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["choice_accuracy"] > 0.9
    np.testing.assert_array_equal(np.sum(metrics["counts"], axis=1), 1_000)
    arrays = np.load(tmp_path / "maps.npz")
    np.testing.assert_array_equal(arrays["count_0.3"].T, metrics["counts"][1])
    first, second = metrics["psychometric"]["share_called_8"].values()
    assert first[-1] < 0.2 < 0.8 < second[-1]
    (threshold,) = [t for t in metrics["threshold"].values() if t]
    assert 0 < threshold["low"] <= threshold["gamma"] <= threshold["high"] < 1
    for name in ("classification_images.png", "psychometric.png", "config.json"):
        assert (tmp_path / name).stat().st_size > 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gammas": ("0", "1.5")}, "expected numbers from 0 to 1"),
        ({"gammas": ("0", "much")}, "expected numbers from 0 to 1"),
        ({"classes": ("3", "eight")}, "unknown class 'eight'"),
        ({"classes": ("3",)}, "expected two class names"),
        ({"classes": ("3", "3")}, "expected two class names"),
    ],
)
def test_wrong_input_is_said(settings: signal_in_noise.Settings, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        signal_in_noise.run(replace(settings, **change))
