"""Does a network that is trained on changed images tell new ones, and noisy ones, better?

For each augmentation networks of several seeds are trained, all for equally many epochs, and tested on the test images
as they are and in noise: t = (1 - w) s + w z, the noise z of weight w in pixel intensity (black 0, white 1), the same
for all networks. Each augmentation is compared with none by the differences of networks that share a seed.

  python -m experiments.augmentation --dataset=mnist --epochs=1
  python -m experiments.augmentation --dataset=mnist --augmentations=shift,rotation_zoom --noise=gaussian:0.5,0.25

The best augmentation is that of the highest mean accuracy on validation images, which are neither changed nor noisy.

Writes to --out_dir: accuracies.png, examples.png, confusion.png (of the best), metrics.json, config.json and log.jsonl.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import common
from wna_jax import augmentation, data, figures, statistics, templates, training

_NONE = "none"
_USUAL = (*augmentation.NAMES, "shift_rotation_zoom", "shift_rotation_zoom_blur")
_MEASURES = ("validation", "test", "noisy test")
_PUBLISHED = {  # Keras, one epoch, one seed each; the noisy images of Fashion-MNIST's were training images
    "mnist": {
        "validation": {_NONE: 0.9857, "shift_rotation_zoom": 0.9887, "shift_rotation_zoom_blur": 0.9897},
        "noisy test": {_NONE: 0.9800, "shift_rotation_zoom": 0.9840},
    },
    "fashion_mnist": {
        "validation": {_NONE: 0.8663},
        "noisy test": {_NONE: 0.8594},
    },
}

flags.DEFINE_list(
    "augmentations",
    ",".join(_USUAL),
    f"comma-separated, each one or several joined by _: {', '.join(augmentation.NAMES)}",
)


@dataclass(frozen=True)
class Settings(common.NetworkSettings):
    """The flags of one run, as a value."""

    augmentations: tuple[str, ...]
    num_train_seeds: int
    noise: str
    noise_weight: float
    seed: int


def run(settings: Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    out_dir = common.open_output(settings)
    names = tuple(dict.fromkeys((_NONE, *settings.augmentations)))
    for name in names[1:]:
        augmentation.augmenter(name)  # says before any training which there are
    seeds = range(settings.train_seed, settings.train_seed + settings.num_train_seeds)
    with common.reporting(out_dir) as report:
        dataset = common.classes_to_tell(settings, report)
        labels, clean = dataset.test.labels, dataset.test.images / np.float32(255)
        shown = {"test": clean, "noisy test": common.noisy_images(settings, dataset, clean, report)}
        values: dict[str, dict[str, list[float]]] = {name: {measure: [] for measure in _MEASURES} for name in names}
        nothing = np.zeros((dataset.num_classes, dataset.num_classes), np.int64)
        confusions = {name: dict.fromkeys(shown, nothing) for name in names}
        for seed in seeds:
            for name in names:
                network = common.trained_network(replace(settings, train_seed=seed), dataset, report, name)
                values[name]["validation"].append(network.metrics["validation_accuracy"])
                for measure, images in shown.items():
                    answers = training.predict(network.module, network.parameters, images).argmax(axis=1)
                    of_seed = templates.confusion_matrix(labels, answers, dataset.num_classes)
                    confusions[name][measure] = confusions[name][measure] + of_seed
                    values[name][measure].append(float(np.mean(answers == labels)))

    means = {m: {name: statistics.seed_mean(of[m]) for name, of in values.items()} for m in _MEASURES}
    gains = {
        m: {name: statistics.seed_mean(np.subtract(of[m], values[_NONE][m]).tolist()) for name, of in values.items()}
        for m in _MEASURES
    }
    best = max(names, key=lambda name: means["validation"][name].mean)
    metrics: dict[str, Any] = {
        "train_seeds": list(seeds),
        "epochs": len(network.metrics["epochs"]),
        "num_images": {"validation": len(dataset.validation.labels), "test": len(labels)},
        "best_on_validation": best,
        "accuracy": {m: {name: mean._asdict() for name, mean in of.items()} for m, of in means.items()},
        "gain_over_none": {m: {name: gain._asdict() for name, gain in of.items()} for m, of in gains.items()},
        "confusion": {name: {m: matrix.tolist() for m, matrix in of.items()} for name, of in confusions.items()},
    }
    common.write_json(out_dir / "metrics.json", metrics)
    common.write_config(out_dir, settings)
    _draw(settings, out_dir, dataset, means, metrics["epochs"], {m: confusions[best][m] for m in shown}, best)
    _draw_examples(settings, out_dir, dataset, names, shown)
    _summarise(out_dir, means, gains, best)


def _draw(
    settings: Settings,
    out_dir: Path,
    dataset: data.Dataset,
    means: Mapping[str, Mapping[str, statistics.SeedMean]],
    epochs: int,
    confusions: Mapping[str, np.ndarray],
    best: str,
) -> None:
    n, count = len(dataset.test.labels), settings.num_train_seeds
    how = f"{count} seeds, epochs: {epochs}; noise: {settings.noise_weight:g} {settings.noise}"
    what = f"{settings.model} on {dataset.title}"
    published = _PUBLISHED.get(dataset.name, {})
    title = f"Accuracy of {what} by the augmentation in training ({how}; {n:,} test images)"
    common.save(figures.seed_means(means, title, published), out_dir / "accuracies.png")
    shown = {f"{measure}: {means[measure][best].mean:.2%}": matrix for measure, matrix in confusions.items()}
    title = f"{what}, trained with {best}, the best on validation images ({how}; {n:,} images a seed)"
    common.save(figures.confusions(shown, dataset.class_names, title), out_dir / "confusion.png")


def _draw_examples(
    settings: Settings, out_dir: Path, dataset: data.Dataset, names: tuple[str, ...], shown: Mapping[str, np.ndarray]
) -> None:
    """The first test image, changed by each augmentation with five keys, and the first five test images in noise."""
    image = jnp.asarray(shown["test"][0])
    keys = jax.random.split(jax.random.key(settings.train_seed), 5)
    rows = {
        name: [
            figures.Panel(np.asarray(changed))
            for changed in jax.jit(jax.vmap(augmentation.augmenter(name), (0, None)))(keys, image)
        ]
        for name in names[1:]
    }
    rows["noisy"] = [figures.Panel(image) for image in shown["noisy test"][:5]]
    title = f"What is shown in training, and noisy test images ({dataset.title})"
    common.save(figures.panels(rows, title), out_dir / "examples.png")


def _summarise(
    out_dir: Path,
    means: Mapping[str, Mapping[str, statistics.SeedMean]],
    gains: Mapping[str, Mapping[str, statistics.SeedMean]],
    best: str,
) -> None:
    print(f"{'':28s}" + "".join(f"{m:>12s}" for m in _MEASURES) + "   gain on noisy images, 95% interval over seeds")
    for name in means["test"]:
        gain = gains["noisy test"][name]
        told = "".join(f"{means[m][name].mean:12.4f}" for m in _MEASURES)
        print(f"{name:28s}{told}   {gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})")
    print(f"best            {best} (on validation images)")
    print(f"look at         {out_dir / 'accuracies.png'}")


if __name__ == "__main__":
    common.main(run, Settings)
