"""Regimes of training: what happens to each batch of training images before the step, by name.

| name | what a network is trained on |
| --- | --- |
| plain | the images as they are, or with the usual augmentation of the data set |
| noise:S | independent noise N(0, S) in every pixel, drawn anew each time, clipped to [0, 1] |
| blur:S | images blurred by a Gaussian of deviation S pixels |
| shift_rotation | any augmentation of `augmentation`, or several |
| adversarial:E | images after one step of size E up the loss of the network as it is then, from a random start |

Several joined by "_", such as shift_noise:0.1, are applied together, the adversarial step last. Numbers are in pixel
intensity (black 0, white 1), but for a blur in pixels. Validation and test images are always as they are.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from wna_jax.networks import augmentation
from wna_jax.networks.augmentation import Transform, augmenter, strength
from wna_jax.runs.errors import InputError, unknown_name

LogitsFunction = Callable[[jax.Array], jax.Array]
"""Images [n, H, W, C] -> logits [n, K]."""
PLAIN = "plain"
_STEP = 1.25  # of epsilon, as in the paper: a step of epsilon from a random start would seldom reach the border


class Regime(NamedTuple):
    """How each image is changed, or None, and the size of the adversarial step, or None."""

    augment: Transform | None
    epsilon: float | None


def of_text(text: str | None) -> Regime:
    """The regime that a text names: one of the table, or several joined by "_"; None is none.

    Raises:
        InputError: an unknown name, or a number that it does not take.
    """
    if text is None:
        return Regime(None, None)
    if "," in text:
        raise InputError(f"training with {text!r}: join several by _, as in {text.replace(',', '_')}")
    parts = text.split("_")
    steps = [part for part in parts if part.partition(":")[0] == "adversarial"]
    others = [part for part in parts if part not in steps]
    for name in (part.partition(":")[0] for part in others):
        if name not in augmentation.ALL:
            raise unknown_name("augmentation", name, (*augmentation.LISTED, "adversarial:EPSILON"))
    if len(steps) > 1:
        raise InputError(f"training with {text!r}: expected one adversarial step, such as adversarial:0.1")
    return Regime(augmenter("_".join(others)) if others else None, strength(steps[0], 1.0) if steps else None)


def adversarial(
    logits_function: LogitsFunction, key: jax.Array, images: jax.Array, labels: jax.Array, epsilon: float
) -> jax.Array:
    """One fast gradient step from a random start (Wong, Rice & Kolter 2020, arXiv 2001.03994).

    x_0 = clip(x + U(-epsilon, epsilon)), then x_0 + 1.25 epsilon sign(gradient of the loss at x_0), clipped to within
    epsilon of x and to [0, 1]. The random start keeps a network from learning to mask its gradient at x alone, which
    training on steps from x itself does.

    Args:
        logits_function: the network as it is; no gradient flows through the step.
        key: of the random start.
        images: [n, H, W, C] in [0, 1].
        labels: their classes [n].
        epsilon: the largest change of a pixel, in pixel intensity.
    """
    start = jnp.clip(images + jax.random.uniform(key, images.shape, minval=-epsilon, maxval=epsilon), 0, 1)
    stepped = start + _STEP * epsilon * jnp.sign(loss_gradient(logits_function, start, labels))
    return jax.lax.stop_gradient(jnp.clip(jnp.clip(stepped, images - epsilon, images + epsilon), 0, 1))


def loss_gradient(logits_function: LogitsFunction, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Input gradient of each image's cross-entropy, [n, H, W, C].

    The loss is written softplus(m), m = log sum over the other classes of exp(logit) - logit of the label. This is the
    same function, but the usual form rounds 1 - p to 0 for a network that is sure of its answer, and its gradient
    vanishes or points elsewhere (gradient masking).
    """

    def loss(images: jax.Array) -> jax.Array:
        logits = logits_function(images)
        own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
        others = jax.nn.logsumexp(jnp.where(own, -jnp.inf, logits), axis=-1)
        return jax.nn.softplus(others - jnp.where(own, logits, 0).sum(axis=-1)).sum()

    return jax.grad(loss)(images)
