"""Interventions: what is done to a network's images to see how its answers change, each with one strength.

A picture in noise (`embedded`), a pattern mixed into images (`MIXES`), a step along the loss gradient (`fgsm`), a
patch (`stamp`, `poison`). `hits` counts the answers as a function of the strength.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wna_jax.data import Split
from wna_jax.errors import InputError
from wna_jax.noise import Noise
from wna_jax.progress import Progress, Report, silent

LogitsFunction = Callable[[jax.Array], jax.Array]
"""Images [n, H, W, C] -> logits [n, K]."""
Change = Callable[[Any, jax.Array], Any]
"""A batch of inputs and a strength -> what the network is shown, as a rule images [n, H, W, C]."""
_BATCH = 500


def hits(
    logits_function: Callable[[Any], jax.Array],
    change: Change,
    strengths: Sequence[float],
    inputs: Any,
    wanted: np.ndarray,
    report: Report = silent,
) -> np.ndarray:
    """How many images get the answer that is wanted of them, at each strength of a change.

    Args:
        logits_function: the network, or several states of one: what `change` gives -> logits [n, K] or [states, n, K].
        change: what is done to the inputs; compiled once for the same function.
        strengths: S numbers.
        inputs: an array [N, ...], or a pytree of such.
        wanted: the class counted as a hit for each image, int [N]: its label for an accuracy, a target for an attack.
        report: progress, in images shown.

    Returns:
        Counts int64 [S] or [S, states].
    """
    hits_of = _make_hits(logits_function, change)
    counts: Any = 0
    for start in range(0, len(wanted), _BATCH):
        batch = jax.tree.map(lambda array, start=start: array[start : start + _BATCH], (inputs, wanted))
        of_batch = [np.asarray(hits_of(batch[0], batch[1], np.float32(strength)), np.int64) for strength in strengths]
        counts = counts + np.stack(of_batch)
        done = min(start + _BATCH, len(wanted))
        report(Progress("answers", done * len(strengths), len(wanted) * len(strengths), "images"))
    return counts


@functools.lru_cache(maxsize=4)  # so that other images do not compile again
def _make_hits(logits_function: Callable[[Any], jax.Array], change: Change) -> Callable[..., jax.Array]:
    def hits_of(inputs: Any, wanted: jax.Array, strength: jax.Array) -> jax.Array:
        answers = logits_function(change(inputs, strength)).argmax(axis=-1)
        return jnp.sum(answers == jnp.broadcast_to(wanted, answers.shape), axis=-1)

    return jax.jit(hits_of)


def embedded(noise: Noise, signals_nhwc: np.ndarray, weight: float) -> Noise:
    """A picture in the noise: the network is shown t = weight s + (1 - weight) z, s any of the signals.

    What is drawn, and so averaged, is both: z in the first C channels and t in the last C.

    Args:
        noise: the distribution of z.
        signals_nhwc: the pictures [N, H, W, C] in [0, 1], drawn with equal chances.
        weight: of the picture, the paper's gamma.

    Raises:
        InputError: a weight outside 0 to 1.
    """
    if not 0 <= weight <= 1:
        raise InputError(
            f"the signal's weight is {weight:g}: expected a number from 0 (noise alone) to 1 (signal alone)"
        )
    signals = np.asarray(signals_nhwc, np.float32)
    height, width, channels = noise.shape

    def sample(key: jax.Array) -> jax.Array:
        noise_key, choice = jax.random.split(key)
        z = noise.sample(noise_key)
        s = jnp.asarray(signals)[jax.random.randint(choice, (), 0, len(signals))]
        return jnp.concatenate([z, weight * s + (1 - weight) * z], axis=-1)

    of_noise = [np.broadcast_to(value, noise.shape) for value in (noise.mean, noise.deviation)]
    mean = weight * signals.mean(axis=0, dtype=np.float64) + (1 - weight) * of_noise[0]
    deviation = np.hypot(weight * signals.std(axis=0, dtype=np.float64), (1 - weight) * of_noise[1])
    return Noise(
        f"{noise.name} with a signal of weight {weight:g}",
        (height, width, 2 * channels),
        np.concatenate([of_noise[0], mean], axis=-1),
        np.concatenate([of_noise[1], deviation], axis=-1),
        sample,
        white=False,
        present=lambda key, drawn: drawn[..., channels:],
    )


def blend(images: jax.Array, pattern: jax.Array, weight: jax.Array) -> jax.Array:
    """(1 - weight) images + weight pattern, the paper's attack."""
    return (1 - weight) * images + weight * jnp.broadcast_to(pattern, images.shape)


