"""Does a network that is trained on changed images classify new ones, and noisy ones, better?

For each augmentation, networks of several seeds are trained, all for the same number of epochs, and tested on the test
images as they are and in noise: t = (1 - w) s + w z, the noise z of weight w in pixel intensity (black 0, white 1), the
same for all networks. Each augmentation is compared with none by the differences of networks that share a seed.

  python -m experiments.augmentation --dataset=mnist --epochs=1
  python -m experiments.augmentation --dataset=mnist --augmentations=shift,rotation_zoom --noise=gaussian:0.5,0.25

The best augmentation is that of the highest mean accuracy on validation images, which are neither changed nor noisy.

Writes to --out_dir: accuracies.png, examples.png, confusion.png (of the best), metrics.json, config.json and log.jsonl.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch, shared
from experiments.settings import NoiseSettings, choice, setting
from wna_jax import figures, statistics
from wna_jax.networks import augmentation, training
from wna_jax.runs.progress import in_parts
from wna_jax.runs.seeds import key_of

_NONE = "none"
_MEASURES = ("validation", "test", "noisy test")
_PUBLISHED = {  # Keras, one epoch, one seed each; the noisy images of Fashion-MNIST were training images
    "mnist": {
        "validation": {_NONE: 0.9857, "shift_rotation_zoom": 0.9887, "shift_rotation_zoom_blur": 0.9897},
        "noisy test": {_NONE: 0.9800, "shift_rotation_zoom": 0.9840},
    },
    "fashion_mnist": {"validation": {_NONE: 0.8663}, "noisy test": {_NONE: 0.8594}},
}


class Settings(NoiseSettings):
    """The settings of one run."""

    augmentations: tuple[str, ...] = choice(
        (*augmentation.NAMES, "shift_rotation_zoom", "shift_rotation_zoom_blur"),
        f"The augmentations, each one of these, or several joined by _: {', '.join(augmentation.NAMES)}, "
        "blur:DEVIATION in pixels, noise:DEVIATION in pixel intensity.",
    )
    num_train_seeds: int = setting(3, "How many networks to train, with seeds from --train_seed on.", at_least=2)
    noise_weight: float = choice(0.2, "Weight of the noise in noisy images.", at_least=0, at_most=1)


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Networks of every augmentation and seed to their accuracies, and the gains over no augmentation."""
    asked = [name for name in settings.augmentations if name != _NONE]
    changes = {name: augmentation.augmenter(name) for name in asked}  # raises before any training
    seeds = range(settings.train_seed, settings.train_seed + settings.num_train_seeds)
    dataset = shared.load_classes(settings, report)
    noisy = shared.noisy_images(settings, dataset, dataset.test_images, report)
    labels, n = np.tile(dataset.test.labels, (len(seeds), 1)), len(dataset.test.labels)
    values: dict[str, dict[str, list[float]]] = {measure: {} for measure in _MEASURES}
    confusions: dict[str, dict[str, np.ndarray]] = {}
    job = f"training {settings.model}"
    for name, told in in_parts(report, (_NONE, *changes), job):
        parts = in_parts(told, seeds, job)
        own = [shared.trained_network(replace(settings, train_seed=s), dataset, tell, name) for s, tell in parts]
        values["validation"][name] = [trained.metrics["validation_accuracy"] for trained in own]
        confusions[name] = {}
        for measure, images in (("test", dataset.test_images), ("noisy test", noisy)):
            answers = np.stack([training.predict(trained.network, images).argmax(axis=1) for trained in own])
            values[measure][name] = (answers == labels).mean(axis=1).tolist()
            pairs = labels.ravel(), answers.ravel()
            confusions[name][measure] = statistics.confusion_matrix(*pairs, dataset.num_classes)
    means = {m: {name: statistics.seed_mean(of) for name, of in by_name.items()} for m, by_name in values.items()}
    gains = {
        m: {name: statistics.seed_mean(np.subtract(of, by_name[_NONE]).tolist()) for name, of in by_name.items()}
        for m, by_name in values.items()
    }
    best = max(means["validation"], key=lambda name: means["validation"][name].mean)
    epochs, what = len(own[0].metrics["epochs"]), shared.title_of(settings, dataset)
    how = f"{len(seeds)} seeds, epochs: {epochs}; noise: {settings.noise_weight:g} {settings.noise}"

    def draw() -> launch.Drawn:
        title = f"Accuracy of {what} by the augmentation in training ({how}; {n:,} test images)"
        yield "accuracies.png", figures.seed_means(means, title, _PUBLISHED.get(dataset.name, {}))
        # the first test image, changed by each augmentation with five keys, and five noisy test images
        image, keys = jnp.asarray(dataset.test_images[0]), jax.random.split(key_of(settings.train_seed), 5)
        rows = {name: jax.jit(jax.vmap(change, (0, None)))(keys, image) for name, change in changes.items()}
        shown = {**rows, "noisy": noisy[:5]}
        panels = {name: [figures.Panel(image) for image in np.asarray(row)] for name, row in shown.items()}
        title = f"What is shown in training, and noisy test images ({dataset.title})"
        yield "examples.png", figures.panels(panels, title)
        matrices = {f"{m}: {means[m][best].mean:.2%}": matrix for m, matrix in confusions[best].items()}
        title = f"{what}, trained with {best}, the best on validation images ({how}; {n:,} images per seed)"
        yield "confusion.png", figures.confusions(matrices, dataset.class_names, title)

    head = "".join(f"{m:>12s}" for m in _MEASURES)
    summary = [f"{'':28s}{head}   gain on noisy images, 95% interval over seeds"]
    for name, gain in gains["noisy test"].items():
        cells = "".join(f"{means[m][name].mean:12.4f}" for m in _MEASURES)
        summary.append(f"{name:28s}{cells}   {gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})")
    summary.append(f"best            {best} (on validation images)")
    metrics = {
        "train_seeds": list(seeds),
        "epochs": epochs,
        "num_images": {"validation": len(dataset.validation.labels), "test": n},
        "best_on_validation": best,
        "accuracy": {m: {name: mean._asdict() for name, mean in of.items()} for m, of in means.items()},
        "gain_over_none": {m: {name: gain._asdict() for name, gain in of.items()} for m, of in gains.items()},
        "confusion": {name: {m: matrix.tolist() for m, matrix in of.items()} for name, of in confusions.items()},
    }
    return launch.Result(metrics, summary, draw)


if __name__ == "__main__":
    launch.main(run, Settings)
