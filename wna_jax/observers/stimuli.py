"""Where the stimuli of trials come from: noise that is drawn again by its number, image files, or one large array.

Each is read a batch at a time, so that the memory does not grow with the number of trials.
"""

import hashlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from PIL import Image

from wna_jax.correlation.fields import draws_at
from wna_jax.data import images
from wna_jax.noise import Noise
from wna_jax.runs import compilation
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Progress, Report, silent
from wna_jax.runs.seeds import key_of

_VALUES_PER_BATCH = 2**21
_VALUES_KEPT = 2**24
"""Of the stimuli that null maps are made of where the noise is not known."""
_FOR_ESTIMATES = 65_536
"""Trials from which the deviation of a pixel is estimated, to .3% of it."""
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio


class Drawn(NamedTuple):
    """Draws of a noise by their numbers [N], as `draw_samples` and `reverse_correlate` have them for this seed."""

    noise: Noise
    numbers: Any
    seed: int = 0


@dataclass(frozen=True)
class Source:
    """Stimuli as they are read: how many, of which shape, and those of some trials, float32 [n, H, W, C]."""

    count: int
    shape: tuple[int, int, int]
    take: Callable[[np.ndarray], np.ndarray]
    identities: Callable[[np.ndarray], np.ndarray]
    """Numbers, 64 bits, that tell the same stimulus wherever it is shown."""
    names: list[str] | None = None
    """Of files."""
    show: Callable[[np.ndarray], np.ndarray] | None = None
    """What observers are shown, where that is another image than is averaged: noise in squares, or with a picture."""

    def shown(self, trials: np.ndarray) -> np.ndarray:
        """What observers are shown in some trials, float32 [n, h, w, c]."""
        return (self.show or self.take)(trials)

    def some(self, rows: np.ndarray) -> "Source":
        """The stimuli of some trials alone, by their numbers [n]."""
        return replace(
            self,
            count=len(rows),
            take=lambda trials: self.take(rows[trials]),
            identities=lambda trials: self.identities(rows[trials]),
            names=self.names and [self.names[row] for row in rows],
            show=self.show and (lambda trials: self.shown(rows[trials])),
        )

    def batches(self, chosen: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """The numbers of all trials, or of those chosen, in batches."""
        own = np.arange(self.count) if chosen is None else chosen
        size = max(1, min(1024, _VALUES_PER_BATCH // math.prod(self.shape)))
        return (own[start : start + size] for start in range(0, len(own), size))


Stimuli = Drawn | np.ndarray | Sequence[str | Path] | Source
"""One stimulus per trial: drawn noise, an array [N, H, W, C] (also a memory-mapped one), image files, or a `Source`.

Arrays of bytes and of 16-bit numbers are scaled to [0, 1], as files are; floats are taken as they are.
"""


def source_of(stimuli: Stimuli) -> Source:
    """How the stimuli are read.

    Raises:
        InputError: no stimuli, an array of another rank or type, or numbers of draws that are none.
    """
    if isinstance(stimuli, Source):
        return stimuli
    if isinstance(stimuli, Drawn):
        return _of_draws(stimuli)
    if not len(stimuli):
        raise InputError("there are no stimuli: expected one per trial")
    if isinstance(stimuli, np.ndarray):
        return _of_array(stimuli)
    paths = [Path(path) for path in stimuli]
    shape = read_image(paths[0]).shape
    height, width, channels = shape

    def take(trials: np.ndarray) -> np.ndarray:
        found = [read_image(paths[i]) for i in trials]
        for i, image in zip(trials, found, strict=True):
            if image.shape != shape:
                raise InputError(
                    f"{paths[i]} has {size_of(image.shape)}, {paths[0]} {size_of(shape)}: expected one size"
                )
        return np.stack(found)

    def identities(trials: np.ndarray) -> np.ndarray:
        return np.array([_hashed(_content(paths[i])) for i in trials], np.uint64)  # a copy elsewhere is the same

    return Source(len(paths), (height, width, channels), take, identities, [str(path) for path in paths])


def half_of(identities: np.ndarray) -> np.ndarray:
    """Which half of the stimuli each belongs to, 0 or 1: decided by the stimulus alone, for all participants alike.

    Consecutive numbers, and even ones, are spread evenly: it is the first bit of the number times the golden ratio.
    """
    return ((identities * np.uint64(_GOLDEN)) >> np.uint64(63)).astype(np.int64)


def read_image(path: str | Path) -> np.ndarray:
    """An image file as float32 [H, W, 1 or 3] in [0, 1]; 16-bit grey keeps its 65,536 levels.

    Raises:
        InputError: no such file, or none that can be read.
    """
    try:
        content = Path(path).read_bytes()
        with Image.open(io.BytesIO(content), formats=("PNG", "TIFF")) as opened:
            if opened.mode.startswith("I;16"):
                return np.asarray(opened, np.float32)[..., None] / 65535
    except FileNotFoundError:
        raise InputError(f"{path} is not there: each trial needs its image") from None
    except Exception:  # no PNG or TIFF, or damaged: the reader of all formats says which
        content = b"" if not Path(path).is_file() else content
    try:
        return images.decode(content).astype(np.float32) / 255
    except Exception as error:
        text = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        raise InputError(f"{path} cannot be read as an image ({text}): expected PNG or another image file") from error


def noise_of(stimuli: Stimuli, second: Stimuli | None = None, classes: Any = None, report: Report = silent) -> Noise:
    """The noise whose map the trials give: of the stimulus, or of the difference of the two of a trial.

    For drawn noise it is known: that itself, or with a second stimulus one of mean 0 and sqrt(2) times the deviation.
    For files and arrays the deviation of each pixel is estimated from at most 65,536 trials (to .3%), within each of
    the `classes` [N] (such as signals and base images, which are the same in many trials). Nothing is then known of
    how pixels depend on each other: null maps are made of the stimuli themselves, as those of random answers would be.
    """
    one, two = source_of(stimuli), None if second is None else source_of(second)
    if isinstance(stimuli, Drawn):
        return stimuli.noise if second is None else difference(stimuli.noise)
    step = max(1, -(-one.count // _FOR_ESTIMATES))
    chosen = np.arange(0, one.count, step)
    of_class = np.zeros(len(chosen), int) if classes is None else np.asarray(classes)[chosen]
    _, of_class = np.unique(of_class, return_inverse=True)
    most = max(16, _VALUES_KEPT // math.prod(one.shape))
    kept: list[np.ndarray] = []
    keep = np.zeros(len(chosen), bool)
    keep[:: max(1, -(-len(chosen) // most))] = True
    means = np.zeros((of_class.max() + 1, *one.shape))
    squares, done = np.zeros(one.shape), 0
    for trials in one.batches(chosen):
        x = one.take(trials) if two is None else one.take(trials) - two.take(trials)
        rows = slice(done, done + len(trials))
        np.add.at(means, of_class[rows], x)
        squares += np.square(x, dtype=np.float64).sum(axis=0)
        kept.append(x[keep[rows]])
        done += len(trials)
        report(Progress("stimuli", done, len(chosen), "trials"))
    counts = np.bincount(of_class)[:, None, None, None]
    total = means.sum(axis=0) / len(chosen)
    means /= counts
    free = len(chosen) - len(counts)
    if free < 1:
        raise InputError(f"{len(chosen)} trials of {len(counts)} kinds: expected several of a kind, to see them vary")
    variance = np.maximum(squares - (counts * means**2).sum(axis=0), 0) / free
    deviation = np.where(variance > 1e-9 * np.maximum(squares / len(chosen), 1e-9), np.sqrt(variance), 0)
    residuals = np.concatenate(kept) - means[of_class[keep]]
    sample = Partial(_one_of, residuals.astype(np.float32), total.astype(np.float32))
    return Noise("the stimuli's own", one.shape, total, deviation, sample, white=False)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise InputError(f"{path} is not there: each trial needs its image") from None


def twice(noise: Noise) -> Noise:
    """The noise of a stimulus minus its inverted one, mean + z minus mean - z: mean 0, deviation 2 s."""
    return replace(
        noise,
        name=f"twice {noise.name}",
        mean=np.zeros_like(noise.mean),
        deviation=2 * noise.deviation,
        sample=Partial(_sample_twice, noise.sample, np.asarray(noise.mean, np.float32)),
        draw=None,
        present=None,
    )


def difference(noise: Noise) -> Noise:
    """The noise of a first stimulus minus a second one of the same noise: mean 0, deviation sqrt(2) s."""
    return replace(
        noise,
        name=f"difference of two {noise.name}",
        mean=np.zeros_like(noise.mean),
        deviation=np.sqrt(2) * noise.deviation,
        sample=Partial(_sample_difference, noise.sample),
        draw=None,
        present=None,
    )


def size_of(shape: Sequence[int]) -> str:
    """A shape as a text, such as "28x28x1 pixels"."""
    return f"{'x'.join(map(str, shape))} pixels"


def _of_draws(drawn: Drawn) -> Source:
    numbers = np.asarray(drawn.numbers)
    if not numbers.size:
        raise InputError("there are no stimuli: expected one number per trial")
    if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer) or numbers.min() < 0:
        raise InputError(
            f"numbers of stimuli are {numbers.dtype} {numbers.shape}: expected whole numbers [N] from 0 on"
        )
    numbers, key = numbers.astype(np.uint64), key_of(drawn.seed)

    def draws(trials: np.ndarray, which: int) -> np.ndarray:
        own = numbers[trials]
        padded = np.resize(own, 1 << max(6, (len(own) - 1).bit_length()))  # few sizes, few compiled programs
        highs, lows = ((padded >> np.uint64(shift)).astype(np.uint32) for shift in (32, 0))
        return np.asarray(_draws(drawn.noise, key, highs, lows)[which])[: len(own)]

    first = np.uint64(drawn.seed << 32)  # another seed has other stimuli
    show = None if drawn.noise.present is None else partial(draws, which=1)
    return Source(
        len(numbers), drawn.noise.shape, partial(draws, which=0), lambda trials: numbers[trials] + first, show=show
    )


def _of_array(array: np.ndarray) -> Source:
    if array.ndim != 4:
        raise InputError(f"stimuli of shape {array.shape}: expected an array [trials, height, width, channels]")
    kind = array.dtype
    if kind not in (np.uint8, np.uint16) and not np.issubdtype(kind, np.floating):
        raise InputError(f"stimuli of type {kind}: expected floats, or 8-bit or 16-bit numbers without a sign")
    scale = np.float32(1 if np.issubdtype(kind, np.floating) else np.iinfo(kind).max)
    count, height, width, channels = array.shape
    return Source(
        count,
        (height, width, channels),
        lambda trials: np.asarray(array[trials], np.float32) / scale,
        lambda trials: np.array([_hashed(image.tobytes()) for image in array[trials]], np.uint64),
    )


def _hashed(content: bytes) -> int:
    """64 bits that are the same in every process, unlike those of `hash`."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


@compilation.jit
def _draws(noise: Noise, key: jax.Array, highs: jax.Array, lows: jax.Array) -> tuple[jax.Array, jax.Array]:
    return draws_at(noise, key, highs, lows)


def _sample_difference(sample: Callable[[jax.Array], jax.Array], key: jax.Array) -> jax.Array:
    one, two = jax.random.split(key)
    return sample(one) - sample(two)


def _sample_twice(sample: Callable[[jax.Array], jax.Array], mean: jax.Array, key: jax.Array) -> jax.Array:
    return 2 * (sample(key) - jnp.broadcast_to(mean, jax.eval_shape(sample, key).shape))


def _one_of(residuals: jax.Array, mean: jax.Array, key: jax.Array) -> jax.Array:
    return mean + residuals[jax.random.randint(key, (), 0, len(residuals))]
