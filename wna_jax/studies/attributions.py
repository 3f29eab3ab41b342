"""Which pixels of one image does an answer rest on? Four known methods, and two scores by which all are compared.

| method | map of a response f at an image x | asks the network about |
| --- | --- | --- |
| occlusion | mean of f(x) - f(x with a patch replaced) over the patches on a pixel | x with one patch at a time |
| RISE | mean of f(x behind a random mask) x mask | x behind random masks |
| SmoothGrad | mean gradient of f in noise about x | gradients at x + noise |
| integrated gradients | (x - x') x mean gradient between x' and x | gradients on a line |

x' is the reference: what stands in the place of a pixel that is removed. A classification image of noise around x
(`noise.around`, `studies.local`) is a fifth, from answers alone. Responses are pure functions, images [n, H, W, C] ->
weights [n, K], such as `responses.of_response(network, "probability")`, and maps are [K, H, W, ...]. A pass is one
image through the network; a gradient of one response counts as three, one forwards and two backwards (Griewank &
Walther 2008, Evaluating Derivatives, ch. 4: a gradient costs less than four times its function).

Common mistakes: comparing maps of slopes (SmoothGrad, classification images) with maps of what a pixel contributes
(the other three): a black pixel of a digit may have a slope, but cannot be removed from a black background.
`removal_effect` makes the one of the other.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Float, Int
from scipy import ndimage

from wna_jax.correlation import reverse_correlate
from wna_jax.correlation.fields import draw_and_present
from wna_jax.data import Dataset
from wna_jax.maps import mean_images
from wna_jax.noise import Noise, around, gaussian, random
from wna_jax.runs import compilation
from wna_jax.runs.accumulate import map_over, sum_over
from wna_jax.runs.errors import InputError, unknown_name
from wna_jax.runs.seeds import key_of

Respond = Callable[[jax.Array], jax.Array]
"""Images [n, H, W, C] -> weights [n, K]."""
Image = Float[np.ndarray, "H W C"]
PASSES_PER_GRADIENT = 3
REFERENCES = {"median": "the median training pixel", "blur": "those of the picture behind a blur"}
"""What stands in the place of removed pixels, by name and in words."""
_BLUR = 1 / 8
"""Deviation of the blur in lengths of the longer side."""
_BATCH = 256


def reference(name: str, image: Image, dataset: Dataset) -> Image:
    """What stands in the place of removed pixels: one of `REFERENCES`, as an image.

    "median" is the median of the training pixels of each channel, the most ordinary one (black for MNIST); "blur" the
    image itself behind a Gaussian blur whose deviation is an eighth of the longer side.

    Raises:
        InputError: no such reference, or the median of data without training images.
    """
    if name == "median":
        if not len(dataset.train.images):
            raise InputError(
                "the reference is the median training pixel, and there are no training images: give --reference=blur"
            )
        channels = np.moveaxis(dataset.train.images, -1, 0)
        levels = [np.cumsum(np.bincount(channel.ravel(), minlength=256)) for channel in channels]
        median = np.array([np.searchsorted(below, below[-1] / 2) for below in levels])
        return np.broadcast_to(median / np.float32(255), image.shape).astype(np.float32)
    if name != "blur":
        raise unknown_name("reference", name, tuple(REFERENCES))
    deviation = _BLUR * max(image.shape[:2])
    return ndimage.gaussian_filter(np.asarray(image, np.float32), (deviation, deviation, 0), mode="nearest")


def occlusion(
    respond: Respond, image: Image, reference: Image, size: int | None = None, num_passes: int | None = None
) -> Float[np.ndarray, "K H W"]:
    """How much the response falls where a patch is replaced (Zeiler & Fergus 2014, ECCV, section 4.2).

    The map at a pixel is the mean of f(x) - f(x with the patch replaced by the reference) over all size x size patches
    that cover the pixel; patches reach over the edge, so that every pixel is covered equally often. At a stride of one
    pixel that takes (H + size - 1) (W + size - 1) passes; with fewer `num_passes` the stride grows until the patches
    suffice, and with more nothing is gained. The default `size` is a seventh of the longer side, and at least 5 pixels.

    Raises:
        InputError: fewer passes than the coarsest stride, `size`, takes.
    """
    height, width, _ = image.shape
    size = size or _patch_size((height, width))
    corners = patches((height, width), size, num_passes)
    answers = map_over(Partial(_occluded, respond, image, reference, np.int32(size)), (corners,), _BATCH)
    fall = np.asarray(compilation.call(respond, image[None]), np.float64) - answers  # [patches, K]
    total, count = np.zeros((fall.shape[1], height, width)), np.zeros((height, width))
    for (top, left), own in zip(corners, fall, strict=True):
        patch = slice(max(top, 0), top + size), slice(max(left, 0), left + size)
        total[:, *patch] += own[:, None, None]
        count[patch] += 1
    return total / count


def _patch_size(image_size: tuple[int, int]) -> int:
    return max(5, round(max(image_size) / 7))


def patches(
    image_size: tuple[int, int], size: int | None = None, num_passes: int | None = None
) -> Int[np.ndarray, "n 2"]:
    """The corners (top, left) of the patches of `occlusion`; an InputError if the passes do not suffice."""
    size = size or _patch_size(image_size)
    for stride in range(1, size + 1):
        ends = [np.arange(1 - size, side, stride) for side in image_size]
        corners = np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 2)
        if num_passes is None or len(corners) <= num_passes:
            return corners
    raise InputError(
        f"{num_passes} network passes for each method: occlusion takes at least {len(corners)}, for patches of {size} "
        f"pixels that cover an image of {image_size[0]}x{image_size[1]}"
    )


@compilation.jit
def _occluded(
    respond: Respond, image: jax.Array, reference: jax.Array, size: jax.Array, corners: jax.Array
) -> jax.Array:
    distance = [jnp.arange(side)[None] - corners[:, axis, None] for axis, side in enumerate(image.shape[:2])]
    rows, columns = ((d >= 0) & (d < size) for d in distance)
    patch = rows[:, :, None, None] & columns[:, None, :, None]
    return respond(jnp.where(patch, reference[None], image[None]))


def masks(image: Image, reference: Image, cells: int = 7, keep: float = 0.5) -> Noise:
    """The masks of RISE as a noise: a mask m in [0, 1] is drawn, [H, W, 1], and m x + (1 - m) x' is shown.

    A grid whose nodes, `cells` over the longer side, are 1 with probability p = `keep` and else 0 is moved at random by
    less than a cell and interpolated linearly. The mean of a pixel is p, its variance p (1 - p) v^2 for square cells of
    c pixels, v = mean of a^2 + (1 - a)^2 over a = 0, 1/c, ..., 1 - 1/c. The published masks differ at the edges alone,
    where they are those of a smaller grid.

    Raises:
        InputError: cells or a probability that make no mask.
    """
    height, width, _ = image.shape
    if not 1 <= cells <= max(height, width) or not 0 < keep < 1:
        expected = f"from 1 to {max(height, width)} cells, each kept with a probability between 0 and 1"
        raise InputError(f"masks of {cells} cells, kept with {keep:g}: expected {expected}")
    side = math.ceil(max(height, width) / cells)
    places = np.arange(side) / side
    deviation = np.sqrt(keep * (1 - keep)) * np.mean(places**2 + (1 - places) ** 2)
    pictures = jnp.asarray(image, jnp.float32), jnp.asarray(reference, jnp.float32)
    return Noise(
        f"RISE masks of {side}-pixel cells",
        (height, width, 1),
        np.full(1, keep),
        np.full(1, deviation),
        Partial(_draw_mask, (height, width), side, np.float32(keep)),
        white=False,
        present=Partial(_behind, *pictures),
    )


def _draw_mask(size: tuple[int, int], side: int, keep: jax.Array, key: jax.Array) -> jax.Array:
    of_nodes, of_place = jax.random.split(key)
    nodes = tuple(-(-length // side) + 2 for length in size)
    grid = (random.uniform(of_nodes, nodes) < keep).astype(jnp.float32)
    moved = jnp.floor(random.uniform(of_place, (2,)) * side)
    rows, columns = (
        jnp.maximum(1 - jnp.abs((_count(length)[:, None] + by) / side - _count(of_length)[None]), 0)
        for length, of_length, by in zip(size, nodes, moved, strict=True)
    )
    return jnp.einsum("yi,ij,xj->yx", rows, grid, columns, precision="highest")[..., None]


def _count(length: int) -> jax.Array:
    return jnp.arange(length, dtype=jnp.float32)


def _behind(image: jax.Array, reference: jax.Array, key: jax.Array, mask: jax.Array) -> jax.Array:
    return mask * image + (1 - mask) * reference


def rise(
    respond: Respond,
    image: Image,
    reference: Image,
    num_passes: int = 4_000,
    *,
    cells: int = 7,
    keep: float = 0.5,
    seed: int = 0,
) -> Float[np.ndarray, "K H W"]:
    """The mean response behind random `masks` that show a pixel: sum f(x behind m) m / (N E[m]).

    Petsiuk, Das & Saenko 2018, BMVC (arXiv 1806.07421), eq. 6. It is a classification image in a noise of masks:
    `reverse_correlate(masks(image, reference), respond)` gives it with errors and tests.
    """
    noise = masks(image, reference, cells, keep)
    moments = reverse_correlate(noise, respond, num_passes, seed=seed, sampling="independent")
    weighted = mean_images(moments).filled(0)[..., 0]
    return weighted * (moments.weight_sum / (num_passes * keep))[:, None, None]


def smooth_gradient(
    respond: Respond, image: Image, deviation: float = 0.15, num_passes: int = 3_000, *, seed: int = 0
) -> Float[np.ndarray, "K H W C"]:
    """The mean gradient of the response in Gaussian noise around the image, mean of grad f(x + z).

    Smilkov et al. 2017, arXiv 1706.03825; the authors take a deviation of .1 to .2 of the range of the pixels. Draws of
    the noise are those of `gaussian(image.shape, 0, deviation)`. Passes are counted as `PASSES_PER_GRADIENT` says.
    """
    stimulus = around(image, gaussian(image.shape, 0, deviation))
    return _mean_gradient(respond, Partial(_shown, stimulus, np.uint32(seed)), num_passes)


def _shown(noise: Noise, seed: jax.Array, index: jax.Array) -> jax.Array:
    return draw_and_present(noise, key_of(seed), np.uint32(0), index.astype(jnp.uint32), 1)[1][0]


def integrated_gradients(
    respond: Respond, image: Image, reference: Image, num_passes: int = 3_000
) -> Float[np.ndarray, "K H W C"]:
    """(x - x') times the mean gradient on the line from the reference x' to the image x.

    Sundararajan, Taly & Yan 2017, ICML (arXiv 1703.01365), eq. 1. The mean is that over the middles of equal steps, as
    many as there are gradients, so that the sum over the map is f(x) - f(x') (completeness) but for the error of the
    midpoint rule: none where the gradient is linear along the line.
    """
    gradients = max(num_passes // PASSES_PER_GRADIENT, 1)
    line = Partial(_on_line, jnp.asarray(image), jnp.asarray(reference), np.float32(gradients))
    return _mean_gradient(respond, line, num_passes) * (np.asarray(image, np.float64) - reference)


def _on_line(image: jax.Array, reference: jax.Array, steps: jax.Array, index: jax.Array) -> jax.Array:
    share = (index.astype(jnp.float32) + 0.5) / steps
    return share * image + (1 - share) * reference


def knows_gradients(respond: Any) -> bool:
    """Whether gradients of a response are known: those of JAX, and those on the host that say `vjp`, as PyTorch's."""
    return all(getattr(leaf, "vjp", None) for leaf in jax.tree.leaves(respond) if compilation.is_on_host(leaf))


def _mean_gradient(respond: Respond, image_at: Callable[[jax.Array], jax.Array], num_passes: int) -> np.ndarray:
    """The mean gradient [K, H, W, C] at the images of indices 0, 1, ...: as many as the passes allow, at least one."""
    indices = np.arange(max(num_passes // PASSES_PER_GRADIENT, 1), dtype=np.int32)
    return sum_over(Partial(_sum_of_gradients, respond, image_at), (indices,), _BATCH) / len(indices)


@compilation.jit
def _sum_of_gradients(respond: Respond, image_at: Callable[[jax.Array], jax.Array], indices: jax.Array) -> jax.Array:
    images = jax.vmap(image_at)(indices)
    leaves, structure = jax.tree.flatten(respond)
    on_host = [i for i, leaf in enumerate(leaves) if compilation.is_on_host(leaf)]
    if not on_host:
        weights, pull_back = jax.vjp(respond, images)
        return jax.vmap(lambda own: pull_back(own)[0].sum(axis=0))(_one_by_one(weights))
    (place,) = on_host  # JAX differentiates what is made of the answers, and the network itself the rest

    def of_answers(answers: jax.Array) -> jax.Array:
        return jax.tree.unflatten(structure, [*leaves[:place], lambda _: answers, *leaves[place + 1 :]])(images)

    weights, pull_back = jax.vjp(of_answers, leaves[place](images))
    slopes = jax.vmap(lambda own: pull_back(own)[0])(_one_by_one(weights))
    return jnp.asarray(leaves[place].vjp(np.asarray(images), np.asarray(slopes))).sum(axis=1)


def _one_by_one(weights: jax.Array) -> jax.Array:
    """Cotangents [K, n, K] of each of K weights of all images at once: an image's weights depend on itself alone."""
    return jnp.broadcast_to(jnp.eye(weights.shape[1], dtype=weights.dtype)[:, None], (weights.shape[1], *weights.shape))


def removal_effect(slopes: np.ndarray, image: Image, reference: Image) -> np.ndarray:
    """What maps of slopes [..., H, W, C] say that each pixel contributes: sum over channels of slope x (x - x').

    To first order it is the fall of the response when the pixel is replaced by the reference; exact for linear
    networks. The answer is [..., H, W].
    """
    return (np.asarray(slopes, np.float64) * (image - reference)).sum(axis=-1)


class Curves(NamedTuple):
    """The response while pixels are taken away, or put back, the most important ones first: [M, S] for M maps.

    `share` [S] is that of the pixels, from 0 to 1.
    """

    share: Float[np.ndarray, " S"]
    deletion: Float[np.ndarray, "M S"]
    insertion: Float[np.ndarray, "M S"]

    @property
    def scores(self) -> dict[str, Float[np.ndarray, " M"]]:
        """The areas under both curves: a good map has a low deletion and a high insertion score."""
        return {name: np.trapezoid(getattr(self, name), self.share, axis=-1) for name in ("deletion", "insertion")}


def deletion_and_insertion(
    respond: Respond, image: Image, reference: Image, importance: Float[np.ndarray, "M H W"], steps: int = 50
) -> Curves:
    """The deletion and insertion curves of some maps of one image (Petsiuk et al. 2018, section 4.2).

    Deletion replaces the pixels of the image by the reference in order of importance; insertion starts from the
    reference and puts the image's pixels in. Both take `steps` equal steps and ask the network after each. Equally
    important pixels follow in reading order. The response is of one class, [n, 1].

    Reading the result: both scores measure how well a map tells the pixels that the network needs from the others, not
    how well it says why; images with replaced pixels are none that the network has learned. They depend on the
    reference.
    """
    maps, pixels = len(importance), importance[0].size
    order = np.argsort(-importance.reshape(maps, -1), axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable").reshape(importance.shape).astype(np.int32)
    after = counts(pixels, steps)
    which, gone = (each.ravel() for each in np.meshgrid(np.arange(maps), after, indexing="ij"))
    answers = map_over(Partial(_replaced, respond, image, reference, rank), (which, gone), _BATCH)
    deletion, insertion = np.asarray(answers, np.float64).reshape(maps, len(after), 2).transpose(2, 0, 1)
    return Curves(after / pixels, deletion, insertion)


def counts(pixels: int, steps: int) -> Int[np.ndarray, " S"]:
    """The number of pixels that are replaced at the start and after each of the steps."""
    return np.rint(np.linspace(0, pixels, steps + 1)).astype(np.int32)


@compilation.jit
def _replaced(
    respond: Respond, image: jax.Array, reference: jax.Array, rank: jax.Array, which: jax.Array, gone: jax.Array
) -> jax.Array:
    first = (rank[which] < gone[:, None, None])[..., None]
    without, alone = jnp.where(first, reference[None], image[None]), jnp.where(first, image[None], reference[None])
    return jnp.stack([respond(without)[:, 0], respond(alone)[:, 0]], axis=-1)
