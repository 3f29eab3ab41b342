"""Trains a network to classify, and reports how well it does: curves, confusions, each class, the surest answers.

  python -m experiments.classify                                             embedded digits, no download
  python -m experiments.classify --dataset=mnist --model=flat_cnn
  python -m experiments.classify --dataset=cifar10 --model=deep_cnn --epochs=100
  python -m experiments.classify --dataset=mnist --noise=gaussian:0,1    noisy test images as well (--noise_weight)

The parameters are those of the epoch that is best on the validation images; the test images chose nothing. How sure an
answer is, is told by its log odds, log p / (1 - p): in float32 many p are 1.

Writes to --out_dir: curves.png, confusion.png, answers.png (the surest right and the surest wrong test images),
predictions.npz (logits and labels of the test images), metrics.json, config.json and log.jsonl.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from scipy import special
from sklearn.metrics import precision_recall_fscore_support

from experiments import common
from wna_jax import data, figures, models, statistics, templates, training
from wna_jax.errors import InputError

_SHOWN = 10
_NOISE_WEIGHT = 0.2
_CLEAN, _NOISY = "test", "noisy_test"


@dataclass(frozen=True)
class Settings(common.NetworkSettings):
    """The flags of one run, as a value; without noise no noisy images are classified."""

    DEFAULTS: ClassVar[dict[str, Any]] = {"noise": None, "noise_weight": None}

    noise: str | None
    noise_weight: float | None
    seed: int


def run(settings: Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    if settings.noise is None and settings.noise_weight is not None:
        raise InputError(f"noise_weight is {settings.noise_weight} of no noise: give --noise too, such as gaussian:0,1")
    if settings.noise and settings.noise_weight is None:
        settings = replace(settings, noise_weight=_NOISE_WEIGHT)
    out_dir = common.open_output(settings)
    with common.reporting(out_dir) as report:
        dataset = common.classes_to_tell(settings, report)
        labels = dataset.test.labels
        shown = {_CLEAN: dataset.test.images / np.float32(255)}
        if settings.noise:  # first, as a wrong name is better said before the training
            shown[_NOISY] = common.noisy_images(settings, dataset, shown[_CLEAN], report)
        network = common.trained_network(settings, dataset, report)
        logits = {name: training.predict(network.module, network.parameters, images) for name, images in shown.items()}
    metrics = {
        "parameters": models.parameter_count(network.parameters),
        "num_images": {
            name: len(split.labels)
            for name, split in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test))
        },
        **network.metrics,
        **{name: _report(labels, of.argmax(axis=1), dataset.class_names) for name, of in logits.items()},
    }
    common.write_json(out_dir / "metrics.json", metrics)
    common.write_config(out_dir, settings)
    arrays: dict[str, Any] = {f"logits_{name}": of for name, of in logits.items()}
    common.write_arrays(out_dir / "predictions.npz", labels=labels, **arrays)
    _draw(settings, out_dir, dataset, logits[_CLEAN], metrics)
    _summarise(out_dir, metrics)


def _report(labels: np.ndarray, answers: np.ndarray, class_names: tuple[str, ...]) -> dict[str, Any]:
    confusion = templates.confusion_matrix(labels, answers, len(class_names))
    interval = statistics.wilson_interval(np.trace(confusion), len(labels))
    return {
        "accuracy": float(np.trace(confusion) / len(labels)),
        "interval_95": [float(interval.low), float(interval.high)],
        "classes": class_report(labels, answers, class_names),
        "confusion": confusion.tolist(),
    }


def class_report(labels: np.ndarray, answers: np.ndarray, class_names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Precision, recall, F1 and number of images of each class, and their means; a class never answered has 0.

    A class without images has no recall and no F1 (None), and is not in the means.
    """
    columns = precision_recall_fscore_support(labels, answers, labels=range(len(class_names)), zero_division=0)
    rows = {
        name: {"precision": float(p), "recall": float(r), "f1": float(f1), "images": int(count)}
        if count
        else {"precision": None, "recall": None, "f1": None, "images": 0}
        for name, p, r, f1, count in zip(class_names, *columns, strict=True)
    }
    seen = [row for row in rows.values() if row["images"]]
    return rows | {"mean": {score: float(np.mean([row[score] for row in seen])) for score in seen[0]}}


