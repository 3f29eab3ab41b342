"""How far does a step along the sign of the loss gradient carry a network from its answers (FGSM)?

Test images x become x + epsilon sign(gradient of the loss), clipped to [0, 1] (arXiv 1412.6572). Told is the accuracy
for each epsilon, on the [0, 1] scale of pixels, beside the same step in random directions; and, for some epsilon, the
mean of the images that were answered right before and are not any more, by what they are called now: one more kind of
classification image (arXiv 1912.12106).

  python -m experiments.fgsm --dataset=mnist

Writes to --out_dir: accuracy.png, mean_adversarial_images.png, metrics.json, maps.npz, config.json and log.jsonl.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import common
from wna_jax import data, figures, interventions, statistics
from wna_jax.errors import InputError

flags.DEFINE_list("epsilons", "0,0.02,0.05,0.1,0.15,0.2,0.25,0.3,0.5,1,2", "sizes of the step, in pixel intensity")
flags.DEFINE_list("shown_epsilons", "0.1,2", "those whose adversarial images are averaged")

_PUBLISHED = {2.0: 0.0455}
"""Accuracy of the authors' network on the MNIST training images, by epsilon."""
_BATCH = 500


@dataclass(frozen=True)
class Settings(common.NetworkSettings):
    """The flags of one run, as a value."""

    epsilons: tuple[str, ...]
    shown_epsilons: tuple[str, ...]


def run(settings: Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    out_dir = common.open_output(settings)
    epsilons, shown = (_numbers(name, getattr(settings, name)) for name in ("epsilons", "shown_epsilons"))
    with common.reporting(out_dir) as report:
        dataset = common.classes_to_tell(settings, report)
        network = common.trained_network(settings, dataset, report)
        images, labels = dataset.test.images / np.float32(255), dataset.test.labels
        signs = np.random.default_rng(settings.train_seed).choice(np.array([-1, 1], np.int8), images.shape)

        def adversarial(inputs: tuple[jax.Array, jax.Array], epsilon: jax.Array) -> jax.Array:
            return interventions.fgsm(network.logits_function, inputs[0], inputs[1], epsilon)

        def random_step(inputs: tuple[jax.Array, jax.Array], epsilon: jax.Array) -> jax.Array:
            return jnp.clip(inputs[0] + epsilon * inputs[1].astype(jnp.float32), 0, 1)

        hits = {
            "sign of the gradient": interventions.hits(
                network.logits_function, adversarial, epsilons, (images, labels), labels, report
            ),
            "random signs": interventions.hits(
                network.logits_function, random_step, epsilons, (images, signs), labels, report
            ),
        }
        means = {epsilon: mean_adversarials(network.logits_function, images, labels, epsilon) for epsilon in shown}

    n = len(labels)
    metrics = {
        "test_accuracy": network.metrics["test_accuracy"],
        "num_images": n,
        "epsilons": epsilons,
        "accuracy": {name: (counts / n).tolist() for name, counts in hits.items()},
        "mean_adversarial_counts": {f"{epsilon:g}": counts.tolist() for epsilon, (_, counts) in means.items()},
    }
    common.write_json(out_dir / "metrics.json", metrics)
    common.write_config(out_dir, settings)
    arrays: dict[str, Any] = {
        f"mean_{epsilon:g}_{k}": image.filled()
        for epsilon, (images_khwc, _) in means.items()
        for k, image in enumerate(images_khwc)
        if np.ma.count(image)
    }
    common.write_arrays(out_dir / "maps.npz", **arrays)
    _draw(settings, out_dir, dataset, epsilons, hits, means)
    print(f"test accuracy   {metrics['test_accuracy']:.2%}")
    for name, counts in hits.items():
        told = ", ".join(f"{epsilon:g}: {count / n:.2%}" for epsilon, count in zip(epsilons, counts, strict=True))
        print(f"{name:21s} {told}")
    print(f"look at         {out_dir / 'accuracy.png'}")


def mean_adversarials(
    logits_function: interventions.LogitsFunction, images: np.ndarray, labels: np.ndarray, epsilon: float
) -> tuple[np.ma.MaskedArray, np.ndarray]:
    """The mean of the successful adversarial images of each predicted class [K, H, W, C], and their counts [K].

    Successful are those of images that are answered right without the step; a class that none is called is masked.
    """

    @jax.jit
    def sums_of(images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        attacked = interventions.fgsm(logits_function, images, labels, jnp.float32(epsilon))
        before, after = logits_function(images), logits_function(attacked).argmax(axis=-1)
        changed = (before.argmax(axis=-1) == labels) & (after != labels)
        weight = jnp.where(changed[:, None], jax.nn.one_hot(after, before.shape[-1]), 0)
        return weight.sum(axis=0), jnp.einsum("nk,nhwc->khwc", weight, attacked)

    batches = [sums_of(images[i : i + _BATCH], labels[i : i + _BATCH]) for i in range(0, len(labels), _BATCH)]
    count, total = (sum(np.asarray(array, np.float64) for array in arrays) for arrays in zip(*batches, strict=True))
    return total / np.ma.masked_equal(count, 0)[:, None, None, None], np.asarray(count, np.int64)


def _numbers(name: str, texts: tuple[str, ...]) -> list[float]:
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        numbers = []
    if not numbers or not all(0 <= number < np.inf for number in numbers):
        raise InputError(f"{name} is {','.join(texts)!r}: expected numbers of at least 0, such as 0,0.1,0.3")
    return numbers


def _draw(
    settings: Settings,
    out_dir: Path,
    dataset: data.Dataset,
    epsilons: Sequence[float],
    hits: Mapping[str, np.ndarray],
    means: Mapping[float, tuple[np.ma.MaskedArray, np.ndarray]],
) -> None:
    n = len(dataset.test.labels)
    what = f"{settings.model} on {dataset.title}"
    published = [_PUBLISHED.get(epsilon, np.nan) for epsilon in epsilons] if dataset.name == "mnist" else None
    curves = {
        name: figures.Curve(
            epsilons, counts / n, statistics.wilson_interval(counts, n), published if name.startswith("sign") else None
        )
        for name, counts in hits.items()
    }
    common.save(
        figures.curves(
            {f"n = {n:,} test images": curves},
            "epsilon, in pixel intensity (black 0, white 1)",
            "accuracy",
            f"Fast gradient sign attack of {what}, 95% intervals",
            level=1 / dataset.num_classes,
            x_scale="symlog",
        ),
        out_dir / "accuracy.png",
    )
    rows = {
        f"ε = {epsilon:g}": [
            figures.Panel(image, f"called {name}\n{count:,}")
            for image, name, count in zip(images, dataset.class_names, counts, strict=True)
        ]
        for epsilon, (images, counts) in means.items()
    }
    title = f"Mean adversarial image by what it is called: test images that {what} called right before"
    common.save(figures.panels(rows, title), out_dir / "mean_adversarial_images.png")


if __name__ == "__main__":
    common.main(run, Settings)
