"""Responses: what a network answers to noise, as the weights with which noise images are averaged.

A response is a pure function, images [n, H, W, C] -> weights [n, K], or to a pytree of such weights, so that several
responses share one pass of the network. Here are those of classifiers, built on any JAX function images -> logits
[n, K] (for fields of many windows [n, g, g, K]); of networks that are no JAX functions (`of_black_box`); and gradients
(`gradient_of`), which answer by a map instead of a weight. Those of single units are in `wna_jax.networks.units`.

| name | weight w_k of an image | its map estimates | use it |
| --- | --- | --- | --- |
| decision | 1 if k has the largest logit | mean of the noise called k, minus the mean | the paper's bias map |
| probability:s | softmax(s logits)_k, s = 1 | the same, by degrees | for all classes with few samples |
| confident:t | 1 if k wins with p > t, t = .3 | mean of the noise surely called k | the paper's filter |
| confidence | p_k if k wins, else 0 | decision map, sure answers count more | the paper's weighting |
| logit | logit k | cov(logit, noise) / s^2 = mean gradient | evidence, not choice: `regression_images` |

Reading the result: all but "logit" are weights of a mean, mapped by `classification_images`; their z-maps say which
pixels matter. As s grows, probability:s goes over into decision.

Common mistakes: a decision map of a class with a handful of samples (take probability); reading a confident map as
that of all decisions (the filter selects, and with t below 1/K it keeps everything); a logit map divided by the sum of
logits, which may be 0 or negative. A NaN or an infinity among an image's logits (float16 overflows early) makes all its
weights NaN, which the loop reports: `argmax` would hide it.
"""

import contextlib
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial, register_dataclass

from wna_jax.runs.errors import InputError, unknown_name

Images = jax.Array
Logits = jax.Array
Weights = jax.Array
Outputs = Literal["logits", "probabilities", "sigmoid", "logit"]
OUTPUTS: tuple[Outputs, ...] = ("logits", "probabilities", "sigmoid", "logit")
"""What a network may return: K logits or K probabilities per image; or one number for two classes, the probability
(sigmoid) or the logit of the second."""
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


@register_dataclass
@dataclass(frozen=True, eq=False)
class Classifier:
    """The named responses of a classifier, in one pass: images -> {name: weights [n, K]}."""

    network: Callable[[Images], jax.Array]
    names: tuple[str, ...] = field(metadata={"static": True})
    outputs: Outputs | None = field(default=None, metadata={"static": True})
    classes: tuple[int, ...] | None = field(default=None, metadata={"static": True})

    def __call__(self, images: Images) -> dict[str, Weights]:
        """Raises an InputError where the network does not return logits."""
        logits = self.network(images)
        shape = getattr(logits, "shape", None)
        if shape is None or len(shape) not in (2, 4) or shape[0] != len(images):  # 4: the windows of fields
            one = " (one number per image, of two classes: make it [n, 1], and say what it is by outputs=)"
            raise InputError(
                f"the network returned {_describe(logits)} for images {images.shape}: expected logits of shape "
                f"({len(images)}, classes){one if shape == images.shape[:1] else ''}"
            )
        if jnp.issubdtype(logits.dtype, jnp.complexfloating):
            raise InputError(f"the network returned {logits.dtype} numbers: expected real logits")
        return weigh(self.names, self.outputs, self.classes, logits)


def of_classifier(
    network: Callable[[Images], jax.Array],
    names: Sequence[str] = ("decision", "probability"),
    outputs: str | None = None,
    classes: Sequence[int] | np.ndarray | None = None,
) -> Classifier:
    """The named responses of a classifier, in one pass.

    Args:
        network: images [n, H, W, C] -> logits [n, K]; any JAX-traceable function. Where it is a pytree, such as a
            `networks.Network`, all networks of one architecture share one compiled program.
        names: as `from_name` takes them.
        outputs: what the network returns, one of `OUTPUTS`. By default logits; a run then refuses outputs that look
            like something else.
        classes: the numbers of the classes whose sums are kept, where memory does not allow for all: the network still
            decides among all K, of whose weights these are left. By default all.

    Returns:
        images -> {name: weights [n, K]}, or [n, number of classes].

    Raises:
        InputError: no such response or output (now), or logits of another shape (when the response is used).
    """
    check_names(names)
    _check_callable(network)
    return Classifier(network, tuple(names), _known_outputs(outputs), _known_classes(classes))


def weigh(
    names: Sequence[str], outputs: Outputs | None, classes: tuple[int, ...] | None, answers: jax.Array
) -> dict[str, Weights]:
    """The named responses to a network's answers: {name: weights [n, K]}, of some of the classes if they are given."""
    logits = _logits(answers, outputs)
    return {name: _of_classes(from_name(name)(logits), classes) for name in names}


def _known_classes(classes: Sequence[int] | np.ndarray | None) -> tuple[int, ...] | None:
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


