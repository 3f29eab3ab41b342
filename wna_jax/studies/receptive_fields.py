"""What the units of a layer see: their receptive fields, and how to show them noise.

A unit of a convolutional layer sees a small window of the image, its receptive field. Noise is drawn in the size of
that window. Where a layer has no padding, all positions of a feature map are windows of one noise field
(`correlation.fields`), so millions of samples cost seconds.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from wna_jax.correlation.loop import Response
from wna_jax.maps import ClassificationImages
from wna_jax.networks.units import Activations
from wna_jax.noise import Noise
from wna_jax.runs import compilation
from wna_jax.runs.errors import InputError

_PROBES = 24
_ROUNDING = 1e-5  # of the largest activation
_LARGER = 48


class ReceptiveField(NamedTuple):
    """The windows that the units of a layer see: unit (i, j) sees size pixels from start + (i, j) jump on.

    The size is from the first to the last pixel; between them a dilated kernel leaves some out. The jump is 0 where
    there is only one unit, and the start is negative where it reaches into padding. `units` are the rows and columns of
    the feature map; (1, 1) for a layer without one.
    """

    size: tuple[int, int]
    jump: tuple[int, int]
    start: tuple[int, int]
    units: tuple[int, int]

    def padded(self, image_shape: tuple[int, ...]) -> bool:
        """Whether some windows reach beyond the image's edge, so that their units answer unlike those inside."""
        ends = (s + (u - 1) * j + z for s, u, j, z in zip(self.start, self.units, self.jump, self.size, strict=True))
        return min(self.start) < 0 or any(end > length for end, length in zip(ends, image_shape, strict=False))

    def crop(self, position: tuple[int, int], image_shape: tuple[int, ...]) -> tuple[slice, slice]:
        """The pixels of an image that the unit at a position sees.

        Raises:
            InputError: no unit at that position.
        """
        if not all(0 <= p < u for p, u in zip(position, self.units, strict=True)):
            raise InputError(f"position {position}: expected one from (0, 0) to {tuple(u - 1 for u in self.units)}")
        first = [s + p * j for s, p, j in zip(self.start, position, self.jump, strict=True)]
        ends = zip(first, self.size, image_shape, strict=False)
        rows, columns = (slice(max(f, 0), min(f + size, length)) for f, size, length in ends)
        return rows, columns


def receptive_field(activations: Activations, image_shape: tuple[int, int, int]) -> ReceptiveField:
    """Finds out what the units of a layer see, by asking the network.

    Random images are changed in one row, or one column, at a time: the units whose activation changes see it. With 24
    images no row is missed, except in layers that hardly ever fire. Where fewer than two units have their whole windows
    inside the image, larger images are taken: by multiples of 48 pixels, so that strides and their padding stay alike.

    Raises:
        InputError: activations of another shape than [n, h, w, units] or [n, units], windows at irregular distances, or
            no unit that answers to any image.
    """
    shape = compilation.shape_of(activations, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)).shape
    if len(shape) not in (2, 4):
        expected = "expected (rows, columns, units) or (units,), as convolutional and dense layers give them"
        raise InputError(f"the layer gives activations {shape[1:]} for an image: {expected}")
    units = (shape[1], shape[2]) if len(shape) == 4 else (1, 1)
    lines = []
    for axis in (0, 1):
        shown = list(image_shape)
        seen = _answering(activations, shown, axis)
        while units[axis] > 1 and not _enough_inside(seen) and shown[axis] < image_shape[axis] + 4 * _LARGER:
            shown[axis] += _LARGER
            seen = _answering(activations, shown, axis)
        lines.append(seen)
    if not all(seen.any() for seen in lines):
        raise InputError("no unit of the layer answers to any image: it has no receptive field")
    size, jump, start = zip(*map(_windows, lines), strict=True)
    return ReceptiveField(size, jump, start, units)


def _answering(activations: Activations, image_shape: Sequence[int], axis: int) -> np.ndarray:
    """Which rows (axis 0) or columns (1) of an image each row (column) of units sees, bool [lines, units]."""
    before, after = 3 * np.random.default_rng(0).standard_normal((2, _PROBES, *image_shape), np.float32)
    each = [np.asarray(_differs(activations, axis, *pair)) for pair in zip(before, after, strict=True)]
    answers = np.any(each, axis=(0, -1))
    return answers[:, None] if answers.ndim == 1 else np.any(answers, axis=2 - axis)


