"""How much noise does a network tolerate, and does it help to train it in noise?

For every level, a deviation as a share of the pixel range, networks of several seeds are trained in noise of that level
and tested in it, and in noise of every other level (the transfer table). Two mistakes of published studies are offered
as conditions of their own, to see their figures beside the true ones: range_mistake, noise meant for pixels of 0 to 255
added to images in [0, 1] (.98 falls to .11), and one_number, the same number added to all images (.98 falls to .93 at
level .5: a shift of brightness). --optimiser=adadelta with Keras's rate of .001 is a third (a ConvNet's .99 is .84).

  python -m experiments.noise_robustness --dataset=mnist
  python -m experiments.noise_robustness --dataset=mnist --models=dropout_mlp,noise_cnn --conditions=each_image

A stopped run resumes. Writes to --out_dir: accuracy.png, loss.png, transfer.png, examples.png, curves.npz,
metrics.json, config.json, log.jsonl and state/.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import launch, shared
from experiments.launch import Result
from experiments.settings import DataSettings, setting
from wna_jax import data, figures, statistics
from wna_jax.networks import models
from wna_jax.runs.progress import Report, silent
from wna_jax.studies import robustness
from wna_jax.studies.robustness import CONDITIONS, OPTIMISERS, Study

_PUBLISHED = {  # test accuracy by level, as printed
    ("dropout_mlp", "range_mistake"): {0.0: 0.9835, 0.1: 0.1128, 0.15: 0.1135, 0.2: 0.1138, 0.5: 0.1135},
    ("dropout_mlp", "one_number"): {0.0: 0.9837, 0.5: 0.9297},
    ("noise_cnn", "range_mistake"): {0.0: 0.8449, 0.1: 0.1135, 0.15: 0.1135, 0.2: 0.1135, 0.5: 0.1135},
}
_AXIS = "level of the noise, in pixel ranges"


@dataclass(frozen=True, kw_only=True)
class Settings(DataSettings):
    """The settings of one run."""

    models: tuple[str, ...] = setting(
        ("dropout_mlp",),
        f"The networks to compare: {', '.join(models.NAMES)}.",
        choices=models.NAMES,
        kind="model",
        names_folder=True,
    )
    levels: tuple[float, ...] = setting(
        (0.0, 0.1, 0.15, 0.2, 0.5, 1.0, 2.0, 4.0),
        "Levels of the noise, as shares of the pixel range.",
        at_least=0,
        names_folder=True,
    )
    conditions: tuple[str, ...] = setting(
        tuple(CONDITIONS),
        f"What the noise is: {', '.join(CONDITIONS)}.",
        choices=tuple(CONDITIONS),
        kind="condition",
        names_folder=True,
    )
    optimiser: str = setting(
        "one_cycle",
        "The optimiser: one_cycle, which is Adam on a one-cycle schedule, or adam, rmsprop or adadelta as in Keras.",
        choices=tuple(OPTIMISERS),
        names_folder=True,
    )
    epochs: int = setting(5, "Passes over the training images.", at_least=1)
    train_seed: int = setting(0, "Random seed of the training.", at_least=0, at_most=2**32 - 1)
    num_train_seeds: int = setting(3, "How many networks to train per level, from --train_seed on.", at_least=2)


def run(settings: Settings, report: Report = silent) -> Result:
    """Networks trained at every level to their accuracies at every level."""
    dataset = shared.load_classes(settings, report)
    for model in settings.models:
        models.create(model, dataset.image_shape, dataset.num_classes)  # raises before any training
    levels = sorted(set(settings.levels))
    seeds = [(settings.train_seed + i) % 2**32 for i in range(settings.num_train_seeds)]
    studies = {
        condition if len(settings.models) == 1 else f"{model}, {condition}": robustness.study(
            model,
            dataset,
            levels,
            seeds,
            condition,
            settings.optimiser,
            settings.epochs,
            state_dir=settings.folder / "state" / f"{model}-{condition}",
            report=report,
        )
        for model, condition in itertools.product(dict.fromkeys(settings.models), dict.fromkeys(settings.conditions))
    }
    metrics = {
        "levels": levels,
        "seeds": seeds,
        "epochs": settings.epochs,
        "test_images": len(dataset.test.labels),
        "conditions": {name: study.as_json() for name, study in studies.items()},
    }
    arrays = {
        f"{name.replace(', ', '-')}_{what}": values
        for name, study in studies.items()
        for what, values in study.arrays().items()
    }
    drawn = _figures(settings, dataset, studies)
    return Result(metrics, list(_summary(settings, studies)), drawn, {"curves.npz": {"levels": levels} | arrays})


def _figures(settings: Settings, dataset: data.Dataset, studies: dict[str, Study]) -> dict[str, Any]:
    trained = f"{settings.optimiser}, epochs: {settings.epochs}, seeds: {settings.num_train_seeds}"
    what = f"{' and '.join(settings.models)} on {dataset.title}, {trained}"
    title = f"{what}: trained and tested in noise of the same level; bands: all seeds"
    levels = next(iter(studies.values())).levels
    published = _PUBLISHED if settings.dataset == "mnist" else {}

    def curve(values: np.ndarray, of_others: dict[float, float] | None = None) -> figures.Curve:
        band = statistics.Interval(values.min(axis=-1), values.max(axis=-1))
        printed = [of_others.get(level, np.nan) for level in levels] if of_others else None
        return figures.Curve(levels, values.mean(axis=-1), band, printed)

    def accuracy() -> Figure:
        panels = {name: {split: curve(of) for split, of in study.accuracy.items()} for name, study in studies.items()}
        for name, study in studies.items():
            panels[name]["test"] = curve(study.accuracy["test"], published.get((study.model, study.condition)))
        chance = 1 / dataset.num_classes
        return figures.curves(panels, _AXIS, "accuracy", f"{title}; dotted: chance", level=chance, x_scale="symlog")

    def loss() -> Figure:
        panels = {name: {split: curve(of) for split, of in study.loss.items()} for name, study in studies.items()}
        scales: dict[str, Any] = {"x_scale": "symlog", "y_scale": "log", "y_limits": (None, None)}
        return figures.curves(panels, _AXIS, "loss (nats)", title, **scales)

    def transfer() -> Figure:
        tables = {name: study.transfer.mean(axis=-1) for name, study in studies.items()}
        names = [f"{level:g}" for level in levels]
        return figures.tables(tables, names, f"Test accuracy (%) of {what}", "level in training", "level in test")

    def examples() -> Figure:
        image = jnp.asarray(dataset.test_images[:1])
        rows = {
            study.condition: [
                figures.Panel(np.clip(study.in_noise(image, level)[0], 0, 1), f"level {level:g}") for level in levels
            ]
            for study in studies.values()
        }
        return figures.panels(rows, f"One test image of {dataset.title} in noise")

    return {"accuracy.png": accuracy, "loss.png": loss, "transfer.png": transfer, "examples.png": examples}


def _summary(settings: Settings, studies: dict[str, Study]) -> Iterator[str]:
    for name, study in studies.items():
        yield f"{name}: test accuracy in noise of the level trained in, mean and range of {len(study.numbers)} seeds"
        for level, values in zip(study.levels, study.accuracy["test"], strict=True):
            yield f"  {level:<6g} {values.mean():.4f}  {values.min():.4f} to {values.max():.4f}"
    yield f"look at         {settings.folder / 'accuracy.png'}"


if __name__ == "__main__":
    launch.main(run, Settings)
