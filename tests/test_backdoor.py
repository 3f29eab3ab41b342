import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments import backdoor
from wna_jax import backdoors, data, interventions
from wna_jax.errors import InputError
from wna_jax.training import to_unit_range

LETTER = interventions.c_patch((6, 6, 1), 6, 0, 0)


def test_the_patch_score_is_largest_where_the_patch_is() -> None:
    maps = np.ma.masked_array(np.random.default_rng(0).normal(size=(3, 20, 24, 1)))
    maps[1, 4:10, 11:17, 0] += 3 * LETTER
    maps[2] = np.ma.masked
    scores = backdoors.patch_scores(maps, LETTER)
    assert scores.shape == (3, 15, 19)
    assert np.unravel_index(scores[:2].argmax(), (2, 15, 19)) == (1, 4, 11)
    assert scores[2].count() == 0
    image = maps[1, ..., 0]
    patch = interventions.c_patch(image.shape, 6, 4, 11)
    assert scores[1, 4, 11] == pytest.approx((image[patch].mean() - image[~patch].mean()) / image.std())


def test_scores_of_one_more_clean_network_are_normal_numbers() -> None:
    generator = np.random.default_rng(0)
    clean, another = generator.normal(5, 2, (6, 40_000)), generator.normal(5, 2, 40_000)
    normal = backdoors.against_clean(np.ma.masked_array(another), np.ma.masked_array(clean))
    assert stats.kstest(normal, "norm").statistic < 1.7 / np.sqrt(40_000)
    few = np.ma.masked_array(clean[:, :2], [[True, False]] * 4 + [[False, False]] * 2)
    assert backdoors.against_clean(np.ma.masked_array(another[:2]), few).mask.tolist() == [True, False]


def test_mean_gradients_are_those_of_images_that_are_called_right(digits: data.Dataset) -> None:
    filters = jax.random.normal(jax.random.key(0), (28 * 28, 10))

    def logits(images: jax.Array) -> jax.Array:
        return jnp.square(images.reshape(len(images), -1) @ filters) / 100

    split = data.Split(digits.train.images[:300], digits.train.labels[:300])
    found = backdoors.mean_gradients(logits, split, 10)
    images = to_unit_range(jnp.asarray(split.images))
    right = np.asarray(logits(images).argmax(axis=-1)) == split.labels
    gradients = np.asarray(interventions.loss_gradient(logits, images, jnp.asarray(split.labels)), np.float64)
    for k in range(10):
        own = gradients[right & (split.labels == k)]
        if len(own) < 2:
            assert not found[k].count()
        elif len(own) > 4:  # or float32 sums tell little of the spread
            expected = own.mean(axis=0) / (own.std(axis=0, ddof=1) / np.sqrt(len(own)))
            np.testing.assert_allclose(found[k], expected, rtol=0.01, atol=0.01)


@pytest.fixture
def settings(network_settings: dict[str, Any], tmp_path: Path) -> backdoor.Settings:
    return backdoor.Settings(
        **network_settings,
        out_dir=str(tmp_path),
        source="8",
        target="9",
        num_poisoned=60,
        patch_size=6,
        patch_top=1,
        patch_left=21,
        num_seeds=4,
        noise="matched",
        sampling="independent",
        num_samples=2_000,
        batch_size=None,
        seed=0,
    )


def test_a_backdoor_works_and_shows_in_the_maps_of_a_linear_network(
    settings: backdoor.Settings, tmp_path: Path
) -> None:
    backdoor.run(settings)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert min(metrics["clean_accuracy"]["poisoned"]) > 0.85
    assert min(metrics["attack_success"]["poisoned"]) > 0.7 > 0.4 > max(metrics["attack_success"]["clean"])
    for name in ("probability", "held-out gradient", "training gradient"):
        scores = metrics["patch_score"][name]["scores"]
        assert min(scores["poisoned"]) > max(scores["clean"]), name
    assert metrics["by_samples"][-1]["samples"] == 2_000
    for name in ("maps.png", "scores.png", "detection.png", "maps.npz"):
        assert (tmp_path / name).stat().st_size > 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"patch_left": 23}, "all of it lies inside"),
        ({"num_poisoned": 100_000}, "all that there are"),
        ({"target": "8"}, "give two classes"),
        ({"source": "eight"}, "unknown class 'eight'"),
    ],
)
def test_wrong_input_is_said(settings: backdoor.Settings, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        backdoor.run(replace(settings, **change))
