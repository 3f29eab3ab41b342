"""Can a generator learn to make images that a discriminator takes for those of the data (a GAN)?

A DCGAN in the size of the images. Told are the losses, what the same codes become over the training, and how far the
generated images are from test images: the sliced Wasserstein distance, beside that of training images (the best there
is) and of noise that matches the pixels. Where the data have classes, a trained classifier (--model) says what it sees.

  python -m experiments.gan --dataset=mnist
  python -m experiments.gan --dataset=folder:faces --image_size=64 --width=16 --epochs=30

A run that was stopped goes on; with more --epochs a finished one does. Writes to --out_dir: samples.png, training.png,
losses.png, distance.png, samples.npz, metrics.json, config.json, log.jsonl and state/.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import common
from wna_jax import adversarial, data, figures, noise, statistics
from wna_jax.adversarial import AdversarialSpec, sliced_wasserstein
from wna_jax.errors import InputError
from wna_jax.reverse_correlation import draw_samples

flags.DEFINE_integer("image_size", None, "side to which images are resized (by default they stay as they are)")
flags.DEFINE_integer("width", AdversarialSpec.width, "channels of both networks at half the images' size")
flags.DEFINE_integer("code_size", AdversarialSpec.code_size, "numbers in a code")
flags.DEFINE_integer("real_images", AdversarialSpec.batch_size, "in a step, beside as many generated ones")
flags.DEFINE_float("learning_rate", AdversarialSpec.learning_rate, "of Adam, for both networks")
flags.DEFINE_float("beta1", AdversarialSpec.beta1, "momentum of Adam, for both networks")

_EPOCHS = 20
_COMPARED = 2000
_REPEATS = 5
_SURE = 0.9
_ROWS, _COLUMNS = 6, 12


@dataclass(frozen=True)
class Settings(common.NetworkSettings):
    """The flags of one run, as a value; `model` is the network that judges, `epochs` and `train_seed` the GAN's."""

    image_size: int | None
    width: int
    code_size: int
    real_images: int
    learning_rate: float
    beta1: float


