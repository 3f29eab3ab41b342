"""What experiments share: their data set, their trained network, noisy images, layers that were asked for."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.settings import DataSettings, NetworkSettings, NoiseSettings, SamplingSettings
from wna_jax import data, figures, noise, templates
from wna_jax.correlation import draw_samples
from wna_jax.networks import Network, checkpoints, models, training, units
from wna_jax.runs.errors import InputError, unknown_name
from wna_jax.runs.progress import Report
from wna_jax.studies import interventions


class TrainedNetwork(NamedTuple):
    """A network, what its training measured, and whether it comes from a checkpoint, not trained now."""

    network: Network
    metrics: dict[str, Any]
    was_loaded: bool

    @property
    def test_accuracy(self) -> float:
        """On the test images, a fraction."""
        return self.metrics["test_accuracy"]


def load_data(settings: DataSettings, report: Report) -> data.Dataset:
    """The data set that the settings ask for."""
    return data.load(settings.dataset, settings.data_dir, report, settings.image_size)


def load_classes(settings: DataSettings, report: Report) -> data.Dataset:
    """The data set, which must have at least two classes, with training images of each."""
    dataset = load_data(settings, report)
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
    directory = Path(settings.checkpoint_dir).expanduser()
    trained, was_loaded = checkpoints.load_or_train(spec, dataset, directory, settings.retrain, report)
    network = Network(module, trained.parameters, getattr(settings, "precision", "float32"))
    return TrainedNetwork(network, trained.metrics, was_loaded)


def create_noise(settings: NoiseSettings, dataset: data.Dataset, report: Report) -> noise.Noise:
    """The noise that the settings ask for, in the shape of the data set's images; a decoder is trained once."""
    return noise.create(settings.noise, dataset, Path(settings.checkpoint_dir).expanduser(), settings.retrain, report)


def set_up(
    settings: NoiseSettings, report: Report, check: Callable[[data.Dataset, noise.Noise], Any] = lambda *of: None
) -> tuple[data.Dataset, noise.Noise, TrainedNetwork]:
    """Data set, noise and network; a name of no noise is refused before the training, and what `check` refuses."""
    dataset = load_classes(settings, report)
    stimulus = create_noise(settings, dataset, report)
    check(dataset, stimulus)
    return dataset, stimulus, trained_network(settings, dataset, report)


def loop_options(
    settings: Any, dataset: data.Dataset, network: Network | None, report: Report, part: str = "", **more: Any
) -> dict[str, Any]:
    """All arguments of `reverse_correlate` that `LoopSettings` decide, for a part of the job that keeps its own state.

    Its identity, which is what decides the sums besides these arguments, is that of noise, data and network, and more.
    """
    identity = {} if "noise" in more else {"noise": settings.noise}
    identity |= {"data": dataset.fingerprint} | ({"network": network.fingerprint} if network else {}) | more
    return {
        "num_samples": settings.num_samples,
        "seed": settings.seed,
        "batch_size": settings.batch_size,
        **({"sampling": settings.sampling} if isinstance(settings, SamplingSettings) else {}),
        "state_dir": settings.folder / "state" / part,
        "identity": identity,
        "report": report,
    }


def noisy_images(settings: Any, dataset: data.Dataset, images: np.ndarray, report: Report) -> np.ndarray:
    """(1 - w) s + w z for images s [n, H, W, C] in [0, 1], w the noise_weight and z the noise of the settings."""
    z = draw_samples(create_noise(settings, dataset, report), len(images), seed=settings.seed)
    return np.asarray(interventions.blend(jnp.asarray(images), jnp.asarray(z), jnp.float32(settings.noise_weight)))


def chosen_layers(
    asked: Sequence[str] | None, network: Network, usual: Sequence[str] = (), with_maps: bool = False
) -> tuple[str, ...]:
    """The layers that were asked for, or all the usual ones.

    Raises:
        InputError: a layer that the network has not, or, `with_maps`, one without feature maps; or none is asked for,
            and there are no usual ones.
    """
    known = units.layer_names(network)
    for name in asked or ():
        if name not in known:
            raise unknown_name("layer", name, known)
        if with_maps and name not in units.spatial_layers(network):
            spatial = ", ".join(units.spatial_layers(network)) or "none"
            raise InputError(f"layer {name} has no spatial positions: choose from those with feature maps, {spatial}")
    chosen = asked or usual
    if not chosen:
        way_out = "another --model" if with_maps else f"--layers from {', '.join(known)}"
        raise InputError(f"no layer of this network has feature maps: choose {way_out}")
    return tuple(dict.fromkeys(chosen))


def noise_examples(stimulus: noise.Noise, network: Network, dataset: data.Dataset, seed: int, title: str) -> Figure:
    """Ten samples of a noise under what a network calls them."""
    samples = np.asarray(draw_samples(stimulus, 10, seed=seed))
    answers = templates.feed_back(network, np.ma.masked_array(samples), stretch=False)
    captions = [answer.text(dataset.class_names) for answer in answers if answer]
    return figures.gallery(samples[None], [""], title, [captions])