@compilation.jit
def _differs(activations: Activations, axis: int, before: jax.Array, after: jax.Array) -> jax.Array:
    """Which activations change when one line of an image [H, W, C] does: bool [lines, ..., units]."""
    length = before.shape[axis]
    changed = jnp.eye(length, dtype=bool).reshape((length, length, 1, 1) if axis == 0 else (length, 1, length, 1))
    images = jnp.broadcast_to(before, (length, *before.shape))
    here, there = activations(jnp.where(changed, after[None], images)), activations(images)
    # PyTorch's fast convolutions compute some units together, and round them together.
    tolerance = _ROUNDING * jnp.abs(there).max() if compilation.is_on_host(activations) else 0.0
    return jnp.abs(here - there) > tolerance


def _spans(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first line that each unit sees, and the number of lines from there to the last."""
    first = seen.argmax(axis=0)
    return first, np.where(seen.any(axis=0), len(seen) - seen[::-1].argmax(axis=0) - first, 0)


def _enough_inside(seen: np.ndarray) -> bool:
    """Two or more units with the longest span see neither the first nor the last line: their windows lie inside."""
    _, span = _spans(seen)
    return bool(np.count_nonzero((span == span.max()) & (span > 0) & ~seen[0] & ~seen[-1]) >= 2)


def _windows(seen: np.ndarray) -> tuple[int, int, int]:
    """Size, jump and start, from which lines each unit sees, [lines, units]."""
    first, span = _spans(seen)
    size = int(span.max())
    whole = np.flatnonzero(span == size)
    distances = set(np.diff(first[whole]) / np.diff(whole)) if len(whole) > 1 else {0.0}
    if len(distances) > 1:
        raise InputError(f"the layer's windows are {sorted(map(int, distances))} pixels apart: expected one distance")
    jump = int(distances.pop())
    return size, jump, int(first[whole[0]] - whole[0] * jump)


class View(NamedTuple):
    """How to show noise to the units of a layer, and which rows and columns of it each of them has `seen`.

    Noise [n, *noise_shape] gives activations [n, units]; larger noise [n, h, w, units], for `reverse_correlate`.
    """

    noise_shape: tuple[int, int, int]
    respond: Response
    seen: tuple[slice, slice]
    field: ReceptiveField

    def fitted(self, noise: Noise) -> Noise:
        """The noise in the size of `noise_shape`; an InputError where it exists only in the size of an image."""
        return (
            noise if noise.shape == self.noise_shape and noise.present is None else noise.resized(self.noise_shape[:2])
        )

    def crop(self, averages: ClassificationImages) -> ClassificationImages:
        """The part that the units see of averages of the noise."""
        part = (slice(None), *self.seen)
        images, error = averages.images[part], averages.standard_error[part]
        return replace(averages, images=images, standard_error=error, noise=None)


def units_of(activations: Activations, image_shape: tuple[int, int, int]) -> View:
    """How to show noise to the units of a layer; errors are those of `receptive_field`.

    Layers without padding are shown noise in the size of the receptive field; layers with padding noise in the size of
    the image, of which the unit in the middle of the feature map sees a part.
    """
    field = receptive_field(activations, image_shape)
    if not field.padded(image_shape):
        window = Partial(_without_single_position, activations)
        return View((*field.size, image_shape[-1]), window, (slice(None), slice(None)), field)
    middle = field.units[0] // 2, field.units[1] // 2
    return View(image_shape, Partial(_at_position, activations, middle), field.crop(middle, image_shape), field)


def _without_single_position(activations: Activations, images: jax.Array) -> jax.Array:
    answers = activations(images)
    return answers[:, 0, 0] if answers.ndim == 4 and answers.shape[1:3] == (1, 1) else answers


def _at_position(activations: Activations, position: tuple[int, int], images: jax.Array) -> jax.Array:
    return activations(images)[:, position[0], position[1]]
