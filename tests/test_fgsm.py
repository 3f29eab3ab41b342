import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from experiments import fgsm
from wna_jax.errors import InputError


@pytest.fixture
def settings(network_settings: dict[str, Any], tmp_path: Path) -> fgsm.Settings:
    return fgsm.Settings(
        **network_settings, out_dir=str(tmp_path), epsilons=("0", "0.1", "0.3"), shown_epsilons=("0.1",)
    )


def test_accuracy_falls_with_epsilon_and_below_that_of_random_steps(settings: fgsm.Settings, tmp_path: Path) -> None:
    fgsm.run(settings)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    attacked, shaken = metrics["accuracy"]["sign of the gradient"], metrics["accuracy"]["random signs"]
    assert attacked[0] == shaken[0] == pytest.approx(metrics["test_accuracy"])
    assert attacked[0] > attacked[1] > attacked[2]
    assert attacked[1] < shaken[1] - 0.2
    changed = metrics["num_images"] * (attacked[0] - attacked[1])  # a step up the loss sets no answer right
    assert sum(metrics["mean_adversarial_counts"]["0.1"]) == pytest.approx(changed, abs=1)
    for name in ("accuracy.png", "mean_adversarial_images.png", "config.json"):
        assert (tmp_path / name).stat().st_size > 0


def test_only_images_that_were_right_and_are_wrong_now_are_averaged() -> None:
    """A network that calls an image of two pixels by the brighter one: a step of .2 turns those that differ by less."""
    images = np.array([[0.5, 0.4], [0.9, 0.1], [0.4, 0.5], [0.3, 0.6]], np.float32).reshape(4, 1, 2, 1)

    def brighter(images: jax.Array) -> jax.Array:
        return 10 * images.reshape(len(images), 2)

    means, counts = fgsm.mean_adversarials(brighter, images, np.array([0, 0, 1, 0], np.int32), 0.2)
    np.testing.assert_array_equal(counts, [1, 1])  # the second is too far away, the last was wrong before
    np.testing.assert_allclose(means[0].ravel(), [0.6, 0.3], atol=1e-6)
    np.testing.assert_allclose(means[1].ravel(), [0.3, 0.6], atol=1e-6)
    none, counts = fgsm.mean_adversarials(brighter, images, np.array([0, 0, 1, 0], np.int32), 0.0)
    assert none.count() == counts.sum() == 0


@pytest.mark.parametrize("wrong", [("-1",), ("little",), ("inf",)])
def test_wrong_epsilons_are_said(settings: fgsm.Settings, wrong: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="expected numbers of at least 0"):
        fgsm.run(replace(settings, epsilons=wrong))
