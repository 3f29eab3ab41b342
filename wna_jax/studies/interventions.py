"""Interventions: change a network's images, by a given strength, and count how its answers change.

A picture in noise (`embedded`), a pattern mixed into images (`MIXES`), a step along the loss gradient (`fgsm`), a
patch (`stamp`, `poison`). `hits` counts the answers as a function of the strength.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Bool, Float, Int, UInt8

from wna_jax.data import Split
from wna_jax.networks.regimes import LogitsFunction, loss_gradient
from wna_jax.noise import Noise
from wna_jax.runs import compilation
from wna_jax.runs.accumulate import in_batches, sum_over
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Progress, Report, silent

Change = Callable[[Any, jax.Array], Any]
"""A batch of inputs and a strength -> what the network is shown, usually images [n, H, W, C]."""
_BATCH = 500


def hits(
    logits_function: Callable[[Any], jax.Array],
    change: Change,
    strengths: Sequence[float | Sequence[float]],
    inputs: Any,
    wanted: Int[np.ndarray, " N"],
    report: Report = silent,
) -> np.ndarray:
    """How many images get the wanted answer, at each of S strengths of a change: int64 [S] or [S, states].

    Args:
        logits_function: the network, or several states of one: what `change` gives -> logits [n, K] or [states, n, K].
        change: what is done to the inputs. Compiled once per function; make one with arguments by
            `jax.tree_util.Partial`, which compiles once for all values of its arrays.
        strengths: each a number, or a few numbers that together say how strong a change is.
        inputs: an array [N, ...], or a pytree of such arrays.
        wanted: the class that counts as a hit for each image: its label for an accuracy, a target for an attack.
        report: progress, in images shown.
    """
    return right(logits_function, change, strengths, inputs, wanted, report).sum(axis=-1, dtype=np.int64)


def right(
    logits_function: Callable[[Any], jax.Array],
    change: Change,
    strengths: Sequence[float | Sequence[float]],
    inputs: Any,
    wanted: Int[np.ndarray, " N"],
    report: Report = silent,
) -> np.ndarray:
    """Which images get the wanted answer: bool [S, N] or [S, states, N]; the arguments are those of `hits`."""
    each = [np.asarray(strength, np.float32) for strength in strengths]
    found = []
    for shown, (part, answers) in enumerate(in_batches((inputs, wanted), _BATCH), start=1):
        at_each = [_right(logits_function, change, part, answers, strength) for strength in each]
        found.append(np.stack([np.asarray(right) for right in at_each]))
        done = min(shown * _BATCH, len(wanted))
        report(Progress("answers", done * len(each), len(wanted) * len(each), "images"))
    return np.concatenate(found, axis=-1)


@compilation.jit
def _right(
    logits_function: Callable[[Any], jax.Array], change: Change, inputs: Any, wanted: jax.Array, strength: jax.Array
) -> jax.Array:
    answers = logits_function(change(inputs, strength)).argmax(axis=-1)
    return answers == jnp.broadcast_to(wanted, answers.shape)


def unchanged(inputs: Any, strength: jax.Array) -> Any:
    """The inputs as they are: a change for an accuracy without any."""
    return inputs


def accuracy(logits_function: LogitsFunction, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of images that are called by their labels, or by whatever other answers are wanted."""
    return float(hits(logits_function, unchanged, [0.0], images, labels)[0] / len(labels))


def embedded(noise: Noise, signals: Float[np.ndarray, "N H W C"], weight: float) -> Noise:
    """Noise with a picture in it: the network is shown t = weight s + (1 - weight) z, z being noise.

    Each s is one of the signals in [0, 1], drawn with equal chances; the weight is the paper's gamma. Both z and t are
    drawn, and so averaged: z in the first C channels and t in the last C.

    Raises:
        InputError: a weight outside 0 to 1, or signals of another shape than the noise.
    """
    if not 0 <= weight <= 1:
        expected = "expected a number from 0 (noise alone) to 1 (signal alone)"
        raise InputError(f"the signal's weight is {weight:g}: {expected}")
    signals = np.asarray(signals, np.float32)
    if signals.shape[1:] != noise.shape:
        wrong = f"signals of shape {signals.shape[1:]} in {noise.name} noise of shape {noise.shape}"
        raise InputError(f"{wrong}: expected one shape, in noise that is shown as it is drawn")
    height, width, channels = noise.shape
    mean, deviation = (np.broadcast_to(value, noise.shape) for value in (noise.mean, noise.deviation))
    mean_t = weight * signals.mean(axis=0, dtype=np.float64) + (1 - weight) * mean
    deviation_t = np.hypot(weight * signals.std(axis=0, dtype=np.float64), (1 - weight) * deviation)
    # Black images up to a multiple of 1,024: classes of different sizes share a compiled program.
    padded = jnp.asarray(np.pad(signals, ((0, -len(signals) % 1024), (0, 0), (0, 0), (0, 0))))
    return Noise(
        f"{noise.name} with a signal of weight {weight:g}",
        (height, width, 2 * channels),
        np.concatenate([mean, mean_t], axis=-1),
        np.concatenate([deviation, deviation_t], axis=-1),
        Partial(_draw_embedded, noise, padded, np.int32(len(signals)), np.float32(weight)),
        white=False,
        present=_second_half,
    )


