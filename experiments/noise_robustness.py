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
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments import launch, shared
from experiments.settings import DataSettings, choice, setting
from wna_jax import figures, statistics
from wna_jax.networks import models
from wna_jax.studies import robustness

_PUBLISHED = {  # test accuracy by level, as printed
    ("dropout_mlp", "range_mistake"): {0.0: 0.9835, 0.1: 0.1128, 0.15: 0.1135, 0.2: 0.1138, 0.5: 0.1135},
    ("dropout_mlp", "one_number"): {0.0: 0.9837, 0.5: 0.9297},
    ("noise_cnn", "range_mistake"): {0.0: 0.8449, 0.1: 0.1135, 0.15: 0.1135, 0.2: 0.1135, 0.5: 0.1135},
}
_AXIS = "level of the noise, in pixel ranges"


class Settings(DataSettings):
    """The settings of one run."""

    models: tuple[str, ...] = choice(
        ("dropout_mlp",), f"The networks to compare: {', '.join(models.NAMES)}.", choices=models.NAMES, kind="model"
    )
    levels: tuple[float, ...] = choice(
        (0.0, 0.1, 0.15, 0.2, 0.5, 1.0, 2.0, 4.0), "Levels of the noise, as shares of the pixel range.", at_least=0
    )
    conditions: tuple[str, ...] = choice(
        tuple(robustness.CONDITIONS),
        f"What the noise is: {', '.join(robustness.CONDITIONS)}.",
        choices=tuple(robustness.CONDITIONS),
        kind="condition",
    )
    optimiser: str = choice(
        "one_cycle",
        "The optimiser: one_cycle, which is Adam on a one-cycle schedule, or adam, rmsprop or adadelta as in Keras.",
        choices=tuple(robustness.OPTIMISERS),
    )
    epochs: int = setting(5, "Passes over the training images.", at_least=1)
    train_seed: int = setting(0, "Random seed of the training.", at_least=0, at_most=2**32 - 1)
    num_train_seeds: int = setting(3, "How many networks to train per level, from --train_seed on.", at_least=2)


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Networks trained at every level to their accuracies at every level."""
    dataset = shared.load_classes(settings, report)
    for model in settings.models:
        models.create(model, dataset.image_shape, dataset.num_classes)  # raises before any training
    levels = sorted(set(settings.levels))
    seeds = [(settings.train_seed + i) % 2**32 for i in range(settings.num_train_seeds)]
    studies: dict[str, robustness.Study] = {}
    for model, condition in itertools.product(dict.fromkeys(settings.models), dict.fromkeys(settings.conditions)):
        name = condition if len(settings.models) == 1 else f"{model}, {condition}"
        directory = settings.folder / "state" / f"{model}-{condition}"
        of = model, dataset, levels, seeds, condition, settings.optimiser, settings.epochs
        studies[name] = robustness.study(*of, state_dir=directory, report=report)
    metrics = {
        "levels": levels,
        "seeds": seeds,
        "epochs": settings.epochs,
        "test_images": len(dataset.test.labels),
        "conditions": {name: study.as_json() for name, study in studies.items()},
    }
    arrays: dict[str, Any] = {"levels": levels}
    for name, study in studies.items():
        arrays |= {f"{name.replace(', ', '-')}_{part}": values for part, values in study.arrays().items()}
    trained = f"{settings.optimiser}, epochs: {settings.epochs}, seeds: {settings.num_train_seeds}"
    what = f"{' and '.join(settings.models)} on {dataset.title}, {trained}"
    published = _PUBLISHED if settings.dataset == "mnist" else {}

    def curve(values: np.ndarray, of_others: dict[float, float] | None = None) -> figures.Curve:
        band = statistics.Interval(values.min(axis=-1), values.max(axis=-1))
        printed = [of_others.get(level, np.nan) for level in levels] if of_others else None
        return figures.Curve(levels, values.mean(axis=-1), band, printed)

    def draw() -> launch.Drawn:
        title = f"{what}: trained and tested in noise of the same level; bands: all seeds"
        panels = {name: {split: curve(of) for split, of in study.accuracy.items()} for name, study in studies.items()}
        for name, study in studies.items():
            panels[name]["test"] = curve(study.accuracy["test"], published.get((study.model, study.condition)))
        labels, chance = (_AXIS, "accuracy", f"{title}; dotted: chance"), 1 / dataset.num_classes
        yield "accuracy.png", figures.curves(panels, *labels, level=chance, x_scale="symlog")
        panels = {name: {split: curve(of) for split, of in study.loss.items()} for name, study in studies.items()}
        labels = _AXIS, "loss (nats)", title
        yield "loss.png", figures.curves(panels, *labels, x_scale="symlog", y_scale="log", y_limits=(None, None))
        tables, names = {name: of.transfer.mean(axis=-1) for name, of in studies.items()}, [f"{of:g}" for of in levels]
        axes = "level in training", "level in test"
        yield "transfer.png", figures.tables(tables, names, f"Test accuracy (%) of {what}", *axes)
        image, rows = jnp.asarray(dataset.test_images[:1]), {}
        for study in studies.values():
            shown = {level: np.clip(study.in_noise(image, level)[0], 0, 1) for level in levels}
            rows[study.condition] = [figures.Panel(of, f"level {level:g}") for level, of in shown.items()]
        yield "examples.png", figures.panels(rows, f"One test image of {dataset.title} in noise")

    summary = []
    for name, study in studies.items():
        said = f"test accuracy in noise of the level trained in, mean and range of {len(study.numbers)} seeds"
        summary.append(f"{name}: {said}")
        for level, values in zip(study.levels, study.accuracy["test"], strict=True):
            summary.append(f"  {level:<6g} {values.mean():.4f}  {values.min():.4f} to {values.max():.4f}")
    return launch.Result(metrics, summary, draw, {"curves.npz": arrays})


if __name__ == "__main__":
    launch.main(run, Settings)