def add(images: jax.Array, pattern: jax.Array, weight: jax.Array) -> jax.Array:
    """images + weight pattern, clipped to [0, 1]."""
    return jnp.clip(images + weight * jnp.broadcast_to(pattern, images.shape), 0, 1)


def multiply(images: jax.Array, pattern: jax.Array, weight: jax.Array) -> jax.Array:
    """images (1 + weight pattern), clipped to [0, 1]: brightens an image where the pattern is bright."""
    return jnp.clip(images * (1 + weight * jnp.broadcast_to(pattern, images.shape)), 0, 1)


MIXES: dict[str, Callable[[jax.Array, jax.Array, jax.Array], jax.Array]] = {
    "blend": blend,
    "add": add,
    "multiply": multiply,
}
"""Images [n, H, W, C], a pattern that broadcasts to them, and its weight -> images."""


def loss_gradient(logits_function: LogitsFunction, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Input gradient of each image's cross-entropy, [n, H, W, C].

    The loss is written softplus(m), m = log sum over the other classes of exp(logit) - logit of the label. It is the
    same function, but for a network that is sure of its answer the usual form rounds 1 - p to 0 and its gradient is
    lost or points elsewhere (gradient masking).
    """

    def loss(images: jax.Array) -> jax.Array:
        logits = logits_function(images)
        own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
        others = jax.nn.logsumexp(jnp.where(own, -jnp.inf, logits), axis=-1)
        return jax.nn.softplus(others - jnp.where(own, logits, 0).sum(axis=-1)).sum()

    return jax.grad(loss)(images)


def fgsm(logits_function: LogitsFunction, images: jax.Array, labels: jax.Array, epsilon: jax.Array) -> jax.Array:
    """The fast gradient sign method: images + epsilon sign(loss gradient), clipped to [0, 1] (arXiv 1412.6572)."""
    step = jnp.sign(loss_gradient(logits_function, images, labels))
    return jnp.clip(images + epsilon * step, 0, 1)


def c_patch(image_shape: tuple[int, ...], size: int = 6, top: int = 1, left: int = 21) -> np.ndarray:
    """Where the letter C of size x size pixels lies in an image, bool [H, W]; its stroke is a third of it.

    Raises:
        InputError: a size below 3, or a letter that does not lie inside the image.
    """
    height, width = image_shape[:2]
    if size < 3 or min(top, left) < 0 or top + size > height or left + size > width:
        raise InputError(
            f"a patch of size {size} at row {top}, column {left} of images of {height}x{width} pixels: expected a size "
            f"of at least 3, and rows and columns so that all of it lies inside"
        )
    patch = np.zeros((height, width), bool)
    stroke = size // 3
    patch[top : top + size, left : left + size] = True
    patch[top + stroke : top + size - stroke, left + stroke : left + size] = False
    return patch


def stamp(images_u8: np.ndarray, patch_hw: np.ndarray) -> np.ndarray:
    """uint8 images [n, H, W, C] with white pixels where the patch is."""
    return np.where(patch_hw[:, :, None], np.uint8(255), images_u8)


def poison(split: Split, patch_hw: np.ndarray, source: int, target: int, count: int) -> Split:
    """A backdoor's training data: the first `count` images of class `source` get the patch and the label `target`.

    Raises:
        InputError: source and target are one class, or the class has fewer images.
    """
    members = np.flatnonzero(split.labels == source)
    if source == target:
        raise InputError(f"a backdoor from class {source} to itself: give two classes")
    if not 1 <= count <= len(members):
        raise InputError(
            f"{count:,} images of class {source} to be poisoned: expected 1 to {len(members):,}, all that there are"
        )
    images, labels = split.images.copy(), split.labels.copy()
    images[members[:count]] = stamp(images[members[:count]], patch_hw)
    labels[members[:count]] = target
    return Split(images, labels)
