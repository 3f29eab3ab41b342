"""Does a network that knows things in one place, upright and of one size, know them moved, turned or scaled?

Networks are trained on the images as they are, on images at half size in the upper left, and on images at half size in
the centre (on black). They are tested on all of these, at the lower right, turned by 90, 180 and 270 degrees, and at
twice the size. For the first network: accuracy as a function of the angle, the size, and how far images are moved.

  python -m experiments.invariance --dataset=cifar10
  python -m experiments.invariance --dataset=mnist --trained_on=original     without the two other trainings

Writes to --out_dir: curves.png, conditions.png, metrics.json, config.json and log.jsonl.
"""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from experiments import launch, shared
from experiments.settings import NetworkSettings, choice
from wna_jax import figures
from wna_jax.runs.progress import in_parts, renamed
from wna_jax.studies import interventions, invariance
from wna_jax.studies.invariance import PLACES, Place, put_change

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
_SWEEPS = {  # by heading: the field of `Place`, and its values
    "turned by degrees": ("angle", range(0, 361, 15)),
    "scaled by": ("scale", (0.25, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2)),
    "moved right, in widths": ("right", [step / 32 for step in range(17)]),
}


class Settings(NetworkSettings):
    """The settings of one run."""

    trained_on: tuple[str, ...] = choice(
        _TRAINED_ON, "What networks are trained on.", choices=_TRAINED_ON, kind="place"
    )


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Networks trained in one place, tested in all."""
    dataset = shared.load_classes(settings, report)
    epochs = shared.epochs_for(settings, dataset)
    images, labels, n = dataset.test_images, dataset.test.labels, len(dataset.test.labels)
    hits: dict[str, dict[str, int]] = {}
    curves: dict[str, figures.Curve] = {}
    is_published = dataset.name == "cifar10"
    published = {PLACES[place]: accuracy for place, accuracy in _PUBLISHED["original"].items()}
    jobs = f"training {settings.model}", "answers"
    for name, told in in_parts(report, tuple(dict.fromkeys(settings.trained_on)), *jobs):
        trained_on = dataset if name == "original" else invariance.moved_dataset(dataset, name)
        augmentation = None if name == "original" else "none"  # flips and shifts would move images from their place
        network = shared.trained_network(replace(settings, epochs=epochs), trained_on, told, augmentation).network
        at_places = interventions.hits(network, put_change, list(PLACES.values()), images, labels, told)
        hits[name] = dict(zip(PLACES, at_places.tolist(), strict=True))
        sweeps = list(_SWEEPS.items()) if name == "original" else []
        for (heading, (field, values)), tell in in_parts(report, sweeps, "sweeps"):
            places = [Place(**{field: value}) for value in values]
            counts = interventions.hits(network, put_change, places, images, labels, renamed(tell, "sweeps"))
            printed = [published.get(place, np.nan) for place in places] if is_published else None
            curves[heading] = figures.Curve.of_counts(values, counts, n, printed)
    what = shared.title_of(settings, dataset)

    def caption(name: str, place: str) -> str:
        printed = _PUBLISHED[name].get(place) if is_published else None
        return f"{hits[name][place] / n:.3f}" + (f" ({printed:.3f})" if printed else "")

    def draw() -> launch.Drawn:
        example = jnp.asarray(dataset.test_images[:1])
        pictures = np.concatenate([invariance.put(example, place) for place in PLACES.values()])
        labels = [f"trained on\n{name}" for name in hits]
        captions = [[caption(name, p) for p in PLACES] for name in hits]
        title = f"Accuracy{' (published)' * is_published} of {what} on {n:,} moved, turned and scaled test images"
        yield "conditions.png", figures.gallery(np.stack([pictures] * len(hits)), labels, title, captions)
        if curves:
            panels = {heading: {"accuracy": curve} for heading, curve in curves.items()}
            title = f"{what}, trained on images as they are: {n:,} test images per point, 95% intervals"
            yield "curves.png", figures.curves(panels, "", "accuracy", title, level=1 / dataset.num_classes)

    metrics = {
        "num_images": n,
        "accuracy": {name: {place: count / n for place, count in of.items()} for name, of in hits.items()},
        "curves": {heading: {"x": list(c.x), "accuracy": c.y.tolist()} for heading, c in curves.items()},
    }
    summary = [f"{'trained on':17s}" + "".join(f"{place:>15s}" for place in PLACES)]
    summary += [f"{name:17s}" + "".join(f"{count / n:15.2%}" for count in of.values()) for name, of in hits.items()]
    return launch.Result(metrics, summary, draw)


if __name__ == "__main__":
    launch.main(run, Settings)