def log_odds(logits: np.ndarray) -> np.ndarray:
    """log p / (1 - p) of each answer [n]: its logit less the log sum exp of the others, for logits [n, K]."""
    ordered = np.sort(logits.astype(np.float64), axis=1)
    return ordered[:, -1] - special.logsumexp(ordered[:, :-1], axis=1)


def _draw(
    settings: Settings, out_dir: Path, dataset: data.Dataset, logits: np.ndarray, metrics: dict[str, Any]
) -> None:
    what, n = f"{settings.model} on {dataset.title}", len(logits)
    sizes = metrics["num_images"]
    common.save(
        figures.learning_curves(
            metrics["epochs"],
            metrics["best_epoch"],
            f"Training of {what}: {sizes['train']:,} training images (seen while the network learns), "
            f"{sizes['validation']:,} validation images; {_told(metrics[_CLEAN])} of {n:,} test images right",
        ),
        out_dir / "curves.png",
    )
    images = {_CLEAN: "test images", _NOISY: f"test images in {settings.noise_weight} {settings.noise} noise"}
    confusions = {
        f"{n:,} {told}, {_told(metrics[name])} right": np.array(metrics[name]["confusion"])
        for name, told in images.items()
        if name in metrics
    }
    title = f"{what}: share of each true class, in per cent"
    common.save(figures.confusions(confusions, dataset.class_names, title), out_dir / "confusion.png")

    answers, labels, sure = logits.argmax(axis=1), dataset.test.labels, log_odds(logits)
    names = dataset.class_names
    surest = np.argsort(-sure)
    right, wrong = surest[answers[surest] == labels[surest]], surest[answers[surest] != labels[surest]]

    def panel(i: int) -> figures.Panel:
        called, chance = names[answers[i]], special.expit(sure[i])
        heading = f"p = {chance:.4f}" if chance < 0.999 else f"1 - p = {special.expit(-sure[i]):.0e}"
        told = called if answers[i] == labels[i] else f"called {called}, is {names[labels[i]]}"
        return figures.Panel(dataset.test.images[i] / np.float32(255), heading, caption=told)

    of_class = [right[answers[right] == k] for k in range(dataset.num_classes)]
    rows: dict[str, list[figures.Panel | None]] = {
        "right,\nthe surest": [panel(i) for i in right[:_SHOWN]],
        "right, surest\nof each class": [panel(members[0]) if len(members) else None for members in of_class],
        "wrong,\nthe surest": [panel(i) for i in wrong[:_SHOWN]],
        "wrong,\nnext to those": [panel(i) for i in wrong[_SHOWN : 2 * _SHOWN]],
    }
    rows = {label: row for label, row in rows.items() if any(row)}
    title = f"The surest answers of {what}: {len(right):,} right and {len(wrong):,} wrong of {n:,} test images"
    common.save(figures.panels(rows, title), out_dir / "answers.png")


def _told(report: dict[str, Any]) -> str:
    low, high = report["interval_95"]
    return f"{report['accuracy']:.2%} ({low:.2%} to {high:.2%})"


def _summarise(out_dir: Path, metrics: dict[str, Any]) -> None:
    print(f"parameters      {metrics['parameters']:,}")
    print(f"test accuracy   {_told(metrics[_CLEAN])}, loss {metrics['test_loss']:.4f}")
    print(f"best epoch      {metrics['best_epoch']} of {len(metrics['epochs'])}, {metrics['training_seconds']:.0f} s")
    for report in (_CLEAN, _NOISY):
        if report not in metrics:
            continue
        if report == _NOISY:
            print(f"in noise        {_told(metrics[report])}")
        print(f"{'class':16s}{'precision':>10s}{'recall':>10s}{'F1':>10s}{'images':>10s}")
        for name, row in metrics[report]["classes"].items():
            values = [row[score] for score in ("precision", "recall", "f1")]
            scores = "".join("      none" if value is None else f"{value:10.4f}" for value in values)
            print(f"{name:16s}{scores}{row['images']:10,.0f}")
    print(f"look at         {out_dir / 'curves.png'}")


if __name__ == "__main__":
    common.main(run, Settings)
