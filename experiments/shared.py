"""What experiments share: their data set, their trained network, noisy images, and the layers that were asked for."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.settings import DataSettings, NetworkSettings, NoiseSettings
from wna_jax import data, noise
from wna_jax.correlation import draw_samples
from wna_jax.networks import Network, checkpoints, models, training, units
from wna_jax.runs.errors import InputError, unknown_name
from wna_jax.runs.progress import Report
from wna_jax.studies import interventions


class TrainedNetwork(NamedTuple):
    """A network, and what is known of its training."""

    network: Network
    metrics: dict[str, Any]
    """What training measured."""
    was_loaded: bool
    """From a checkpoint, not trained now."""

    @property
    def test_accuracy(self) -> float:
        """On the test images, a fraction."""
        return self.metrics["test_accuracy"]


def load_classes(settings: DataSettings, report: Report) -> data.Dataset:
    """The data set, which must have at least two classes, with training images of each."""
    dataset = data.load(settings.dataset, settings.data_dir, report)
    data.check_classes(dataset)
    return dataset


def epochs_for(settings: NetworkSettings, dataset: data.Dataset) -> int:
    """The epochs that were asked for, or those that suit data set and network."""
    return training.default_epochs(dataset.name, settings.model) if settings.epochs is None else settings.epochs


def trained_network(
    settings: NetworkSettings, dataset: data.Dataset, report: Report, augmentation: str | None = None
) -> TrainedNetwork:
    """The network that the settings ask for, from its checkpoint or trained now.

    Of an augmentation of its own, "none" among them, or by default of that which suits the data set.
    """
    usual = training.default_augmentation(dataset.name)
    spec = training.TrainingSpec(
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
        model=settings.model,
        seed=settings.train_seed,
        epochs=epochs_for(settings, dataset),
        augmentation={None: usual, "none": None}.get(augmentation, augmentation),
    )
    module = models.create(spec.model, dataset.image_shape, dataset.num_classes)
    trained, was_loaded = checkpoints.load_or_train(
        spec, dataset, Path(settings.checkpoint_dir), settings.retrain, report
    )
    return TrainedNetwork(Network(module, trained.parameters), trained.metrics, was_loaded)


def create_noise(settings: NoiseSettings, dataset: data.Dataset, report: Report) -> noise.Noise:
    """The noise that the settings ask for, in the shape of the data set's images; a decoder is trained once."""
    return noise.create(settings.noise, dataset, Path(settings.checkpoint_dir), settings.retrain, report)


def identity(settings: NoiseSettings, dataset: data.Dataset, network: Network | None, **more: Any) -> dict[str, Any]:
    """What decides a run's sums besides the arguments of the loop."""
    known = {"noise": settings.noise, "data": dataset.fingerprint}
    return known | ({"network": network.fingerprint} if network else {}) | more


def noisy_images(settings: Any, dataset: data.Dataset, images: np.ndarray, report: Report) -> np.ndarray:
    """(1 - w) s + w z for images s [n, H, W, C] in [0, 1], w the noise_weight and z the noise of the settings."""
    z = draw_samples(create_noise(settings, dataset, report), len(images), seed=settings.seed)
    return np.asarray(interventions.blend(jnp.asarray(images), jnp.asarray(z), jnp.float32(settings.noise_weight)))


def chosen_layers(
    asked: Sequence[str] | None,
    network: Network,
    usual: Callable[[Network], tuple[str, ...]] = units.layer_names,
    *,
    with_maps: bool = False,
) -> tuple[str, ...]:
    """The layers that were asked for, or all that `usual` gives for a network.

    Raises:
        InputError: a layer that the network has not, or, `with_maps`, one without feature maps; or none is asked for,
            and `usual` gives none.
    """
    known = units.layer_names(network)
    for name in asked or ():
        if name not in known:
            raise unknown_name("layer", name, known)
        if with_maps and name not in units.spatial_layers(network):
            spatial = ", ".join(units.spatial_layers(network)) or "none"
            raise InputError(f"layer {name} has no spatial positions: choose from those with feature maps, {spatial}")
    chosen = asked or usual(network)
    if not chosen:
        way_out = "another --model" if with_maps else f"--layers from {', '.join(known)}"
        raise InputError(f"no layer of this network has feature maps: choose {way_out}")
    return tuple(dict.fromkeys(chosen))
