"""What a network calls its own maps, and how well maps classify images when they are used as templates."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from wna_jax import responses
from wna_jax.data import Dataset
from wna_jax.maps import min_max
from wna_jax.noise import Noise
from wna_jax.runs.accumulate import map_over
from wna_jax.runs.errors import InputError
from wna_jax.statistics.classification import ClassificationReport, classification_report

Scale = Literal["none", "length", "stretched", "match"]
_BATCH = 4096


class Feedback(NamedTuple):
    """What a network calls an image, such as a map: the class of the largest probability, and that probability."""

    predicted: int
    confidence: float

    def text(self, class_names: Sequence[str]) -> str:
        """The answer for a figure: the class and the confidence."""
        return f"{class_names[self.predicted]} {self.confidence:.2f}"

    def caption(self, k: int, class_names: Sequence[str]) -> str:
        """The answer to the map of class k for a figure, marked as right or wrong."""
        return f"{'✓' if self.predicted == k else '✗'} {self.text(class_names)}"


def feed_back(
    network: Any, images_khwc: np.ma.MaskedArray, *, noise: Noise | None = None, stretch: bool = True
) -> list[Feedback | None]:
    """Lets the network classify each map, stretched to [0, 1] (the feed-back test of arXiv 1912.12106).

    The network is one that `responses.of_network` takes, or its response. Without `stretch` it is shown the maps as
    they are, for what is an image already. Maps in a `noise` are shown as its draws are, those in coarse noise in its
    squares. The answer is None for a map that is masked, or constant where it is to be stretched.
    """
    shown = min_max(np.ma.masked_array(images_khwc)) if stretch else np.ma.masked_array(images_khwc)
    present = ~np.ma.getmaskarray(shown).any(axis=(1, 2, 3))
    answers: list[Feedback | None] = [None] * len(shown)
    if present.any():
        images = shown[present].filled().astype(np.float32)
        probabilities = responses.probabilities_of(network, images if noise is None else noise.shown(images))
        for k, probability in zip(np.flatnonzero(present), np.asarray(probabilities), strict=True):
            answers[k] = Feedback(int(probability.argmax()), float(probability.max()))
    return answers


def captions(answers: Sequence[Feedback | None], class_names: Sequence[str], without: str = "empty") -> list[str]:
    """The answers to the maps of all classes for a figure; `without` is said of a class that has no map."""
    return [without if answer is None else answer.caption(k, class_names) for k, answer in enumerate(answers)]


def as_json(answers: Sequence[Feedback | None], classes: Sequence[int] | None = None) -> list[dict[str, Any] | None]:
    """The answers to the maps of some classes, or all, as JSON values; None for a class that has no map."""
    own = range(len(answers)) if classes is None else classes
    pairs = zip(own, answers, strict=True)
    return [answer and answer._asdict() | {"correct": answer.predicted == k} for k, answer in pairs]


def called_right(answers: Sequence[Feedback | None], classes: Sequence[int] | None = None) -> tuple[int, int]:
    """How many maps of some classes, or all, are called by their own class, and how many maps there are."""
    right = [answer["correct"] for answer in as_json(answers, classes) if answer]
    return sum(right), len(right)


class Rule(NamedTuple):
    """How templates are made comparable before the largest match wins; the templates themselves do not say.

    If `centred`, the mean training image is subtracted from every image: what all images share is evidence for no
    class. Scales are none: the templates as they are; length: each divided by its L2 norm; stretched: each stretched to
    [0, 1], then divided by its norm; match: each match standardised by its mean and deviation over the training images.
    """

    centred: bool
    scale: Scale


AUTHORS = Rule(centred=False, scale="stretched")
"""The cosine rule of arXiv 1912.12106; the grey that a map's zero becomes favours some classes over others."""
RULES = tuple(Rule(centred, scale) for scale in get_args(Scale) for centred in (False, True)[scale == "match" :])


class TemplateClassifier(NamedTuple):
    """A linear classifier made of templates: the class of the largest weights_k . x + bias_k, for x [D] in [0, 1].

    A class without a template, which is never answered, has a bias of minus infinity.
    """

    weights: np.ndarray
    bias: np.ndarray

    def classify(self, images_u8: np.ndarray) -> np.ndarray:
        """The class of each image, uint8 [n, H, W, C] -> int64 [n]."""
        return (_matches(self.weights, images_u8) + self.bias).argmax(axis=1)


