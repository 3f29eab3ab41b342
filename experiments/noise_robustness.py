"""How much noise can a network bear, and does it help to train it in noise?

For every level, a deviation as a share of the pixel range, networks of several seeds are trained in noise of that level
and tested in it, and in noise of every other level (the transfer table). Two mistakes of published studies are offered
as conditions of their own, to see their figures beside the true ones: range_mistake, noise meant for pixels of 0 to 255
added to images in [0, 1] (.98 falls to .11), and one_number, the same number added to all images (.98 falls to .93 at
level .5: a shift of brightness). --optimiser=adadelta with Keras's rate of .001 is a third (a ConvNet's .99 is .84).

  python -m experiments.noise_robustness --dataset=mnist
  python -m experiments.noise_robustness --dataset=mnist --models=dropout_mlp,noise_cnn --conditions=each_image

A run that was stopped goes on. Writes to --out_dir: accuracy.png, loss.png, transfer.png, examples.png, curves.npz,
metrics.json, config.json, log.jsonl and state/.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import common
from wna_jax import data, figures, models, robustness, statistics, training
from wna_jax.errors import InputError, unknown_name

flags.DEFINE_list("models", "dropout_mlp", f"side by side, comma-separated: {', '.join(models.NAMES)}")
flags.DEFINE_list("levels", "0,0.1,0.15,0.2,0.5,1,2,4", "of the noise, as shares of the pixel range")
flags.DEFINE_list(
    "conditions", ",".join(robustness.CONDITIONS), f"what the noise is: {', '.join(robustness.CONDITIONS)}"
)
flags.DEFINE_enum(
    "optimiser", "one_cycle", list(robustness.OPTIMISERS), "of the training; the others as Keras has them"
)

_EPOCHS = 5
_PUBLISHED = {  # test accuracy by level, as printed
    ("dropout_mlp", "range_mistake"): {0.0: 0.9835, 0.1: 0.1128, 0.15: 0.1135, 0.2: 0.1138, 0.5: 0.1135},
    ("dropout_mlp", "one_number"): {0.0: 0.9837, 0.5: 0.9297},
    ("noise_cnn", "range_mistake"): {0.0: 0.8449, 0.1: 0.1135, 0.15: 0.1135, 0.2: 0.1135, 0.5: 0.1135},
}


@dataclass(frozen=True)
class Settings:
    """The flags of one run, as a value."""

    dataset: str
    data_dir: str | None
    models: tuple[str, ...]
    epochs: int | None
    levels: tuple[str, ...]
    conditions: tuple[str, ...]
    optimiser: str
    train_seed: int
    num_train_seeds: int
    out_dir: str


def run(settings: Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    levels = _levels(settings.levels)
    for name in settings.conditions:
        if name not in robustness.CONDITIONS:
            raise unknown_name("condition", name, tuple(robustness.CONDITIONS))
    for name in ("models", "conditions"):
        if not getattr(settings, name):
            known = models.NAMES if name == "models" else tuple(robustness.CONDITIONS)
            raise InputError(f"{name} is empty: choose from {', '.join(known)}")
    epochs = _EPOCHS if settings.epochs is None else settings.epochs
    seeds = [(settings.train_seed + i) % 2**32 for i in range(settings.num_train_seeds)]
    out_dir = common.open_output(settings)
    with common.reporting(out_dir) as report:
        dataset = common.classes_to_tell(settings, report)
        pairs = list(itertools.product(dict.fromkeys(settings.models), dict.fromkeys(settings.conditions)))
        for model in settings.models:
            models.create(model, dataset.image_shape, dataset.num_classes)  # says before any training which there are
        studies = {
            _label(settings, model, condition): robustness.study(
                model,
                dataset,
                levels,
                seeds,
                condition,
                settings.optimiser,
                epochs,
                state_dir=out_dir / "state" / f"{model}-{condition}",
                report=report,
            )
            for model, condition in pairs
        }
    metrics = {
        "levels": levels,
        "seeds": seeds,
        "epochs": epochs,
        "test_images": len(dataset.test.labels),
        "conditions": {
            name: {
                "accuracy": {split: values.tolist() for split, values in study.accuracy.items()},
                "loss": {split: values.tolist() for split, values in study.loss.items()},
                "transfer": study.transfer.mean(axis=-1).tolist(),
                "one_number": study.numbers.tolist(),
            }
            for name, study in studies.items()
        },
    }
    common.write_json(out_dir / "metrics.json", metrics)
    common.write_config(out_dir, settings)
    arrays: dict[str, Any] = {}
    for name, study in studies.items():
        name = name.replace(", ", "-")
        arrays[f"{name}_transfer"] = study.transfer
        for split in study.accuracy:
            arrays |= {f"{name}_{split}_accuracy": study.accuracy[split], f"{name}_{split}_loss": study.loss[split]}
    common.write_arrays(out_dir / "curves.npz", levels=levels, **arrays)
    _draw(settings, out_dir, dataset, studies, epochs)
    _summarise(studies, out_dir)


def _label(settings: Settings, model: str, condition: str) -> str:
    return condition if len(settings.models) == 1 else f"{model}, {condition}"


def _levels(texts: tuple[str, ...]) -> list[float]:
    try:
        levels = [float(text) for text in texts]
    except ValueError:
        levels = []
    if not levels or not all(0 <= level < np.inf for level in levels):
        raise InputError(f"levels is {','.join(texts)!r}: expected numbers of at least 0, such as 0,0.1,0.5")
    return sorted(set(levels))


def _draw(
    settings: Settings, out_dir: Path, dataset: data.Dataset, studies: Mapping[str, robustness.Study], epochs: int
) -> None:
    trained = f"{settings.optimiser}, epochs: {epochs}, seeds: {settings.num_train_seeds}"
    what = f"{' and '.join(settings.models)} on {dataset.title}, {trained}"

    def panels(values: str) -> dict[str, dict[str, figures.Curve]]:
        return {
            name: {
                split: _band(study.levels, of_split, _printed(settings, study) if values == "accuracy" else None)
                if split == "test"
                else _band(study.levels, of_split)
                for split, of_split in getattr(study, values).items()
            }
            for name, study in studies.items()
        }

    axis = "level of the noise, in pixel ranges"
    title = f"{what}: trained and tested in noise of the same level; bands: all seeds"
    chance = 1 / dataset.num_classes
    common.save(
        figures.curves(
            panels("accuracy"), axis, "accuracy", f"{title}; dotted: chance", level=chance, x_scale="symlog"
        ),
        out_dir / "accuracy.png",
    )
    common.save(
        figures.curves(
            panels("loss"), axis, "loss (nats)", title, x_scale="symlog", y_scale="log", y_limits=(None, None)
        ),
        out_dir / "loss.png",
    )
    names = [f"{level:g}" for level in next(iter(studies.values())).levels]
    common.save(
        figures.tables(
            {name: study.transfer.mean(axis=-1) for name, study in studies.items()},
            names,
            f"Test accuracy (%) of {what}",
            "level in training",
            "level in test",
        ),
        out_dir / "transfer.png",
    )
    image = training.to_unit_range(jnp.asarray(dataset.test.images[:1]))
    rows = {
        study.condition: [
            figures.Panel(np.clip(_example(study, image, level)[0], 0, 1), f"level {level:g}") for level in study.levels
        ]
        for study in studies.values()
    }
    common.save(figures.panels(rows, f"One test image of {dataset.title} in noise"), out_dir / "examples.png")


def _example(study: robustness.Study, image: jax.Array, level: float) -> np.ndarray:
    number = jnp.asarray(study.numbers[0])
    return np.asarray(robustness.CONDITIONS[study.condition](jax.random.key(0), image, jnp.float32(level), number))


def _band(levels: list[float], values: np.ndarray, published: list[float] | None = None) -> figures.Curve:
    interval = statistics.Interval(values.min(axis=-1), values.max(axis=-1))
    return figures.Curve(levels, values.mean(axis=-1), interval, published)


def _printed(settings: Settings, study: robustness.Study) -> list[float] | None:
    printed = _PUBLISHED.get((study.model, study.condition)) if settings.dataset == "mnist" else None
    return [printed.get(level, np.nan) for level in study.levels] if printed else None


def _summarise(studies: Mapping[str, robustness.Study], out_dir: Path) -> None:
    for name, study in studies.items():
        print(f"{name}: test accuracy in noise of the level trained in, mean and range of {len(study.numbers)} seeds")
        for level, values in zip(study.levels, study.accuracy["test"], strict=True):
            print(f"  {level:<6g} {values.mean():.4f}  {values.min():.4f} to {values.max():.4f}")
    print(f"look at         {out_dir / 'accuracy.png'}")


if __name__ == "__main__":
    common.main(run, Settings)