def _draw_embedded(noise: Noise, signals: jax.Array, count: jax.Array, weight: jax.Array, key: jax.Array) -> jax.Array:
    noise_key, choice = jax.random.split(key)
    z = noise.sample(noise_key)
    s = signals[jax.random.randint(choice, (), 0, count)]
    return jnp.concatenate([z, weight * s + (1 - weight) * z], axis=-1)


def _second_half(key: jax.Array, drawn: jax.Array) -> jax.Array:
    return drawn[..., drawn.shape[-1] // 2 :]


def blend(images: jax.Array, pattern: jax.Array, weight: jax.Array) -> jax.Array:
    """(1 - weight) images + weight pattern, the paper's attack."""
    return (1 - weight) * images + weight * jnp.broadcast_to(pattern, images.shape)


def add(images: jax.Array, pattern: jax.Array, weight: jax.Array) -> jax.Array:
    """images + weight pattern, clipped to [0, 1]."""
    return jnp.clip(images + weight * jnp.broadcast_to(pattern, images.shape), 0, 1)


def multiply(images: jax.Array, pattern: jax.Array, weight: jax.Array) -> jax.Array:
    """images (1 + weight pattern), clipped to [0, 1]: brightens an image where the pattern is bright."""
    return jnp.clip(images * (1 + weight * jnp.broadcast_to(pattern, images.shape)), 0, 1)


Mix = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""Images [n, H, W, C], a pattern that broadcasts to them, and its weight -> images."""
MIXES: dict[str, Mix] = {"blend": blend, "add": add, "multiply": multiply}


def mixed_with(pattern: np.ndarray, mix: Mix = blend) -> Change:
    """A pattern [H, W, C] mixed into images, as a change for `hits`: the strength is the pattern's weight."""
    return Partial(_mixed_with, mix, np.asarray(pattern, np.float32))


def _mixed_with(mix: Mix, pattern: jax.Array, images: jax.Array, weight: jax.Array) -> jax.Array:
    return mix(images, pattern, weight)


def fgsm(logits_function: LogitsFunction, inputs: tuple[jax.Array, jax.Array], epsilon: jax.Array) -> jax.Array:
    """The fast gradient sign method: images + epsilon sign(loss gradient), clipped to [0, 1] (arXiv 1412.6572).

    The inputs are images and labels. `Partial(fgsm, network)` is a change for `hits`.
    """
    images, labels = inputs
    return jnp.clip(images + epsilon * jnp.sign(loss_gradient(logits_function, images, labels)), 0, 1)


def random_signs(inputs: tuple[jax.Array, jax.Array], epsilon: jax.Array) -> jax.Array:
    """A step as large as FGSM's in random directions: images + epsilon signs, clipped to [0, 1]."""
    return jnp.clip(inputs[0] + epsilon * inputs[1].astype(jnp.float32), 0, 1)


def mean_adversarials(
    logits_function: LogitsFunction, images: np.ndarray, labels: np.ndarray, epsilon: float
) -> tuple[np.ma.MaskedArray, np.ndarray]:
    """The mean of the successful FGSM images of each predicted class [K, H, W, C], and their counts [K].

    An attack is successful if the image is called by its label before the step and not after it. A class that no such
    image is called is masked.
    """
    count, total = sum_over(partial(_adversarial_sums, logits_function, np.float32(epsilon)), (images, labels), _BATCH)
    return total / np.ma.masked_equal(count, 0)[:, None, None, None], np.asarray(count, np.int64)


@compilation.jit
def _adversarial_sums(
    logits_function: LogitsFunction, epsilon: jax.Array, images: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    attacked = fgsm(logits_function, (images, labels), epsilon)
    before, after = logits_function(images), logits_function(attacked).argmax(axis=-1)
    changed = (before.argmax(axis=-1) == labels) & (after != labels)
    weight = jnp.where(changed[:, None], jax.nn.one_hot(after, before.shape[-1]), 0)
    return weight.sum(axis=0), jnp.einsum("nk,nhwc->khwc", weight, attacked)


def c_patch(image_shape: tuple[int, ...], size: int = 6, top: int = 1, left: int = 21) -> Bool[np.ndarray, "H W"]:
    """The pixels of a letter C of size x size pixels; its stroke is a third of that.

    Raises:
        InputError: a size below 3, or a letter that does not fit into the image.
    """
    height, width = image_shape[:2]
    if size < 3 or min(top, left) < 0 or top + size > height or left + size > width:
        expected = "expected a size of at least 3, and a row and a column such that all of it lies inside"
        at = f"at row {top}, column {left} of images of {height}x{width} pixels"
        raise InputError(f"a patch of size {size} {at}: {expected}")
    patch = np.zeros((height, width), bool)
    stroke = size // 3
    patch[top : top + size, left : left + size] = True
    patch[top + stroke : top + size - stroke, left + stroke : left + size] = False
    return patch


def stamp(images_u8: UInt8[np.ndarray, "n H W C"], patch_hw: np.ndarray) -> np.ndarray:
    """Images with the patch in white."""
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
        known = f"expected 1 to {len(members):,}, all that there are"
        raise InputError(f"{count:,} images of class {source} to be poisoned: {known}")
    images, labels = split.images.copy(), split.labels.copy()
    images[members[:count]] = stamp(images[members[:count]], patch_hw)
    labels[members[:count]] = target
    return Split(images, labels)
