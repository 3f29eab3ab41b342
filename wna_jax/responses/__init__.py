"""Responses: what a network answers to noise, as the weights with which noise images are averaged.

A response is a pure function, images [n, H, W, C] -> weights [n, K], or to a pytree of such weights, so that several
responses share one pass of the network. Here are those of classifiers, built on any JAX function images -> logits
[n, K] (for fields of many windows [n, g, g, K]); of networks that are no JAX functions (`of_torch`, `of_black_box`);
and gradients (`gradient_of`), which answer by a map instead of a weight. `of_network` takes any of these networks.
Those of single units are in `wna_jax.networks.units`.

| name | weight w_k of an image | its map estimates | use it |
| --- | --- | --- | --- |
| decision | 1 if k has the largest logit | mean of the noise called k, minus the mean | the paper's bias map |
| probability:s | softmax(s logits)_k, s = 1 | the same, by degrees | for all classes with few samples |
| confident:t | 1 if k wins with p > t, t = .3 | mean of the noise surely called k | the paper's filter |
| confidence | p_k if k wins, else 0 | decision map, sure answers count more | the paper's weighting |
| logit, value | logit k, value k | cov(w, noise) / s^2 = mean gradient | evidence, not choice: `regression_images` |

What a network returns (`outputs`) decides what the names mean:

| outputs | answers | decision and probability |
| --- | --- | --- |
| logits (the default), probabilities | [n, K], one class per image | of the class |
| sigmoid, logit | [n, 1], of the second of two classes | of each of both classes |
| labels, label_logits | [n, K] of labels, any number of them per image | of each label by itself: p > 1/2 |
| value | [n, K] real numbers, as of a regression | none: the only response is "value", w_k = answer k |

Reading the result: all but "logit" are weights of a mean, mapped by `classification_images`; their z-maps say which
pixels matter. As s grows, probability:s goes over into decision.

Common mistakes: a decision map of a class with a handful of samples (take probability); reading a confident map as
that of all decisions (the filter selects, and with t below 1/K it keeps everything); a logit map divided by the sum of
logits, which may be 0 or negative. A NaN or an infinity among an image's logits (float16 overflows early) makes all its
weights NaN, which the loop reports: `argmax` would hide it.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

from wna_jax.networks import torch_network
from wna_jax.networks.foreign import Foreign, PerImage, is_equinox
from wna_jax.responses.black_box import Asked, BlackBox, of_black_box, of_torch, on_host
from wna_jax.responses.classifier import (
    Classifier,
    Gradient,
    OneResponse,
    check_callable,
    explained,
    gradient_of,
    of_classifier,
    of_response,
)
from wna_jax.responses.weightings import (
    LABELS,
    NAMES,
    OUTPUTS,
    Images,
    Logits,
    Outputs,
    Weighting,
    check_names,
    confidence,
    confident,
    decision,
    from_name,
    logit,
    probability,
    weigh,
)
from wna_jax.runs import compilation
from wna_jax.runs.errors import InputError

__all__ = [
    "NAMES",
    "OUTPUTS",
    "BlackBox",
    "Classifier",
    "Gradient",
    "OneResponse",
    "Outputs",
    "Weighting",
    "as_logits",
    "check_names",
    "confidence",
    "confident",
    "decision",
    "explained",
    "from_name",
    "gradient_of",
    "logit",
    "logits_of",
    "of_black_box",
    "of_classifier",
    "of_network",
    "of_response",
    "of_torch",
    "on_host",
    "probabilities_of",
    "probability",
    "weigh",
]


def of_network(
    network: Any,
    names: Sequence[str] = ("decision", "probability"),
    *,
    outputs: str | None = None,
    classes: Sequence[int] | np.ndarray | None = None,
) -> Any:
    """The named responses of any network that this package takes.

    | network | response |
    | --- | --- |
    | a JAX function, `networks.Network`, a Flax NNX module, all that is called with [n, H, W, C] | `of_classifier` |
    | an Equinox module, which takes one image [C, H, W] | `of_classifier` of `networks.PerImage` |
    | a `torch.nn.Module`, which takes images [n, C, H, W] | `of_torch` |
    | a `networks.Foreign`: one of these, and what it returns | as that |
    | a response: a `Classifier`, a `BlackBox`, `OneResponse` or `Gradient` | itself, whatever its names |

    Raises:
        InputError: it is none of these, or a response of other outputs than are said; or as `of_classifier` and
            `of_torch`.
    """
    if isinstance(network, Foreign):
        network, outputs = network.network, network.outputs if outputs is None else outputs
    if isinstance(network, Classifier | BlackBox | OneResponse | Gradient):
        own = getattr(getattr(network, "classifier", network), "outputs", None)
        if outputs not in (None, own):
            raise InputError(
                f"outputs is {outputs!r}, and the response that is given has its own, {own or 'logits'}: say outputs= "
                "where the response is made, such as in of_black_box"
            )
        return network
    check_callable(network)
    if torch_network.is_module(network):
        return of_torch(network, names, outputs=outputs, classes=classes)
    return of_classifier(PerImage(network) if is_equinox(network) else network, names, outputs, classes)


def warn_near_chance(said: str, accuracy: float, num_classes: int) -> None:
    """Warns of a network whose accuracy is at most a tenth of the way from chance to 1; `said` is what was counted."""
    chance = 1 / num_classes
    if accuracy <= chance + (1 - chance) / 10:
        why = "images are given in [0, 1], black to white; was the network trained on others (0 to 255, normalised)"
        why += ", or with its classes in another order?"
        warnings.warn(f"{said}, hardly more than chance: {why}", stacklevel=4)


def as_logits(network: Any, outputs: str | None = None) -> Callable[[Images], Logits]:
    """Any network that `of_network` takes, or its response, as a function: images [n, H, W, C] -> logits [n, K].

    One that JAX can trace remains that, a pytree with its parameters; any other is on the host
    (`runs.compilation.OnHost`). Of labels these are their logits, and of a response that keeps the sums of some classes
    the logits of all.

    Raises:
        InputError: the response of no classifier, or as `of_network`.
    """
    if "value" in (outputs, network.outputs if isinstance(network, Foreign) else None):
        raise InputError("outputs is 'value': a regression has no logits, and its maps are made by wna_jax.analyse")
    response = of_network(network, ["logit"], outputs=outputs)
    if isinstance(response, OneResponse):
        response = response.classifier
    if isinstance(response, BlackBox):
        response = Classifier(Asked(response), ("logit",), response.outputs)
    if not isinstance(response, Classifier):
        raise InputError(f"a {type(response).__name__} has no logits: give its network")
    return Partial(_logits, replace(response, names=("logit",), classes=None))


def _logits(classifier: Classifier, images: Any) -> Logits:
    return classifier(images)["logit"]


def logits_of(network: Any, images: Any) -> jax.Array:
    """The logits float32 [n, K] of a network, or of its response, for images [n, H, W, C]; see `as_logits`."""
    return compilation.call(as_logits(network), images)


def probabilities_of(network: Any, images: Any) -> jax.Array:
    """The probabilities [n, K] of a network, or of its response, for images [n, H, W, C]: of labels each one's own."""
    response = of_network(network, ["logit"])
    outputs = (response.classifier if isinstance(response, OneResponse) else response).outputs
    of_labels: Outputs | None = "label_logits" if outputs in LABELS else None
    return weigh(("probability",), of_labels, None, logits_of(response, images))["probability"]