def run(settings: Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    out_dir = common.open_output(settings)
    if settings.image_size is not None and not 8 <= settings.image_size <= 512:
        raise InputError(f"image_size is {settings.image_size}: expected 8 to 512, such as 64")
    with common.reporting(out_dir) as report:
        dataset = data.load(settings.dataset, settings.data_dir, report)
        if settings.image_size and dataset.image_shape[:2] != (settings.image_size, settings.image_size):
            dataset = dataset.resized(settings.image_size)
        spec = AdversarialSpec(
            dataset.name,
            dataset.fingerprint,
            seed=settings.train_seed,
            batch_size=settings.real_images,
            learning_rate=settings.learning_rate,
            beta1=settings.beta1,
            width=settings.width,
            code_size=settings.code_size,
        )
        epochs = _EPOCHS if settings.epochs is None else settings.epochs
        adversarial.networks(spec, dataset.image_shape)  # says what cannot be trained before the judge is
        judge = None
        if dataset.num_classes > 1:
            common.see_classes(dataset)
            judge = common.trained_network(replace(settings, epochs=None, train_seed=0), dataset, report)
        trained = adversarial.fit(spec, dataset, epochs, out_dir / "state", report)

    count = min(_COMPARED, len(dataset.test.labels), len(dataset.train.labels))
    samples = trained.generate(count, settings.train_seed + 1)
    metrics: dict[str, Any] = {
        "num_train": len(dataset.train.labels),
        "epochs": epochs,
        "steps": trained.steps,
        "parameters": {
            "generator": sum(leaf.size for leaf in jax.tree.leaves(trained.players.generator)),
            "discriminator": sum(leaf.size for leaf in jax.tree.leaves(trained.players.discriminator)),
        },
        "sliced_wasserstein": _distances(dataset, trained, count, settings.train_seed),
        "sliced_wasserstein_by_step": trained.distances,
        "sliced_wasserstein_of_training_from_validation": _floor(dataset),
        "mean_losses_of_last_steps": {
            "steps": min(100, trained.steps),
            **dict(zip(("discriminator", "generator"), trained.losses[-100:].mean(axis=0).tolist(), strict=True)),
        },
        "judged": {},
    }
    answers = None
    if judge is not None:
        answers = _probabilities(judge, samples)
        real = _probabilities(judge, dataset.test.images[:count] / np.float32(255))
        metrics["judged"] = {"generated": _judgement(answers), "test": _judgement(real)}
    common.write_json(out_dir / "metrics.json", metrics)
    common.write_config(out_dir, settings)
    samples_u8 = np.round(255 * samples).astype(np.uint8)
    common.write_arrays(out_dir / "samples.npz", samples=samples_u8, losses=trained.losses)
    _draw(settings, out_dir, dataset, trained, samples, answers, metrics)
    for name, (mean, spread) in metrics["sliced_wasserstein"].items():
        print(f"{name:10s} {mean:.4f} ± {spread:.4f} from test images (sliced Wasserstein distance)")
    for name, found in metrics["judged"].items():
        print(f"{name:10s} {found['confident']:.1%} called with confidence > {_SURE}; these by class {found['counts']}")
    print(f"look at    {out_dir / 'samples.png'}")


def _distances(
    dataset: data.Dataset, trained: adversarial.Trained, count: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Mean distance of `count` images of each kind from as many test images, and its deviation over five draws."""
    rng = np.random.default_rng(seed)
    test = dataset.test.images[:count] / np.float32(255)
    pixels = noise.matched(dataset)

    def of(kind: str, draw: int) -> np.ndarray:
        if kind == "generated":
            return trained.generate(count, seed + 1 + draw)
        if kind == "training":
            return dataset.train.images[rng.choice(len(dataset.train.labels), count, replace=False)] / np.float32(255)
        return np.asarray(draw_samples(pixels, count, seed=draw))

    found = {
        kind: [sliced_wasserstein(of(kind, draw), test, seed=draw) for draw in range(_REPEATS)]
        for kind in ("generated", "training", "noise")
    }
    return {kind: (float(np.mean(values)), float(np.std(values, ddof=1))) for kind, values in found.items()}


def _floor(dataset: data.Dataset) -> float:
    """The distance of as many training images from the validation images that a run is followed by."""
    count = min(adversarial.HELD_OUT, len(dataset.validation.labels), len(dataset.train.labels))
    chosen = np.random.default_rng(0).choice(len(dataset.train.labels), count, replace=False)
    first, second = dataset.train.images[chosen], dataset.validation.images[:count]
    return sliced_wasserstein(first / np.float32(255), second / np.float32(255))


def _probabilities(judge: common.Network, images: np.ndarray) -> np.ndarray:
    batches = [jnp.asarray(images[i : i + 500]) for i in range(0, len(images), 500)]
    return np.concatenate([jax.nn.softmax(judge.logits_function(batch)) for batch in batches])


def _judgement(probabilities: np.ndarray) -> dict:
    sure = probabilities.max(axis=1) > _SURE
    counts = np.bincount(probabilities.argmax(axis=1)[sure], minlength=probabilities.shape[1])
    return {"confident": float(sure.mean()), "counts": counts.tolist(), "classes_present": int((counts > 0).sum())}


def _draw(
    settings: Settings,
    out_dir: Path,
    dataset: data.Dataset,
    trained: adversarial.Trained,
    samples: np.ndarray,
    answers: np.ndarray | None,
    metrics: dict,
) -> None:
    what = f"{dataset.title} ({metrics['num_train']:,} images, {trained.steps:,} steps)"
    columns = min(_COLUMNS, len(samples))
    rows = min(_ROWS, len(samples) // columns)
    shown = samples[: rows * columns]
    captions: Sequence[Sequence[str]] = ()
    if answers is not None:
        told = [f"{dataset.class_names[int(p.argmax())]} {float(p.max()):.2f}" for p in answers]
        captions = [told[row * columns : (row + 1) * columns] for row in range(rows)]
    grid = shown.reshape(rows, columns, *dataset.image_shape)
    title = f"Images of random codes by a GAN of {what}" + (f"; what {settings.model} calls them" if captions else "")
    common.save(figures.gallery(grid, [""] * rows, title, captions), out_dir / "samples.png")
    labels = [f"{steps:,} steps" for steps in trained.snapshots]
    title = f"The same random codes as training goes on: generator of a GAN of {what}"
    common.save(figures.gallery(np.stack(list(trained.snapshots.values())), labels, title), out_dir / "training.png")

    parts = np.array_split(np.arange(trained.steps), min(60, trained.steps))
    at = [float(part.mean()) for part in parts]
    means = np.stack([trained.losses[part].mean(axis=0) for part in parts])
    curves = {
        name: figures.Curve(at, means[:, i], statistics.Interval(means[:, i], means[:, i]))
        for i, name in enumerate(("discriminator", "generator"))
    }
    title = f"Losses of a GAN of {what}; dotted: that of a discriminator that knows nothing"
    common.save(
        figures.curves({"": curves}, "steps", "nats", title, level=2 * np.log(2), y_limits=(0, None)),
        out_dir / "losses.png",
    )
    steps = [max(1, steps) for steps in trained.distances]
    values = np.array(list(trained.distances.values()))
    best = metrics["sliced_wasserstein_of_training_from_validation"]
    title = f"Distance from validation images of those generated by a GAN of {what}; dotted: of training images"
    common.save(
        figures.curves(
            {"": {"generated": figures.Curve(steps, values, statistics.Interval(values, values))}},
            "steps (the first: untrained)",
            "sliced Wasserstein distance",
            title,
            level=best,
            x_scale="log",
            y_limits=(0, None),
        ),
        out_dir / "distance.png",
    )


if __name__ == "__main__":
    common.main(run, Settings)
