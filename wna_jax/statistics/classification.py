"""How well a classifier does: confusion counts, the scores of each class, and how sure single answers are."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from wna_jax.statistics.reliability import Interval, wilson_interval


def confusion_matrix(truth: np.ndarray, answers: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts [K, K]: row the true class, column the answer."""
    cells = np.bincount(truth.astype(np.int64) * num_classes + answers, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


class ClassificationReport(NamedTuple):
    """The scores of a classifier on labelled images of K classes; masked for a class without images.

    `confusion` has counts [K, K]: row the true class, column the answer. `interval` is Wilson's 95% interval of the
    accuracy. [K] are `precision`, the share of the answers k that are right (0 for a class that is never answered),
    `recall`, the share of the images of class k that are called k, and `f1`, the harmonic mean of the two.
    """

    confusion: np.ndarray
    accuracy: float
    interval: Interval
    precision: np.ma.MaskedArray
    recall: np.ma.MaskedArray
    f1: np.ma.MaskedArray

    def __str__(self) -> str:
        """The accuracy with its interval, in per cent."""
        return f"{self.accuracy:.2%} ({self.interval.low:.2%} to {self.interval.high:.2%})"

    def as_json(self, class_names: Sequence[str]) -> dict[str, Any]:
        """The report as JSON values: scores by class name, and "mean", over the classes that have images."""
        scores = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        images = self.confusion.sum(axis=1)
        classes: dict[str, dict[str, Any]] = {
            name: {score: values.tolist()[k] for score, values in scores.items()} | {"images": int(images[k])}
            for k, name in enumerate(class_names)
        }
        mean = {score: float(values.mean()) for score, values in scores.items()}
        return {
            "accuracy": self.accuracy,
            "interval_95": [float(self.interval.low), float(self.interval.high)],
            "classes": classes | {"mean": mean | {"images": float(images[images > 0].mean())}},
            "confusion": self.confusion.tolist(),
        }

    def table(self, class_names: Sequence[str]) -> list[str]:
        """The scores as lines of text, one per class and their mean; "none" for a class without images."""
        lines = [f"{'class':16s}{'precision':>10s}{'recall':>10s}{'F1':>10s}{'images':>10s}"]
        for name, row in self.as_json(class_names)["classes"].items():
            values = [row[score] for score in ("precision", "recall", "f1")]
            cells = "".join("      none" if value is None else f"{value:10.4f}" for value in values)
            lines.append(f"{name:16s}{cells}{row['images']:10,.0f}")
        return lines


def classification_report(labels: np.ndarray, answers: np.ndarray, num_classes: int) -> ClassificationReport:
    """The scores of answers [n] to images of known labels [n], at least one."""
    confusion = confusion_matrix(labels, answers, num_classes)
    right, images, answered = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    accuracy, interval = float(right.sum() / len(labels)), wilson_interval(right.sum(), len(labels))
    pairs = (right, answered), (right, images), (2 * right, images + answered)  # for precision, recall and F1
    scores = (np.ma.masked_array(counts / np.maximum(of, 1), mask=images == 0) for counts, of in pairs)
    return ClassificationReport(confusion, accuracy, interval, *scores)


def log_odds(logits: np.ndarray) -> np.ndarray:
    """How sure each answer is, log p / (1 - p) [n]: its logit less the log sum exp of the others, for logits [n, K].

    In float32 the probabilities of many answers are 1; their log odds still tell them apart.
    """
    ordered = np.sort(logits.astype(np.float64), axis=1)
    return ordered[:, -1] - special.logsumexp(ordered[:, :-1], axis=1)
