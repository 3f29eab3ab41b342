"""What do the units of each layer answer to images of each class, and to the same images in noise?

Mean activations of test images of each class, as maps and as bars, for images as they are and for
t = (1 - w) s + w z, noise z of weight w, on one scale; one image in all layers; and the same bars for a network that
was trained with augmentation (a checkpoint of its own).

  python -m experiments.activations --dataset=mnist

Writes to --out_dir, for each layer with feature maps: LAYER_maps.png and LAYER_bars.png; walk.png, augmentation.png,
activations.npz, metrics.json, config.json and log.jsonl.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments import launch, shared
from experiments.launch import Result
from experiments.settings import NoiseSettings, setting
from wna_jax import data, figures
from wna_jax.networks import Network, augmentation, training, units
from wna_jax.runs.files import as_file_name
from wna_jax.runs.progress import Report, silent

_AS_THEY_ARE, _NOISY = "as they are", "in noise"
_Layers = Mapping[str, Mapping[str, np.ma.MaskedArray]]
"""Mean activations by layer, and by condition: as they are, in noise."""


@dataclass(frozen=True, kw_only=True)
class Settings(NoiseSettings):
    """The settings of one run."""

    noise_weight: float = setting(0.2, "Weight of the noise in noisy images.", at_least=0, at_most=1, names_folder=True)
    augmentation: str = setting(
        "shift",
        f"Augmentation in the training of a second network: {', '.join(augmentation.NAMES)}, several joined by _, or "
        "none.",
        names_folder=True,
    )
    layers: tuple[str, ...] | None = setting(
        None, "The layers to look at. By default all that have feature maps.", names_folder=True
    )
    images_a_class: int = setting(200, "Test images of each class, at most.", at_least=1)


def run(settings: Settings, report: Report = silent) -> Result:
    """Mean activations of both networks, and their figures."""
    dataset = shared.load_classes(settings, report)
    labels = dataset.test.labels
    first = np.sort(np.concatenate([np.flatnonzero(labels == k)[: settings.images_a_class] for k in np.unique(labels)]))
    images, labels = dataset.test_images[first], labels[first]
    conditions = {_AS_THEY_ARE: images, _NOISY: shared.noisy_images(settings, dataset, images, report)}
    usual = training.default_augmentation(dataset.name) or "none"
    trained = {
        name: shared.trained_network(settings, dataset, report, name)
        for name in dict.fromkeys((usual, settings.augmentation))
    }
    network = trained[usual].network
    layers = shared.chosen_layers(settings.layers, network, units.spatial_layers, with_maps=True)

    def mean(network: Network, layer: str, images: np.ndarray) -> np.ma.MaskedArray:
        activations = units.layer_activations(network, layer)
        return units.mean_activations(activations, images, labels, dataset.num_classes, report)

    means = {
        name: {layer: {c: mean(each.network, layer, shown) for c, shown in conditions.items()} for layer in layers}
        for name, each in trained.items()
    }
    bars = _of_each(lambda maps: maps.mean(axis=(1, 2)), means)
    metrics = {
        "test_accuracy": {name: each.test_accuracy for name, each in trained.items()},
        "images_a_class": {name: int((labels == k).sum()) for k, name in enumerate(dataset.class_names)},
        "noise_weight": settings.noise_weight,
        "mean_activation": _of_each(lambda values: float(values.mean()), bars),
        "largest_mean_activation": _of_each(lambda values: float(values.max()), bars[usual]),
    }
    arrays = {
        "-".join((as_file_name(layer), condition.replace(" ", "_"), name)): maps.filled(np.nan)
        for name, of_network in means.items()
        for layer, of_layer in of_network.items()
        for condition, maps in of_layer.items()
    }
    drawn = _figures(settings, dataset, means[usual], bars, bars[usual])
    first_shown = {condition: shown[0] for condition, shown in conditions.items()}
    drawn["walk.png"] = partial(_walk, settings, dataset, network, first_shown, labels[0])
    return Result(metrics, list(_summary(settings, metrics)), drawn, {"activations.npz": arrays})


def _of_each(function: Callable[[Any], Any], nested: Mapping[str, Any]) -> dict[str, Any]:
    """The function of every value of nested dictionaries."""
    return {
        key: _of_each(function, value) if isinstance(value, Mapping) else function(value)
        for key, value in nested.items()
    }


def _figures(
    settings: Settings, dataset: data.Dataset, means: _Layers, bars: Mapping[str, _Layers], usual: _Layers
) -> dict[str, Callable[[], Figure]]:
    what = f"{settings.model} on {dataset.title}, up to {settings.images_a_class} test images per class"
    noisy = f"noisy: {settings.noise_weight:g} {settings.noise} noise"
    drawn: dict[str, Callable[[], Figure]] = {}
    for layer, of_layer in means.items():
        title = f"Mean activations of {layer} of {what}; {noisy}"
        by_class = {
            class_name: {condition: values[k] for condition, values in usual[layer].items()}
            for k, class_name in enumerate(dataset.class_names)
        }
        file = as_file_name(layer)
        drawn[f"{file}_maps.png"] = partial(figures.activation_maps, of_layer, dataset.class_names, title)
        drawn[f"{file}_bars.png"] = partial(figures.activation_bars, by_class, title)
    if len(bars) > 1:
        by_network = {
            f"{layer}, {condition}": {
                f"augmentation in training: {name}": of[layer][condition].mean(axis=0) for name, of in bars.items()
            }
            for condition in (_AS_THEY_ARE, _NOISY)
            for layer in means
        }
        title = (
            f"Mean activations of networks that differ in their training's augmentation, {what}; {noisy}. "
            "Unit i of one network has nothing to do with unit i of the other, but that both began alike"
        )
        drawn["augmentation.png"] = partial(figures.activation_bars, by_network, title, columns=len(means))
    return drawn


def _walk(
    settings: Settings, dataset: data.Dataset, network: Network, images: Mapping[str, np.ndarray], label: int
) -> Figure:
    """The first test image, as it is and in noise, in all layers."""
    shown = np.stack(list(images.values()))
    answers = training.predict(network, shown).argmax(axis=-1)
    layers = {
        name: training.predict(units.layer_activations(network, name), shown) for name in units.layer_names(network)
    }
    called = [f"{condition}, called {dataset.class_names[k]}" for condition, k in zip(images, answers, strict=True)]
    return figures.walk(
        dict(zip(called, shown, strict=True)),
        {name: dict(zip(called, map(np.squeeze, activations), strict=True)) for name, activations in layers.items()},
        f"A test image of {dataset.class_names[label]} on its way through {settings.model} on {dataset.title}: "
        "positive part of each layer's output",
    )


def _summary(settings: Settings, metrics: Mapping[str, Any]) -> Iterator[str]:
    for name, of_network in metrics["mean_activation"].items():
        yield f"augmentation {name}: test accuracy {metrics['test_accuracy'][name]:.2%}"
        for layer, of_layer in of_network.items():
            yield f"  {layer:12s}" + ", ".join(f"{condition} {value:.4f}" for condition, value in of_layer.items())
    yield f"look at         {settings.folder / 'walk.png'}"


if __name__ == "__main__":
    launch.main(run, Settings)
