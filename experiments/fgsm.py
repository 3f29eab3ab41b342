"""How far does a step along the sign of the loss gradient carry a network from its answers (FGSM)?

Test images x become x + epsilon sign(gradient of the loss), clipped to [0, 1] (arXiv 1412.6572). Reports the accuracy
for each epsilon, on the [0, 1] scale of pixels, beside that after an equal step in random directions. For some epsilon
it averages the images that were called right before the step and are not after it, by what they are called now: one
more kind of classification image (arXiv 1912.12106).

  python -m experiments.fgsm --dataset=mnist

Writes to --out_dir: accuracy.png, mean_adversarial_images.png, metrics.json, maps.npz, config.json and log.jsonl.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from experiments import launch, shared
from experiments.launch import Result
from experiments.settings import NetworkSettings, setting
from wna_jax import figures, maps
from wna_jax.runs.progress import Report, silent
from wna_jax.studies import interventions

_PUBLISHED = {2.0: 0.0455}
"""Accuracy of the authors' network on the MNIST training images, by epsilon."""


@dataclass(frozen=True, kw_only=True)
class Settings(NetworkSettings):
    """The settings of one run."""

    epsilons: tuple[float, ...] = setting(
        (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 1.0, 2.0),
        "Sizes of the step, in pixel intensity.",
        at_least=0,
    )
    shown_epsilons: tuple[float, ...] = setting(
        (0.1, 2.0), "Sizes of the step whose adversarial images are averaged.", at_least=0
    )


def run(settings: Settings, report: Report = silent) -> Result:
    """Steps along the sign of the gradient, and in random directions: accuracies, and mean adversarial images."""
    dataset = shared.load_classes(settings, report)
    trained = shared.trained_network(settings, dataset, report)
    network, epsilons = trained.network, settings.epsilons
    images, labels, n = dataset.test_images, dataset.test.labels, len(dataset.test.labels)
    signs = np.random.default_rng(settings.train_seed).choice(np.array([-1, 1], np.int8), images.shape)
    steps = {
        "sign of the gradient": (interventions.fgsm_change(network), (images, labels)),
        "random signs": (interventions.random_signs, (images, signs)),
    }
    hits = {
        name: interventions.hits(network, change, epsilons, inputs, labels, report)
        for name, (change, inputs) in steps.items()
    }
    means = {
        epsilon: interventions.mean_adversarials(network, images, labels, epsilon)
        for epsilon in settings.shown_epsilons
    }
    what = f"{settings.model} on {dataset.title}"

    def accuracy() -> Figure:
        printed = [_PUBLISHED.get(epsilon, np.nan) for epsilon in epsilons] if dataset.name == "mnist" else None
        published = {"sign of the gradient": printed}
        curves = {
            name: figures.Curve.of_counts(epsilons, counts, n, published.get(name)) for name, counts in hits.items()
        }
        return figures.curves(
            {f"n = {n:,} test images": curves},
            "epsilon, in pixel intensity (black 0, white 1)",
            "accuracy",
            f"Fast gradient sign attack on {what}, 95% intervals",
            level=1 / dataset.num_classes,
            x_scale="symlog",
        )

    def mean_images() -> Figure:
        rows = {
            f"ε = {epsilon:g}": [
                figures.Panel(image, f"called {name}\n{count:,}")
                for image, name, count in zip(mean, dataset.class_names, counts, strict=True)
            ]
            for epsilon, (mean, counts) in means.items()
        }
        return figures.panels(
            rows, f"Mean adversarial image by what it is called: test images that {what} called right before"
        )

    return Result(
        {
            "test_accuracy": trained.test_accuracy,
            "num_images": n,
            "epsilons": list(epsilons),
            "accuracy": {name: (counts / n).tolist() for name, counts in hits.items()},
            "mean_adversarial_counts": {f"{epsilon:g}": counts.tolist() for epsilon, (_, counts) in means.items()},
        },
        [
            f"test accuracy   {trained.test_accuracy:.2%}",
            *(
                f"{name:21s} " + ", ".join(f"{e:g}: {count / n:.2%}" for e, count in zip(epsilons, counts, strict=True))
                for name, counts in hits.items()
            ),
            f"look at         {settings.folder / 'accuracy.png'}",
        ],
        {"accuracy.png": accuracy, "mean_adversarial_images.png": mean_images},
        {
            "maps.npz": {
                name: image
                for epsilon, (mean, _) in means.items()
                for name, image in maps.named(f"mean_{epsilon:g}", mean).items()
            }
        },
    )


if __name__ == "__main__":
    launch.main(run, Settings)
