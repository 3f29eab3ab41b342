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
| logit | logit k | cov(logit, noise) / s^2 = mean gradient | evidence, not choice: `regression_images` |

Reading the result: all but "logit" are weights of a mean, mapped by `classification_images`; their z-maps say which
pixels matter. As s grows, probability:s goes over into decision.

Common mistakes: a decision map of a class with a handful of samples (take probability); reading a confident map as
that of all decisions (the filter selects, and with t below 1/K it keeps everything); a logit map divided by the sum of
logits, which may be 0 or negative. A NaN or an infinity among an image's logits (float16 overflows early) makes all its
weights NaN, which the loop reports: `argmax` would hide it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wna_jax.networks import torch_network
from wna_jax.responses.black_box import BlackBox, of_black_box, of_torch
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
    NAMES,
    OUTPUTS,
    Outputs,
    Weighting,
    check_names,
    confidence,
    confident,
    decision,
    from_name,
    logit,
    probability,
    to_logits,
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
    | a `torch.nn.Module` | `of_torch` |
    | a JAX function, `networks.Network`, a Flax NNX or Equinox module: anything that can be called | `of_classifier` |
    | a response: a `Classifier`, a `BlackBox`, `OneResponse` or `Gradient` | itself, whatever its names |

    Raises:
        InputError: it is none of these; or as `of_classifier` and `of_torch`.
    """
    if isinstance(network, Classifier | BlackBox | OneResponse | Gradient):
        return network
    check_callable(network)
    of = of_torch if torch_network.is_module(network) else of_classifier
    return of(network, names, outputs=outputs, classes=classes)


def logits_of(network: Any, images: Any) -> jax.Array:
    """The logits float32 [n, K] of any network that `of_network` takes, or of its response, for images [n, H, W, C].

    Those of JAX are compiled; of a response that keeps the sums of some classes, these are the logits of all.

    Raises:
        InputError: the response of no classifier, or as `of_network` and the network.
    """
    response = of_network(network, ["logit"])
    if isinstance(response, BlackBox):
        return to_logits(jnp.asarray(response.ask(images)), response.outputs)
    if isinstance(response, OneResponse):
        response = response.classifier
    if not isinstance(response, Classifier):
        raise InputError(f"a {type(response).__name__} has no logits: give its network")
    return compilation.call(replace(response, names=("logit",), classes=None), images)["logit"]
