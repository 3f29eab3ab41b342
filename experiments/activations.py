"""What do the units of each layer answer to images of each class, and to the same images in noise?

Mean activations of test images of each class, as maps and as bars, for images as they are and for
t = (1 - w) s + w z, noise z of weight w, on one scale; one image in all layers; and the same bars for a network that
was trained with augmentation (a checkpoint of its own).

  python -m experiments.activations --dataset=mnist

Writes to --out_dir, for each layer with feature maps: LAYER_maps.png and LAYER_bars.png; walk.png, augmentation.png,
activations.npz, metrics.json, config.json and log.jsonl.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from experiments import launch, shared
from experiments.settings import NoiseSettings, choice, setting
from wna_jax import figures
from wna_jax.networks import augmentation, training, units
from wna_jax.runs.files import as_file_name
from wna_jax.runs.progress import in_parts


class Settings(NoiseSettings):
    """The settings of one run."""

    noise_weight: float = choice(0.2, "Weight of the noise in noisy images.", at_least=0, at_most=1)
    augmentation: str = choice(
        "shift",
        f"Augmentation in the training of a second network: {', '.join(augmentation.NAMES)}, several joined by _, or "
        "none.",
    )
    layers: tuple[str, ...] | None = choice(None, "The layers to look at. By default all that have feature maps.")
    images_a_class: int = setting(200, "Test images of each class, at most.", at_least=1)


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Mean activations of both networks, and their figures."""
    dataset = shared.load_classes(settings, report)
    labels = dataset.test.labels
    first = np.sort(np.concatenate([np.flatnonzero(labels == k)[: settings.images_a_class] for k in np.unique(labels)]))
    images, labels = dataset.test_images[first], labels[first]
    conditions = {"as they are": images, "in noise": shared.noisy_images(settings, dataset, images, report)}
    usual = training.default_augmentation(dataset.name) or "none"
    names = dict.fromkeys((usual, settings.augmentation))
    trained = {name: shared.trained_network(settings, dataset, report, name) for name in names}
    network = trained[usual].network
    layers = shared.chosen_layers(settings.layers, network, units.spatial_layers(network), with_maps=True)

    means: dict[str, dict[str, dict[str, np.ma.MaskedArray]]] = {name: {at: {} for at in layers} for name in trained}
    parts = list(itertools.product(trained, layers, conditions))
    for (name, layer, condition), tell in in_parts(report, parts, "activations"):
        shown = units.layer_activations(trained[name].network, layer), conditions[condition], labels
        means[name][layer][condition] = units.mean_activations(*shown, dataset.num_classes, tell)
    bars = _of_each(lambda maps: maps.mean(axis=(1, 2)), means)
    metrics = {
        "test_accuracy": {name: each.test_accuracy for name, each in trained.items()},
        "images_a_class": {name: int((labels == k).sum()) for k, name in enumerate(dataset.class_names)},
        "noise_weight": settings.noise_weight,
        "mean_activation": _of_each(lambda values: float(values.mean()), bars),
        "largest_mean_activation": _of_each(lambda values: float(values.max()), bars[usual]),
    }
    arrays = {
        "-".join((as_file_name(layer), condition.replace(" ", "_"), name)): means[name][layer][condition].filled(np.nan)
        for name, layer, condition in itertools.product(means, layers, conditions)
    }
    summary = []
    for name, of_network in metrics["mean_activation"].items():
        summary.append(f"augmentation {name}: test accuracy {trained[name].test_accuracy:.2%}")
        for layer, of_layer in of_network.items():
            values = ", ".join(f"{condition} {value:.4f}" for condition, value in of_layer.items())
            summary.append(f"  {layer:12s}{values}")
    what, where = shared.title_of(settings, dataset), f"up to {settings.images_a_class} test images per class"
    noisy = f"noisy: {settings.noise_weight:g} {settings.noise} noise"

    def draw() -> launch.Drawn:
        shown = np.stack([of_condition[0] for of_condition in conditions.values()])
        answers = training.predict(network, shown).argmax(axis=-1)
        called = [f"{name}, called {dataset.class_names[k]}" for name, k in zip(conditions, answers, strict=True)]
        walk = {}
        for name in units.layer_names(network):
            activations = training.predict(units.layer_activations(network, name), shown)
            walk[name] = dict(zip(called, map(np.squeeze, activations), strict=True))
        title = f"A test image of {dataset.class_names[labels[0]]} on its way through {what}"
        title += ": positive part of each layer's output"
        yield "walk.png", figures.walk(dict(zip(called, shown, strict=True)), walk, title)
        for layer in layers:
            title, file = f"Mean activations of {layer} of {what}, {where}; {noisy}", as_file_name(layer)
            yield f"{file}_maps.png", figures.activation_maps(means[usual][layer], dataset.class_names, title)
            by_class = {
                class_name: {condition: values[k] for condition, values in bars[usual][layer].items()}
                for k, class_name in enumerate(dataset.class_names)
            }
            yield f"{file}_bars.png", figures.activation_bars(by_class, title)
        if len(bars) > 1:
            by_network = {}
            for condition, layer in itertools.product(conditions, layers):
                of_networks = {name: of[layer][condition].mean(axis=0) for name, of in bars.items()}
                row = {f"augmentation in training: {name}": of for name, of in of_networks.items()}
                by_network[f"{layer}, {condition}"] = row
            title = f"Mean activations of networks that differ in their training's augmentation, {what}, {where}; "
            title += f"{noisy}. Unit i of one network has nothing to do with unit i of the other, but that both began "
            title += "alike"
            yield "augmentation.png", figures.activation_bars(by_network, title, columns=len(layers))

    return launch.Result(metrics, summary, draw, {"activations.npz": arrays})


def _of_each(function: Callable[[Any], Any], nested: Any) -> Any:
    """The function of every value of nested dictionaries."""
    if isinstance(nested, Mapping):
        return {key: _of_each(function, value) for key, value in nested.items()}
    return function(nested)


if __name__ == "__main__":
    launch.main(run, Settings)
