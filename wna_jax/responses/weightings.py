"""From a network's answers to the weights of its responses: decisions, probabilities, logits, by their names."""

import operator
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from wna_jax.runs.errors import InputError, unknown_name

Images = jax.Array
Logits = jax.Array
Weights = jax.Array
Outputs = Literal["logits", "probabilities", "sigmoid", "logit", "labels", "label_logits", "value"]
OUTPUTS: tuple[Outputs, ...] = ("logits", "probabilities", "sigmoid", "logit", "labels", "label_logits", "value")
"""What a network may return: K logits or K probabilities per image; one number for two classes, the probability
(sigmoid) or the logit of the second; the probabilities or logits of K labels, of which an image may have any number;
or K real numbers of another meaning, as of a regression."""
LABELS: tuple[Outputs, ...] = ("labels", "label_logits")
_TINY = 1e-30
Weighting = Callable[[Logits], Weights]
"""Such as `decision`: from a classifier's logits to the weights of its responses."""


def decision(logits: Logits) -> Weights:
    """The hard decision: 1 for the class of the largest logit (the first of equals), 0 for the others."""
    return _keep_nan(jax.nn.one_hot(logits.argmax(axis=-1), logits.shape[-1], dtype=logits.dtype), logits)


def probability(logits: Logits, sharpness: float = 1.0) -> Weights:
    """The class probability, softmax(sharpness x logits): every image counts for every class, as the network says."""
    return _keep_nan(jax.nn.softmax(sharpness * logits), logits)


def confident(logits: Logits, threshold: float = 0.3) -> Weights:
    """The decision where its probability is above `threshold`, else 0 for all classes."""
    chosen = decision(logits)
    return jnp.where(jax.nn.softmax(logits) <= threshold, 0 * chosen, chosen)


def confidence(logits: Logits) -> Weights:
    """The decision weighted by its probability."""
    return decision(logits) * jax.nn.softmax(logits)


def logit(logits: Logits) -> Weights:
    """The logits themselves: graded evidence of either sign, to be mapped by `maps.regression_images`."""
    return logits


_REGISTRY: dict[str, Callable[..., Weights]] = {
    "decision": decision,
    "probability": probability,
    "confident": confident,
    "confidence": confidence,
    "logit": logit,
    "value": logit,
}
NAMES = tuple(_REGISTRY)
_RANGES = {"probability": (0.0, np.inf), "confident": (0.0, 1.0)}
"""The responses that take a number, and what lies strictly between."""


def from_name(text: str) -> Weighting:
    """The response that a text names: one of `NAMES`, with its number as in "probability:4" or "confident:0.9".

    Raises:
        InputError: no such response, or a number that it does not take.
    """
    name, _, number = text.partition(":")
    if name not in _REGISTRY:
        raise unknown_name("response", text, NAMES)
    if ":" not in text:
        return _REGISTRY[name]
    if name not in _RANGES:
        raise InputError(f"response {text!r}: {name} takes no number, write {name}")
    low, high = _RANGES[name]
    try:
        value = float(number)
    except ValueError:
        value = np.nan
    if not low < value < high:
        raise InputError(f"response {text!r}: expected a number between {low:g} and {high:g}, such as {name}:0.9")
    return Partial(_with_number, name, value)


def _with_number(name: str, number: float, logits: Logits) -> Weights:
    return _REGISTRY[name](logits, number)


def check_names(names: Sequence[str]) -> None:
    """Raises an InputError if there is no name, or one that `from_name` does not know."""
    if not names:
        raise InputError(f"no response given: choose from {', '.join(NAMES)}")
    for name in names:
        from_name(name)


def weigh(
    names: Sequence[str], outputs: Outputs | None, classes: tuple[int, ...] | None, answers: jax.Array
) -> dict[str, Weights]:
    """The named responses to a network's answers: {name: weights [n, K]}, of some of the classes if they are given."""
    logits = to_logits(answers, outputs)
    if outputs in LABELS:  # each is a choice between two classes, of which the first has the logit 0
        logits = jnp.stack([0 * logits, logits], axis=-1)
    weights = {name: from_name(name)(logits) for name in names}
    if outputs in LABELS:
        weights = {name: each[..., 1] for name, each in weights.items()}
    return {name: _of_classes(each, classes) for name, each in weights.items()}


def check_meaning(names: Sequence[str], outputs: Outputs | None) -> None:
    """Raises an InputError of responses that outputs do not have."""
    of_values = set(names) <= {"value"}
    if (outputs == "value") != of_values and (outputs == "value" or "value" in names):
        given = ", ".join(names)
        raise InputError(
            f"outputs is {outputs or 'logits'!r}, and the responses are {given}: outputs='value' has the response "
            "value alone, and other outputs have it not"
        )


def known_classes(classes: Sequence[int] | np.ndarray | None) -> tuple[int, ...] | None:
    """The numbers of classes as Python's; an InputError if they are none, or one is given twice."""
    if classes is None:
        return None
    try:
        known = tuple(-1 if isinstance(k, bool | np.bool_) else operator.index(k) for k in classes)
    except TypeError:
        known = ()
    if not known or len(set(known)) < len(known) or min(known) < 0:
        raise InputError(f"classes are {classes!r}: expected their numbers from 0 on, each once, such as [3, 8]")
    return known


def _of_classes(weights: Weights, classes: tuple[int, ...] | None) -> Weights:
    if classes is None:
        return weights
    if max(classes) >= weights.shape[-1]:
        raise InputError(f"class {max(classes)} of a network with {weights.shape[-1]} classes: they count from 0")
    return weights[..., np.array(classes)]


def known_outputs(outputs: str | None) -> Outputs | None:
    """One of `OUTPUTS`, or None; an InputError of anything else."""
    if outputs is not None and outputs not in OUTPUTS:
        raise unknown_name("kind of outputs", outputs, OUTPUTS)
    return outputs


def to_logits(answers: jax.Array, outputs: Outputs | None) -> Logits:
    """Logits, whose softmax are the probabilities that the answers mean."""
    answers = answers.astype(jnp.float32)
    if outputs == "probabilities":
        return jnp.log(jnp.maximum(answers, _TINY))
    if outputs == "sigmoid":
        return jnp.log(jnp.maximum(jnp.concatenate([1 - answers, answers], axis=-1), _TINY))
    if outputs == "labels":
        return jnp.log(jnp.maximum(answers, _TINY)) - jnp.log(jnp.maximum(1 - answers, _TINY))
    if outputs == "logit":
        return jnp.concatenate([0 * answers, answers], axis=-1)
    return answers


def _keep_nan(weights: Weights, logits: Logits) -> Weights:
    broken = (jnp.isnan(logits) | jnp.isposinf(logits)).any(axis=-1, keepdims=True)
    broken |= jnp.isneginf(logits).all(axis=-1, keepdims=True)  # of such logits, softmax is NaN
    return jnp.where(broken, jnp.full_like(weights, jnp.nan), weights)
