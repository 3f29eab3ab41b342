"""Does a network that knows things in one place, upright and of one size, know them moved, turned or scaled?

Networks are trained on the images as they are, on images at half size in the upper left, and on images at half size in
the centre (on black), and tested on all of these, at the lower right, turned by 90, 180 and 270 degrees, and at twice
the size. For the first network: accuracy as a function of the angle, the size, and the way that images are moved.

  python -m experiments.invariance --dataset=cifar10
  python -m experiments.invariance --dataset=mnist --trained_on=original     without the two other trainings

Writes to --out_dir: curves.png, conditions.png, metrics.json, config.json and log.jsonl.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import common
from wna_jax import augmentation, data, figures, interventions, statistics, training
from wna_jax.errors import InputError, unknown_name


class Place(NamedTuple):
    """What is done to an image: the arguments of `augmentation.affine`, moves as a share of height and width."""

    scale: float = 1.0
    angle: float = 0.0
    down: float = 0.0
    right: float = 0.0


PLACES = {
    "original": Place(),
    "upper_left": Place(0.5, down=-0.25, right=-0.25),
    "centre": Place(0.5),
    "lower_right": Place(0.5, down=0.25, right=0.25),
    "turned_90": Place(angle=90),
    "turned_180": Place(angle=180),
    "turned_270": Place(angle=270),
    "twice_as_large": Place(2),
}
_TRAINED_ON = ("original", "upper_left", "centre")
_PUBLISHED = {  # the authors' CIFAR-10 network; by what it was trained on, and tested on
    "original": {
        "original": 0.8194,
        "upper_left": 0.2043,
        "centre": 0.2025,
        "turned_90": 0.3076,
        "turned_180": 0.3185,
        "turned_270": 0.2925,
        "twice_as_large": 0.3774,
    },
    "upper_left": {"upper_left": 0.7326, "centre": 0.0793, "lower_right": 0.1184},
    "centre": {"centre": 0.7236, "original": 0.3787},
}
_SWEEPS = {  # what is told, the argument, and its values
    "turned by degrees": ("angle", range(0, 361, 15)),
    "scaled by": ("scale", (0.25, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2)),
    "moved right, in widths": ("right", [step / 32 for step in range(17)]),
}
_BATCH = 500

flags.DEFINE_list("trained_on", ",".join(_TRAINED_ON), "what networks are trained on, comma-separated")


@dataclass(frozen=True)
class Settings(common.NetworkSettings):
    """The flags of one run, as a value."""

    trained_on: tuple[str, ...]


def run(settings: Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    for name in settings.trained_on:
        if name not in _TRAINED_ON:
            raise unknown_name("place", name, _TRAINED_ON)
    if not settings.trained_on:
        raise InputError(f"trained_on is empty: choose from {', '.join(_TRAINED_ON)}")
    out_dir = common.open_output(settings)
    with common.reporting(out_dir) as report:
        dataset = common.classes_to_tell(settings, report)
        epochs = common.epochs_for(settings, dataset)
        images, labels = dataset.test.images / np.float32(255), dataset.test.labels
        hits: dict[str, dict[str, int]] = {}
        curves: dict[str, figures.Curve] = {}
        for name in dict.fromkeys(settings.trained_on):
            trained_on = dataset if name == "original" else moved_dataset(dataset, name)
            augmentation = None if name == "original" else "none"  # flips and shifts would move images from their place
            network = common.trained_network(replace(settings, epochs=epochs), trained_on, report, augmentation)

            def hits_at(places: Sequence[Place], network: common.Network = network) -> np.ndarray:
                return interventions.hits(
                    network.logits_function,
                    lambda images, i: put(images, Place(*jnp.array(places)[i.astype(jnp.int32)])),
                    range(len(places)),
                    images,
                    labels,
                    report,
                )

            hits[name] = dict(zip(PLACES, hits_at(list(PLACES.values())).tolist(), strict=True))
            if name == "original":
                for what, (argument, values) in _SWEEPS.items():
                    places = [Place(**{argument: value}) for value in values]
                    counts = hits_at(places)
                    curves[what] = figures.Curve(
                        values,
                        counts / len(labels),
                        statistics.wilson_interval(counts, len(labels)),
                        [_published(dataset, place) for place in places],
                    )

    n = len(labels)
    metrics = {
        "num_images": n,
        "accuracy": {name: {place: count / n for place, count in of.items()} for name, of in hits.items()},
        "curves": {what: {"x": list(curve.x), "accuracy": curve.y.tolist()} for what, curve in curves.items()},
    }
    common.write_json(out_dir / "metrics.json", metrics)
    common.write_config(out_dir, settings)
    _draw(settings, out_dir, dataset, hits, curves)
    print(f"{'trained on':17s}" + "".join(f"{place:>15s}" for place in PLACES))
    for name, of in hits.items():
        print(f"{name:17s}" + "".join(f"{count / n:15.2%}" for count in of.values()))
    print(f"look at         {out_dir / 'conditions.png'}")


def put(images: jax.Array, place: Place) -> jax.Array:
    """Images [n, H, W, C] at a place."""
    height, width = images.shape[1:3]
    return augmentation.affine(images, place.scale, place.angle, place.down * height, place.right * width)


def moved_dataset(dataset: data.Dataset, name: str) -> data.Dataset:
    """The data set with training and validation images at one of `PLACES`."""

    @jax.jit
    def move(images_u8: jax.Array) -> jax.Array:
        return jnp.rint(255 * put(training.to_unit_range(images_u8), PLACES[name])).astype(jnp.uint8)

    def moved(split: data.Split) -> data.Split:
        batches = [move(split.images[i : i + _BATCH]) for i in range(0, len(split.labels), _BATCH)]
        return data.Split(np.concatenate(batches), split.labels)

    return dataset.altered(name, moved(dataset.train), moved(dataset.validation))


def _published(dataset: data.Dataset, place: Place) -> float:
    of_place = {PLACES[name]: accuracy for name, accuracy in _PUBLISHED["original"].items()}
    return of_place.get(place, np.nan) if dataset.name == "cifar10" else np.nan


def _draw(
    settings: Settings,
    out_dir: Path,
    dataset: data.Dataset,
    hits: Mapping[str, Mapping[str, int]],
    curves: Mapping[str, figures.Curve],
) -> None:
    n, what = len(dataset.test.labels), f"{settings.model} on {dataset.name}"
    if curves:
        common.save(
            figures.curves(
                {heading: {"accuracy": curve} for heading, curve in curves.items()},
                "",
                "accuracy",
                f"{what}, trained on images as they are: {n:,} test images a point, 95% intervals",
                level=1 / dataset.num_classes,
            ),
            out_dir / "curves.png",
        )
    example = jnp.asarray(dataset.test.images[:1]) / 255
    pictures = np.concatenate([put(example, place) for place in PLACES.values()])
    captions = []
    for name, of in hits.items():
        published = _PUBLISHED[name] if dataset.name == "cifar10" else {}
        captions.append(
            [
                f"{count / n:.3f} ({published[place]:.3f})" if place in published else f"{count / n:.3f}"
                for place, count in of.items()
            ]
        )
    beside = " (published)" if dataset.name == "cifar10" else ""
    common.save(
        figures.gallery(
            np.stack([pictures] * len(hits)),
            [f"trained on\n{name}" for name in hits],
            f"Accuracy{beside} of {what} on {n:,} moved, turned and scaled test images",
            captions,
        ),
        out_dir / "conditions.png",
    )


if __name__ == "__main__":
    common.main(run, Settings)
