from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import invariance as experiment
from experiments import launch
from experiments.invariance import Settings
from experiments.launch import Result
from wna_jax import data
from wna_jax.runs.errors import InputError
from wna_jax.studies import invariance

pytestmark = pytest.mark.slow  # whole experiments


def test_places_are_where_they_say() -> None:
    image = jax.random.uniform(jax.random.key(0), (1, 8, 8, 1))
    small = image.reshape(1, 4, 2, 4, 2, 1).mean(axis=(2, 4))
    corners = {
        "upper_left": (slice(0, 4), slice(0, 4)),
        "centre": (slice(2, 6), slice(2, 6)),
        "lower_right": (slice(4, 8), slice(4, 8)),
    }
    for name, (rows, columns) in corners.items():
        expected = jnp.zeros_like(image).at[:, rows, columns].set(small)
        np.testing.assert_allclose(invariance.put(image, invariance.PLACES[name]), expected, atol=1e-6)
    turned = invariance.put(image, invariance.PLACES["turned_270"])
    np.testing.assert_allclose(turned, jnp.rot90(image, -1, axes=(1, 2)), atol=1e-5)


def test_a_moved_data_set_keeps_its_labels_and_its_test_images(digits: data.Dataset) -> None:
    moved = invariance.moved_dataset(digits, "upper_left")
    assert moved.name == "digits_upper_left"
    assert moved.fingerprint != digits.fingerprint
    np.testing.assert_array_equal(moved.train.labels, digits.train.labels)
    np.testing.assert_array_equal(moved.test.images, digits.test.images)
    assert not moved.train.images[:, 14:].any()
    assert moved.train.images.sum() == pytest.approx(digits.train.images.sum() / 4, rel=0.01)


@pytest.fixture(scope="module")
def settings(network_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = str(tmp_path_factory.mktemp("invariance"))
    own = {"epochs": 20, "checkpoint_dir": folder, "out_dir": folder}
    return Settings(**network_settings | own, trained_on=("original", "upper_left"))


@pytest.fixture(scope="module")
def result(settings: Settings) -> Result:
    return launch.execute(experiment.run, settings)


def test_networks_know_what_they_were_trained_on(result: Result) -> None:
    original, upper_left = result.metrics["accuracy"]["original"], result.metrics["accuracy"]["upper_left"]
    assert original["original"] > 0.85
    assert upper_left["upper_left"] > 0.6
    assert max(original["turned_90"], upper_left["lower_right"]) < 0.4
    angles = result.metrics["curves"]["turned by degrees"]
    assert angles["accuracy"][0] == pytest.approx(original["original"])
    assert angles["accuracy"][angles["x"].index(180)] == pytest.approx(original["turned_180"])


@pytest.mark.usefixtures("result")
def test_it_writes_its_files(settings: Settings) -> None:
    for name in ("curves.png", "conditions.png", "metrics.json", "config.json", "log.jsonl"):
        assert (settings.folder / name).stat().st_size > 0
    assert not list(settings.folder.glob(".partial*"))


def test_wrong_places_are_said() -> None:
    with pytest.raises(InputError, match="unknown place 'left'"):
        Settings(trained_on=("left",))
    with pytest.raises(InputError, match="trained_on is empty: choose from original, upper_left, centre"):
        Settings(trained_on=())
