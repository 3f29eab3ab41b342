"""Maps as images, what does a network call its own map? And maps as templates, how well do they classify images?"""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from wna_jax.errors import InputError
from wna_jax.maps import min_max

Scale = Literal["none", "length", "stretched", "match"]
_BATCH = 4096


class Feedback(NamedTuple):
    """What a network calls a map."""

    predicted: int
    """The class of the largest probability."""
    confidence: float
    """That probability."""


def feed_back(
    logits_function: Callable[[jax.Array], jax.Array], images_khwc: np.ma.MaskedArray
) -> list[Feedback | None]:
    """Stretches each map to [0, 1] and lets the network classify it (the feed-back test of arXiv 1912.12106).

    Args:
        logits_function: images [n, H, W, C] -> logits [n, K].
        images_khwc: the maps [K, H, W, C]; masked where there is none.

    Returns:
        One `Feedback` a map, None for one that is masked or constant.
    """
    stretched = min_max(np.ma.masked_array(images_khwc))
    present = ~np.ma.getmaskarray(stretched).any(axis=(1, 2, 3))
    answers: list[Feedback | None] = [None] * len(images_khwc)
    if present.any():
        images = stretched[present].filled().astype(np.float32)
        probabilities = np.asarray(jax.nn.softmax(logits_function(jnp.asarray(images))))
        for k, probability in zip(np.flatnonzero(present), probabilities, strict=True):
            answers[k] = Feedback(int(probability.argmax()), float(probability.max()))
    return answers


class Rule(NamedTuple):
    """How templates are made comparable before the largest match wins; the template itself says nothing of that."""

    centred: bool
    """The mean training image is subtracted from every image: what all images share speaks for no class."""
    scale: Scale
    """none: the templates as they are. length: each divided by its L2 norm. stretched: each to [0, 1], then divided by
    its norm. match: each match divided by its deviation over the training images, after its mean was subtracted."""


AUTHORS = Rule(centred=False, scale="stretched")
"""The cosine rule of arXiv 1912.12106; the grey to which it stretches a map's zero favours some classes over others."""
RULES = tuple(Rule(centred, scale) for scale in get_args(Scale) for centred in (False, True)[scale == "match" :])


class TemplateClassifier(NamedTuple):
    """A linear classifier made of templates: the class of the largest weights_k . x + bias_k."""

    weights: np.ndarray
    """[K, D], for images in [0, 1]."""
    bias: np.ndarray
    """[K]; minus infinity for a class without a template, which is never answered."""

    def classify(self, images_u8: np.ndarray) -> np.ndarray:
        """The class of each image, uint8 [n, H, W, C] -> int64 [n]."""
        return (_matches(self.weights, images_u8) + self.bias).argmax(axis=1)


def template_classifier(
    templates_khwc: np.ma.MaskedArray, rule: Rule, train_images_u8: np.ndarray
) -> TemplateClassifier:
    """Maps as a classifier of images (the dot-product classifier of arXiv 1912.12106), under any rule.

    An image's own length, by which the authors divide too, changes no answer.

    Args:
        templates_khwc: one for each class [K, H, W, C]; masked where there is none.
        rule: what is done to templates and matches.
        train_images_u8: [N, H, W, C], of which means are taken; labels are not needed.

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
        raise InputError("no class has a template: more noise samples, or the probability maps, give some")
    weights = np.array(templates.filled(0)).reshape(len(templates), -1)  # filled gives no copy where nothing is masked
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


def confusion_matrix(truth: np.ndarray, answers: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts [K, K]: row the true class, column the answer."""
    cells = np.bincount(truth.astype(np.int64) * num_classes + answers, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def _matches(weights_kd: np.ndarray, images_u8: np.ndarray) -> np.ndarray:
    flat = images_u8.reshape(len(images_u8), -1)
    starts = range(0, len(flat), _BATCH)
    return np.concatenate([flat[start : start + _BATCH] / 255 @ weights_kd.T for start in starts])
