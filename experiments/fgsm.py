"""How far does a step along the sign of the loss gradient carry a network from its answers (FGSM)?

Test images x become x + epsilon sign(gradient of the loss), clipped to [0, 1] (arXiv 1412.6572). Reports the accuracy
for each epsilon, on the [0, 1] scale of pixels, beside that after an equal step in random directions. For some epsilon
it averages the images that were called right before the step and are not after it, by what they are called now: one
more kind of classification image (arXiv 1912.12106).

  python -m experiments.fgsm --dataset=mnist

Writes to --out_dir: accuracy.png, mean_adversarial_images.png, metrics.json, maps.npz, config.json and log.jsonl.
"""

import numpy as np
from jax.tree_util import Partial

from experiments import launch, shared
from experiments.settings import AugmentationSettings, setting
from wna_jax import figures, maps
from wna_jax.runs.progress import in_parts
from wna_jax.studies import interventions

_PUBLISHED = {2.0: 0.0455}
"""Accuracy of the authors' network on the MNIST training images, by epsilon."""


class Settings(AugmentationSettings):
    """The settings of one run."""

    TAKES_OWN_NETWORKS = True

    epsilons: tuple[float, ...] = setting(
        (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 1.0, 2.0),
        "Sizes of the step, in pixel intensity.",
        at_least=0,
    )
    shown_epsilons: tuple[float, ...] = setting(
        (0.1, 2.0), "Sizes of the step whose adversarial images are averaged.", at_least=0
    )


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Steps along the sign of the gradient, and in random directions: accuracies, and mean adversarial images."""
    dataset = shared.load_classes(settings, report)
    trained = shared.trained_network(settings, dataset, report)
    network, epsilons = trained.network, settings.epsilons
    images, labels, n = dataset.test_images, dataset.test.labels, len(dataset.test.labels)
    signs = np.random.default_rng(settings.train_seed).choice(np.array([-1, 1], np.int8), images.shape)
    steps: dict[str, tuple[interventions.Change, tuple]] = {
        "sign of the gradient": (Partial(interventions.fgsm, network), (images, labels)),
        "random signs": (interventions.random_signs, (images, signs)),
    }
    hits = {}
    for (name, (change, inputs)), tell in in_parts(report, list(steps.items()), "answers"):
        hits[name] = interventions.hits(network, change, epsilons, inputs, labels, tell)
    shown = settings.shown_epsilons
    means = {epsilon: interventions.mean_adversarials(network, images, labels, epsilon) for epsilon in shown}
    what = shared.title_of(settings, dataset)

    def draw() -> launch.Drawn:
        printed = [_PUBLISHED.get(epsilon, np.nan) for epsilon in epsilons] if dataset.name == "mnist" else None
        curves = {name: figures.Curve.of_counts(epsilons, counts, n) for name, counts in hits.items()}
        curves["sign of the gradient"] = curves["sign of the gradient"]._replace(published=printed)
        title = f"Fast gradient sign attack on {what}, 95% intervals"
        axes = "epsilon, in pixel intensity (black 0, white 1)", "accuracy"
        panels, chance = {f"n = {n:,} test images": curves}, 1 / dataset.num_classes
        yield "accuracy.png", figures.curves(panels, *axes, title, level=chance, x_scale="symlog")
        rows = {}
        for epsilon, (mean, counts) in means.items():
            headings = [f"called {name}\n{count:,}" for name, count in zip(dataset.class_names, counts, strict=True)]
            rows[f"ε = {epsilon:g}"] = list(map(figures.Panel, mean, headings))
        title = f"Mean adversarial image by what it is called: test images that {what} called right before"
        yield "mean_adversarial_images.png", figures.panels(rows, title)

    metrics = {
        "test_accuracy": trained.test_accuracy,
        "num_images": n,
        "epsilons": list(epsilons),
        "accuracy": {name: (counts / n).tolist() for name, counts in hits.items()},
        "mean_adversarial_counts": {f"{epsilon:g}": counts.tolist() for epsilon, (_, counts) in means.items()},
    }
    summary = [f"test accuracy   {trained.test_accuracy:.2%}"]
    for name, counts in hits.items():
        shares = ", ".join(f"{e:g}: {count / n:.2%}" for e, count in zip(epsilons, counts, strict=True))
        summary.append(f"{name:21s} {shares}")
    arrays: dict[str, np.ndarray] = {}
    for epsilon, (mean, _) in means.items():
        arrays |= maps.named(f"mean_{epsilon:g}", mean)
    return launch.Result(metrics, summary, draw, {"maps.npz": arrays})


if __name__ == "__main__":
    launch.main(run, Settings)