@contextlib.contextmanager
def explained(shape: tuple[int, ...], expected: str) -> Iterator[None]:
    """Whatever somebody's network raises, in one line, with what was expected; the cause stays attached.

    Args:
        shape: of the images that it was asked about, [n, H, W, C].
        expected: what of it; for what JAX cannot trace, the way out is said instead.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        said = (str(error).splitlines() or [""])[0]
        if isinstance(error, jax.errors.TracerArrayConversionError | jax.errors.ConcretizationTypeError):
            said, expected = "JAX cannot trace it", "give a function of NumPy arrays to responses.of_black_box"
        raise InputError(f"the network raised {type(error).__name__} for images {shape}: {said}; {expected}") from error


def _check_callable(network: object) -> None:
    if not callable(network):
        raise InputError(
            f"a {type(network).__name__} cannot be called: expected a function of images, such as "
            "lambda images: model.predict_proba(images.reshape(len(images), -1))"
        )


def _known_outputs(outputs: str | None) -> Outputs | None:
    if outputs is not None and outputs not in OUTPUTS:
        raise unknown_name("kind of outputs", outputs, OUTPUTS)
    return outputs


def _logits(answers: jax.Array, outputs: Outputs | None) -> Logits:
    """Logits, whose softmax are the probabilities that the answers mean."""
    answers = answers.astype(jnp.float32)
    if outputs == "probabilities":
        return jnp.log(jnp.maximum(answers, _TINY))
    if outputs == "sigmoid":
        return jnp.log(jnp.maximum(jnp.concatenate([1 - answers, answers], axis=-1), _TINY))
    if outputs == "logit":
        return jnp.concatenate([0 * answers, answers], axis=-1)
    return answers


@dataclass(frozen=True, eq=False)
class BlackBox:
    """A network that JAX cannot trace, and the response built on its answers."""

    function: Callable[[np.ndarray], np.ndarray]
    """NumPy images float32 [n, H, W, C] -> answers [n, K], on the host."""
    weigh: Callable[[jax.Array], Any]
    """Answers -> weights [n, K] or a pytree of them."""
    names: tuple[str, ...] = ()
    outputs: Outputs | None = None
    classes: tuple[int, ...] | None = None

    def ask(self, images: np.ndarray) -> np.ndarray:
        """The answers float32 [n, K]; an InputError where the function returns anything else."""
        with explained(images.shape, "expected a function of NumPy images, float32 [n, H, W, C]"):
            answers = self.function(images.copy())  # its own, to work in
        try:
            answers = np.asarray(answers, np.float32)
        except (TypeError, ValueError, RuntimeError):  # the last from PyTorch, of what has a gradient
            raise InputError(
                f"the black box returned a {type(answers).__name__}: expected a NumPy array of numbers"
            ) from None
        if answers.ndim != 2 or len(answers) != len(images):
            raise InputError(
                f"the black box returned an array of shape {answers.shape} for images {images.shape}: "
                f"expected ({len(images)}, classes)"
            )
        return answers


def of_black_box(
    function: Callable[[np.ndarray], np.ndarray],
    names: Sequence[str] = ("decision", "probability"),
    outputs: str | None = None,
    classes: Sequence[int] | np.ndarray | None = None,
) -> BlackBox:
    """The named responses of a model of PyTorch, scikit-learn or a remote machine: NumPy in, NumPy out.

    Args:
        function: images float32 [n, H, W, C] -> logits [n, K], or other `outputs`.
        names: as `from_name` takes them.
        outputs: as in `of_classifier`.
        classes: as in `of_classifier`.
    """
    check_names(names)
    _check_callable(function)
    known = _known_outputs(outputs)
    some = _known_classes(classes)
    return BlackBox(function, Partial(weigh, tuple(names), known, some), tuple(names), known, some)


@register_dataclass
@dataclass(frozen=True, eq=False)
class Gradient:
    """Answers with the input gradient of each weight instead of the weight."""

    weights: Callable[[Images], Weights]


def gradient_of(weights: Callable[[Images], Weights]) -> Gradient:
    """The input gradient of a differentiable response: its mean is the response's regression map (Stein's identity).

    In Gaussian noise of deviation s, E[grad f] = cov(f, x) / s^2, so `maps.gradient_images` of this and
    `maps.regression_images` of the response itself estimate the same map, this one from far fewer samples (which cost
    about two network passes per class each). In other noise the two differ. A hard decision has no gradient: use a
    probability, as sharp as need be.

    Args:
        weights: images [n, H, W, C] -> weights [n, K], such as `of_response(network, "probability:4")`.
    """
    return Gradient(weights)


def of_response(
    network: Callable[[Images], Logits],
    name: str,
    classes: Sequence[int] | np.ndarray | None = None,
    outputs: str | None = None,
) -> "OneResponse":
    """One named response of a classifier, as `of_classifier` has it: images [n, H, W, C] -> weights [n, K]."""
    return OneResponse(of_classifier(network, [name], outputs, classes))


@register_dataclass
@dataclass(frozen=True, eq=False)
class OneResponse:
    """The only response of a classifier, by itself."""

    classifier: Classifier

    def __call__(self, images: Images) -> Weights:
        """Images [n, H, W, C] -> weights [n, K]."""
        (weights,) = self.classifier(images).values()
        return weights


def _keep_nan(weights: Weights, logits: Logits) -> Weights:
    broken = (jnp.isnan(logits) | jnp.isposinf(logits)).any(axis=-1, keepdims=True)
    broken |= jnp.isneginf(logits).all(axis=-1, keepdims=True)  # of such logits, softmax is NaN
    return jnp.where(broken, jnp.full_like(weights, jnp.nan), weights)


def _describe(value: object) -> str:
    shape = getattr(value, "shape", None)
    return f"an array of shape {shape}" if shape is not None else f"a {type(value).__name__}"
