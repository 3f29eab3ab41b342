import json
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments import launch
from experiments.backdoor import Settings, run
from wna_jax import data, noise
from wna_jax.networks import models
from wna_jax.networks.training import to_unit_range
from wna_jax.runs.errors import InputError
from wna_jax.studies import backdoors, interventions
from wna_jax.studies.backdoors import Backdoor

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
    filters = jnp.asarray(np.random.default_rng(0).normal(size=(28 * 28, 10)), jnp.float32)

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


def test_another_network_of_the_architecture_compiles_nothing(
    digits: data.Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    backdoor = Backdoor(8, 9, interventions.c_patch(digits.image_shape))
    stimulus, few = noise.matched(digits), data.Split(digits.train.images[:500], digits.train.labels[:500])

    def examine(seed: int) -> None:
        network = models.untrained("logistic", digits.image_shape, 10, seed)
        backdoors.examine(network, backdoor, stimulus, digits, few, 500, seed=seed, sampling="independent")

    examine(0)
    with jax.log_compiles():
        examine(1)
    assert not [record.getMessage() for record in caplog.records if "Compiling" in record.getMessage()]


@pytest.fixture(scope="module")
def settings(network_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        **network_settings,
        out_dir=str(tmp_path_factory.mktemp("backdoor")),
        num_poisoned=60,
        num_seeds=4,
        sampling="independent",
        num_samples=2_000,
    )


@pytest.mark.slow
def test_a_backdoor_works_and_shows_in_the_maps_of_a_linear_network(settings: Settings) -> None:
    metrics = launch.execute(run, settings).metrics
    assert min(metrics["clean_accuracy"]["poisoned"]) > 0.85
    assert min(metrics["attack_success"]["poisoned"]) > 0.7 > 0.4 > max(metrics["attack_success"]["clean"])
    for name in ("probability", "held-out gradient", "training gradient"):
        scores = metrics["patch_score"][name]["scores"]
        assert min(scores["poisoned"]) > max(scores["clean"]), name
    assert metrics["by_samples"][-1]["samples"] == 2_000
    assert json.loads((settings.folder / "metrics.json").read_text()) == metrics
    for name in ("maps.png", "scores.png", "detection.png", "maps.npz"):
        assert (settings.folder / name).stat().st_size > 0
    assert not list(settings.folder.glob(".partial*"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"patch_left": 23}, "all of it lies inside"),
        ({"num_poisoned": 100_000}, "all that there are"),
        ({"target": "8"}, "give two classes"),
        ({"source": "eight"}, "unknown class 'eight'"),
    ],
)
def test_wrong_input_is_said(settings: Settings, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(replace(settings, **change))