def template_classifier(
    templates_khwc: np.ma.MaskedArray, rule: Rule, train_images_u8: np.ndarray
) -> TemplateClassifier:
    """Maps as a classifier of images (the dot-product classifier of arXiv 1912.12106), under any rule.

    The authors also divide by the length of the image, which changes no answer. A class without a template is masked.
    Of the training images [N, H, W, C] means are taken; labels are not needed.

    Raises:
        InputError: no template, or templates of another shape than the images.
    """
    templates = np.ma.masked_array(templates_khwc, dtype=np.float64)
    if templates.shape[1:] != train_images_u8.shape[1:]:
        raise InputError(f"templates {templates.shape[1:]} for images {train_images_u8.shape[1:]}: expected one shape")
    if rule.scale == "stretched":
        templates = min_max(templates)
    absent = np.ma.getmaskarray(templates).all(axis=(1, 2, 3))
    if absent.all():
        raise InputError("no class has a template: draw more noise samples, or use the probability maps")
    weights = np.array(templates.filled(0)).reshape(len(templates), -1)  # filled does not copy where nothing is masked
    if rule.scale in ("length", "stretched"):
        weights /= np.maximum(np.linalg.norm(weights, axis=1, keepdims=True), 1e-300)
    bias = np.zeros(len(weights))
    if rule.scale == "match":
        matches = _matches(weights, train_images_u8)
        deviation = np.where(absent, 1, matches.std(axis=0))
        weights /= deviation[:, None]
        bias = -matches.mean(axis=0) / deviation
    elif rule.centred:
        bias = -weights @ (train_images_u8.reshape(len(train_images_u8), -1).mean(axis=0) / 255)
    return TemplateClassifier(weights, np.where(absent, -np.inf, bias))


class Choice(NamedTuple):
    """The rule that the validation images chose for some templates."""

    rule: Rule
    classifier: TemplateClassifier
    validation_accuracy: float


def choose_rule(templates_khwc: np.ma.MaskedArray, dataset: Dataset) -> Choice:
    """The rule by which templates classify the most validation images correctly (the first of equals).

    The rule matters as much as the templates do. It must not be chosen on the test images.
    Raises InputError as `template_classifier` does.
    """
    images, labels = dataset.validation

    def tried(rule: Rule) -> Choice:
        classifier = template_classifier(templates_khwc, rule, dataset.train.images)
        return Choice(rule, classifier, float(np.mean(classifier.classify(images) == labels)))

    return max(map(tried, RULES), key=lambda choice: choice.validation_accuracy)


class Trial(NamedTuple):
    """How well templates classify the test images, by the chosen rule and by `AUTHORS`; classes [K] without one."""

    choice: Choice
    test: ClassificationReport
    authors_accuracy: float
    absent: np.ndarray

    def as_json(self, class_names: Sequence[str]) -> dict[str, Any]:
        """The trial as JSON values."""
        return {
            "rule": self.choice.rule._asdict(),
            "validation_accuracy": self.choice.validation_accuracy,
            "test_accuracy": self.test.accuracy,
            "interval_95": [float(self.test.interval.low), float(self.test.interval.high)],
            "authors_rule_test_accuracy": self.authors_accuracy,
            "confusion": self.test.confusion.tolist(),
            "classes_without_template": [name for name, absent in zip(class_names, self.absent, strict=True) if absent],
        }


def try_on_test_images(templates_khwc: np.ma.MaskedArray, dataset: Dataset) -> Trial:
    """Chooses the rule on the validation images, and classifies the test images by it.

    Raises InputError as `template_classifier` does.
    """
    images, labels = dataset.test
    choice = choose_rule(templates_khwc, dataset)
    report = classification_report(labels, choice.classifier.classify(images), dataset.num_classes)
    authors = template_classifier(templates_khwc, AUTHORS, dataset.train.images)
    authors_accuracy = float(np.mean(authors.classify(images) == labels))
    return Trial(choice, report, authors_accuracy, templates_khwc.count(axis=(1, 2, 3)) == 0)


def _matches(weights_kd: np.ndarray, images_u8: np.ndarray) -> np.ndarray:
    flat = images_u8.reshape(len(images_u8), -1)
    return map_over(lambda batch: batch / 255 @ weights_kd.T, (flat,), _BATCH)
