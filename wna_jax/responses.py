"""Responses: what a network answers to noise, as the weights with which noise images are averaged.

A response is a pure function, images [n, H, W, C] -> weights [n, K], or to a pytree of such weights, so that several
responses share one pass of the network. Here are the responses of classifiers, built on any JAX function
images -> logits [n, K]. A NaN among an image's logits makes all its weights NaN, which the loop reports: `argmax`
would hide it.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from wna_jax.errors import InputError, unknown_name

Images = jax.Array
Logits = jax.Array
Weights = jax.Array
Response = Callable[[Logits], Weights]


def decision(logits_nk: Logits) -> Weights:
    """The hard decision: 1 for the class of the largest logit (the first of equals), 0 for the others.

    Its map is the classification image of the paper: the mean of the noise that the network calls k.
    """
    return _keep_nan(jax.nn.one_hot(logits_nk.argmax(axis=-1), logits_nk.shape[-1], dtype=logits_nk.dtype), logits_nk)


def probability(logits_nk: Logits) -> Weights:
    """The class probability, softmax of the logits: every image counts for every class, as much as the network says.

    Reaches a given reliability with far fewer samples than `decision`, most of all for classes that are rarely chosen.
    """
    return _keep_nan(jax.nn.softmax(logits_nk), logits_nk)


_REGISTRY: dict[str, Response] = {"decision": decision, "probability": probability}
NAMES = tuple(_REGISTRY)


def of_classifier(
    logits_function: Callable[[Images], Logits], names: Sequence[str] = NAMES
) -> Callable[[Images], dict[str, Weights]]:
    """The named responses of a classifier, in one pass.

    Args:
        logits_function: images [n, H, W, C] -> logits [n, K]; any JAX-traceable function.
        names: from `NAMES`.

    Returns:
        images -> {name: weights [n, K]}.

    Raises:
        InputError: no such response (now), or logits of another shape (when the response is used).
    """
    check_names(names)

    def respond(images: Images) -> dict[str, Weights]:
        logits_nk = logits_function(images)
        shape = getattr(logits_nk, "shape", None)
        if shape is None or len(shape) not in (2, 4) or shape[0] != len(images):  # 4: the windows of fields
            raise InputError(
                f"the network returned {_describe(logits_nk)} for images {images.shape}: "
                f"expected logits of shape ({len(images)}, classes)"
            )
        return {name: _REGISTRY[name](logits_nk) for name in names}

    return respond


def check_names(names: Sequence[str]) -> None:
    """Raises an InputError if there is no name, or one that is not in `NAMES`."""
    if not names:
        raise InputError(f"no response given: choose from {', '.join(NAMES)}")
    for name in names:
        if name not in _REGISTRY:
            raise unknown_name("response", name, NAMES)


def _keep_nan(weights_nk: Weights, logits_nk: Logits) -> Weights:
    broken = jnp.isnan(logits_nk).any(axis=-1, keepdims=True)
    return jnp.where(broken, jnp.full_like(weights_nk, jnp.nan), weights_nk)


def _describe(value: object) -> str:
    shape = getattr(value, "shape", None)
    return f"an array of shape {shape}" if shape is not None else f"a {type(value).__name__}"
