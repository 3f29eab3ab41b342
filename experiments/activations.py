"""What do the units of each layer answer to images of each class, and to the same images in noise?

Mean activations of test images of each class, as maps and as bars, for images as they are and for
t = (1 - w) s + w z, noise z of weight w, on one scale; the way of one image through all layers; and the same bars for a
network that was trained with augmentation (a checkpoint of its own).

  python -m experiments.activations --dataset=mnist

Writes to --out_dir, for each layer with feature maps: LAYER_maps.png and LAYER_bars.png; walk.png, augmentation.png,
activations.npz, metrics.json, config.json and log.jsonl.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import common
from wna_jax import augmentation, data, figures, training, units
from wna_jax.progress import Report

flags.DEFINE_string(
    "augmentation",
    "shift",
    f"of the training of a second network: {', '.join(augmentation.NAMES)}, several joined by _, or none",
)

_AS_THEY_ARE, _NOISY = "as they are", "in noise"


@dataclass(frozen=True)
class Settings(common.NetworkSettings):
    """The flags of one run, as a value."""

    noise: str
    noise_weight: float
    augmentation: str
    layers: tuple[str, ...] | None
    images_a_class: int
    seed: int


def run(settings: Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    out_dir = common.open_output(settings)
    with common.reporting(out_dir) as report:
        dataset = common.classes_to_tell(settings, report)
        conditions, labels = _conditions(settings, dataset, report)
        network = common.trained_network(settings, dataset, report)
        usual = training.default_augmentation(dataset.name) or "none"
        networks = {usual: network}
        if settings.augmentation != usual:
            networks[settings.augmentation] = common.trained_network(settings, dataset, report, settings.augmentation)
        layers = common.chosen_layers(settings.layers, network, units.spatial_layers, with_maps=True)
        means = {
            name: {
                layer: {
                    condition: units.mean_activations(
                        units.layer_activations(each.module, each.parameters, layer),
                        images,
                        labels,
                        dataset.num_classes,
                        report,
                    )
                    for condition, images in conditions.items()
                }
                for layer in layers
            }
            for name, each in networks.items()
        }
    bars = {
        name: {
            layer: {condition: maps.mean(axis=(1, 2)) for condition, maps in of_layer.items()}
            for layer, of_layer in of_network.items()
        }
        for name, of_network in means.items()
    }
    metrics: dict[str, Any] = {
        "test_accuracy": {name: each.metrics["test_accuracy"] for name, each in networks.items()},
        "images_a_class": dict(
            zip(dataset.class_names, np.bincount(labels, minlength=dataset.num_classes).tolist(), strict=True)
        ),
        "noise_weight": settings.noise_weight,
        "mean_activation": {
            name: {
                layer: {condition: float(values.mean()) for condition, values in of_layer.items()}
                for layer, of_layer in of_network.items()
            }
            for name, of_network in bars.items()
        },
        "largest_mean_activation": {
            layer: {condition: float(values.max()) for condition, values in of_layer.items()}
            for layer, of_layer in bars[usual].items()
        },
    }
    common.write_json(out_dir / "metrics.json", metrics)
    common.write_config(out_dir, settings)
    arrays: dict[str, Any] = {
        "-".join((common.as_file_name(layer), condition.replace(" ", "_"), name)): maps.filled(np.nan)
        for name, of_network in means.items()
        for layer, of_layer in of_network.items()
        for condition, maps in of_layer.items()
    }
    common.write_arrays(out_dir / "activations.npz", **arrays)
    _draw(settings, out_dir, dataset, means[usual], bars, usual)
    _draw_walk(settings, out_dir, dataset, network, conditions, labels)
    for name, of_network in metrics["mean_activation"].items():
        accuracy = metrics["test_accuracy"][name]
        print(f"augmentation {name}: test accuracy {accuracy:.2%}")
        for layer, of_layer in of_network.items():
            print(f"  {layer:12s}" + ", ".join(f"{condition} {value:.4f}" for condition, value in of_layer.items()))
    print(f"look at         {out_dir / 'walk.png'}")


def _conditions(settings: Settings, dataset: data.Dataset, report: Report) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The test images on the [0, 1] scale, as they are and in noise, and their labels; at most so many of a class."""
    labels = dataset.test.labels
    rank = np.empty(len(labels), np.int64)
    for k in range(dataset.num_classes):
        rank[labels == k] = np.arange(np.count_nonzero(labels == k))
    chosen = rank < settings.images_a_class
    images = dataset.test.images[chosen] / np.float32(255)
    noisy = common.noisy_images(settings, dataset, images, report)
    return {_AS_THEY_ARE: images, _NOISY: noisy}, labels[chosen]


def _draw(
    settings: Settings,
    out_dir: Path,
    dataset: data.Dataset,
    means: Mapping[str, Mapping[str, np.ma.MaskedArray]],
    bars: Mapping[str, Mapping[str, Mapping[str, np.ma.MaskedArray]]],
    usual: str,
) -> None:
    what = f"{settings.model} on {dataset.title}, up to {settings.images_a_class} test images a class"
    noisy = f"noisy: {settings.noise_weight:g} {settings.noise} noise"
    for layer, of_layer in means.items():
        file = common.as_file_name(layer)
        title = f"Mean activations of {layer} of {what}; {noisy}"
        common.save(figures.activation_maps(of_layer, dataset.class_names, title), out_dir / f"{file}_maps.png")
        panels = {
            class_name: {condition: values[k] for condition, values in bars[usual][layer].items()}
            for k, class_name in enumerate(dataset.class_names)
        }
        common.save(figures.activation_bars(panels, title), out_dir / f"{file}_bars.png")
    if len(bars) > 1:
        trained = {
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
        common.save(figures.activation_bars(trained, title, columns=len(means)), out_dir / "augmentation.png")


def _draw_walk(
    settings: Settings,
    out_dir: Path,
    dataset: data.Dataset,
    network: common.Network,
    conditions: Mapping[str, np.ndarray],
    labels: np.ndarray,
) -> None:
    """The first test image, as it is and in noise, through all layers."""
    layers = {}
    for layer in units.layer_names(network.module, network.parameters, dataset.image_shape):
        activations = jax.jit(units.layer_activations(network.module, network.parameters, layer))
        layers[layer] = {
            condition: np.squeeze(np.asarray(activations(jnp.asarray(images[:1])))[0])
            for condition, images in conditions.items()
        }
    answers = {
        condition: dataset.class_names[int(np.argmax(network.logits_function(jnp.asarray(images[:1]))[0]))]
        for condition, images in conditions.items()
    }
    title = (
        f"A test image of {dataset.class_names[labels[0]]} on its way through {settings.model} on {dataset.title}: "
        "positive part of each layer's output"
    )
    shown = {f"{condition}, called {answers[condition]}": images[0] for condition, images in conditions.items()}
    common.save(figures.walk(shown, layers, title), out_dir / "walk.png")


if __name__ == "__main__":
    common.main(run, Settings)
