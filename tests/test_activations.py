from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest

from experiments import launch
from experiments.activations import Settings, run
from wna_jax import data
from wna_jax.networks import Network, checkpoints, models
from wna_jax.networks.training import Trained, TrainingSpec
from wna_jax.runs.errors import InputError


@pytest.fixture(scope="module")
def dataset() -> data.Dataset:
    return data.load("digits:1,2,3")


@pytest.fixture(scope="module")
def settings(
    dataset: data.Dataset,
    random_network: Callable[[nn.Module], Network],
    tmp_path_factory: pytest.TempPathFactory,
) -> Settings:
    """With checkpoints of two networks, so that none is trained."""
    folder = tmp_path_factory.mktemp("activations")
    parameters = random_network(models.create("pair_cnn", dataset.image_shape, 3)).parameters
    for augmentation, factor in ((None, np.float32(1)), ("shift", np.float32(2))):
        spec = TrainingSpec(dataset.name, dataset.fingerprint, "pair_cnn", epochs=1, augmentation=augmentation)
        trained = Trained(jax.tree.map(lambda leaf, by=factor: by * leaf, parameters), {"test_accuracy": 0.5})
        checkpoints.save(checkpoints.path_of(spec, folder / "checkpoints"), spec, trained)
    return Settings(
        dataset=dataset.name,
        model="pair_cnn",
        epochs=1,
        images_a_class=5,
        checkpoint_dir=str(folder / "checkpoints"),
        out_dir=str(folder),
    )


@pytest.mark.slow
def test_activations_of_classes_are_drawn_for_both_networks(settings: Settings, dataset: data.Dataset) -> None:
    result = launch.execute(run, settings)
    assert set(result.metrics["test_accuracy"]) == {"none", "shift"}
    assert set(result.metrics["images_a_class"].values()) == {5}
    arrays = result.arrays["activations.npz"]
    height, width, _ = dataset.image_shape
    assert arrays["conv1-as_they_are-none"].shape == (3, height - 4, width - 4, 10)
    assert not np.array_equal(arrays["conv1-as_they_are-none"], arrays["conv1-in_noise-none"])
    assert not np.array_equal(arrays["conv1-as_they_are-none"], arrays["conv1-as_they_are-shift"])
    for name in ("conv1_maps", "conv2_maps", "conv1_bars", "conv2_bars", "walk", "augmentation"):
        assert (settings.folder / f"{name}.png").stat().st_size > 0
    assert not list(settings.folder.glob(".partial*"))


def test_layers_without_feature_maps_are_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="fc1 has no spatial positions: choose from those with feature maps, conv1, conv2"
    ):
        run(replace(settings, layers=("fc1",), out_dir=str(tmp_path)))
