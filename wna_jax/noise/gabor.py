"""Gabor-PCA noise: random images with the second-order structure of the training images (arXiv 1912.12106).

Each training image is a weighted sum of Gabor atoms (ridge regression). The principal components of the weights are
given random scores, and a vector of random scores is an image. All of this is linear, so nothing is held per image: the
ridge weights are w = R (y - mean of y) with one matrix R, their covariance is R S R' with S that of the pixels, and
atoms and components fold into one matrix. A sample is one matrix product and a stretch to [0, 1].
"""

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from wna_jax.noise import random
from wna_jax.noise.base import Noise, Shape, of_dependent_pixels
from wna_jax.runs.accumulate import map_over
from wna_jax.runs.errors import InputError

if TYPE_CHECKING:
    from wna_jax.data import Dataset

FILTERED_IMAGES = 5000
"""Training images that `gabor_filtered` noise is fitted to."""
_ALPHA = 0.1  # of the ridge regressions
_EXACT = 256  # images: sums of so many products of bytes are whole numbers below 2^24, exact in float32


class PrincipalImages(NamedTuple):
    """The principal components of one channel's images, rendered as images [D], D = H W.

    `mean` [D] is the mean training image as the atoms render it; its mean over pixels is 0. `basis` [k, D] has the
    image of a score of 1 in each of k components. The scores of a training image y are `analysis` (y - mean of all
    images); `low` and `high` [k] are the smallest and the largest among the training images. `explained_variance` is
    the share of the weights' variance that the k components hold.
    """

    mean: np.ndarray
    basis: np.ndarray
    analysis: np.ndarray
    low: np.ndarray
    high: np.ndarray
    explained_variance: float


def kernel(size: int, theta: float, psi: float) -> np.ndarray:
    """A Gabor kernel [size, size], size odd, as OpenCV's getGaborKernel makes it, stretched to [0, 1].

    exp(-(x'^2 + y'^2 / 4) / (2 s^2)) cos(2 pi x' / l + psi) with s = size / 7, l = size / 2 (so gamma = 1/2), and x',
    y' the coordinates rotated by theta; rows and columns run from the largest y and x to the smallest.
    """
    reach = size // 2
    y, x = np.meshgrid(np.arange(reach, -reach - 1, -1), np.arange(reach, -reach - 1, -1), indexing="ij")
    along, across = x * np.cos(theta) + y * np.sin(theta), y * np.cos(theta) - x * np.sin(theta)
    envelope = np.exp(-(along**2 + across**2 / 4) / (2 * (size / 7) ** 2))
    values = envelope * np.cos(2 * np.pi * along / (size / 2) + psi)
    return (values - values.min()) / np.ptp(values)


def kernels(sizes: tuple[int, ...]) -> list[np.ndarray]:
    """Kernels of each size in four orientations and two phases (even, odd)."""
    return [kernel(size, np.pi * turn / 4, psi) for size in sizes for turn in range(4) for psi in (0, np.pi / 2)]


def atoms(height: int, width: int) -> np.ndarray:
    """Every kernel at every place of a grid of its own size, cropped at the far edges: [A, H W].

    Kernels have 3, 7 and 15 pixels (960 atoms for 28x28), for larger images 3, 5, 9 and 17 (1,520 atoms for 32x32).
    """
    images = []
    for small in kernels(_sizes(height, width)):
        for top in range(0, height, len(small)):
            for left in range(0, width, len(small)):
                image = np.zeros((height, width))
                image[top : top + len(small), left : left + len(small)] = small[: height - top, : width - left]
                images.append(image.ravel())
    return np.stack(images)


def fit(images: np.ndarray, num_components: int | None = None) -> PrincipalImages:
    """Ridge regression of uint8 images [N, H, W] on Gabor atoms, and the principal components of the weights.

    By default there are 250 components, for images above 28x28 600, or as many as there can be. The intercept of the
    ridge regression, one per image, does not enter the weights, since atoms are centred.

    Raises:
        InputError: fewer than two images, or more components than atoms.
    """
    height, width = images.shape[1:]
    design = atoms(height, width)
    mean, scatter = _pixel_covariance(images)
    centred = design - design.mean(axis=1, keepdims=True)
    ridge = np.linalg.solve(centred @ centred.T + _ALPHA * np.eye(len(design)), centred)  # [A, D]
    usual, rank = 250 if max(height, width) <= 28 else 600, min(len(design), height * width - 1, len(images) - 1)
    wanted = _wanted(num_components, usual, rank, len(images))
    components, _, share = _leading(ridge @ scatter @ ridge.T, wanted)
    analysis = components @ ridge
    extremes = _score_range(images, mean, analysis)
    return PrincipalImages((ridge @ mean) @ centred, components @ design, analysis, *extremes, share)


def fit_filtered(images: np.ndarray, num_components: int | None = None) -> PrincipalImages:
    """The principal components of Gabor-filter responses, rendered as images by ridge regression.

    The 24 responses of an image (correlation with each kernel, mirrored at the edges) are r = G y. With S the pixel
    covariance and S^(1/2) G'G S^(1/2) = U diag(l) U', the components of r have the variances l, and ridge regression of
    y on r renders a score of 1 in component j as S^(1/2) u_j sqrt(l_j) / (l_j + alpha). G itself, of 24 D rows, is not
    needed. By default there are 450 components, or as many as there can be. Alpha is in units of squared pixel values
    on the scale of the bytes.

    Raises:
        InputError: fewer than two images, or more components than there are.
    """
    from scipy import ndimage

    height, width = images.shape[1:]
    mean, scatter = _pixel_covariance(images)
    impulses = np.eye(height * width).reshape(-1, height, width)
    gram = np.zeros_like(scatter)
    for small in kernels(_sizes(height, width)):
        response = ndimage.correlate(impulses, small[None], mode="mirror").reshape(len(impulses), -1)
        gram += response @ response.T
    power, axes = np.linalg.eigh(scatter)
    root = axes * np.sqrt(np.maximum(power, 0)) @ axes.T
    wanted = _wanted(num_components, 450, min(len(mean), len(images) - 1), len(images))
    directions, variance, share = _leading(root @ gram @ root, wanted)
    length = np.sqrt(np.maximum(variance, 1e-12))[:, None]
    analysis = directions @ root @ gram / length
    basis = directions @ root * length / (length**2 + _ALPHA)
    return PrincipalImages(mean - mean.mean(), basis, analysis, *_score_range(images, mean, analysis), share)


def fit_channels(dataset: "Dataset") -> list[PrincipalImages]:
    """`fit` of each colour channel of the training images; takes seconds, and nothing is kept."""
    return [fit(dataset.train.images[..., c]) for c in range(dataset.image_shape[2])]


def fit_filtered_channels(dataset: "Dataset") -> list[PrincipalImages]:
    """`fit_filtered` of each colour channel of the first 5,000 training images."""
    return [fit_filtered(dataset.train.images[:FILTERED_IMAGES, ..., c]) for c in range(dataset.image_shape[2])]


def gabor_pca(dataset: "Dataset", *, keep_mean: bool = True) -> Noise:
    """Gabor-PCA noise of a data set's training images, each channel separately.

    Every score is drawn independently from U[min, max] over the training images; each channel of the image is stretched
    to [0, 1]. Without `keep_mean` the mean of the principal components is left out, as the authors do (they also leave
    out the regression's intercept, which the stretch removes anyway). The noise then varies about a grey image instead
    of the mean training image.
    """
    name = "gabor_pca" if keep_mean else "gabor_pca:no_mean"
    return of_principal_images(name, dataset, fit_channels(dataset), keep_mean=keep_mean)


def gabor_filtered(dataset: "Dataset") -> Noise:
    """Like `gabor_pca`, with the principal components of Gabor-filter responses to the first 5,000 images."""
    return of_principal_images("gabor_filtered", dataset, fit_filtered_channels(dataset))


def of_principal_images(
    name: str, dataset: "Dataset", fitted: list[PrincipalImages], *, keep_mean: bool = True
) -> Noise:
    """Noise of uniform scores: one matrix product per channel, and the stretch to [0, 1]."""
    scale = np.stack([(part.high - part.low)[:, None] * part.basis for part in fitted]).astype(np.float32)
    offset = np.stack([part.low @ part.basis + keep_mean * part.mean for part in fitted]).astype(np.float32)
    return of_dependent_pixels(name, dataset.image_shape, Partial(_draw_image, dataset.image_shape, scale, offset))


def reconstruct(fitted: PrincipalImages, images: np.ndarray, train_images: np.ndarray) -> np.ndarray:
    """Images [n, H, W] rendered from their scores, float64 on the scale of the images, each with its own mean."""
    mean = train_images.reshape(len(train_images), -1).mean(axis=0)
    flat = images.reshape(len(images), -1).astype(np.float64)
    rendered = (flat - mean) @ fitted.analysis.T @ fitted.basis + fitted.mean
    rendered += (flat.mean(axis=1) - rendered.mean(axis=1))[:, None]
    return rendered.reshape(images.shape)


def _draw_image(shape: Shape, scale: jax.Array, offset: jax.Array, key: jax.Array) -> jax.Array:
    position = random.uniform(key, scale.shape[:2])
    flat = jnp.einsum("ck,ckd->cd", position, scale, precision="highest") + offset
    low, high = flat.min(axis=1, keepdims=True), flat.max(axis=1, keepdims=True)
    return ((flat - low) / (high - low)).T.reshape(shape)


def _wanted(given: int | None, usual: int, rank: int, num_images: int) -> int:
    wanted = min(usual, rank) if given is None else given
    if not 1 <= wanted <= rank:
        raise InputError(f"{wanted} principal components of {num_images:,} images: expected 1 to {rank}")
    return wanted


def _sizes(height: int, width: int) -> tuple[int, ...]:
    return (3, 7, 15) if max(height, width) <= 28 else (3, 5, 9, 17)


def _pixel_covariance(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and covariance [D, D] (divisor N - 1) of uint8 images, by exact sums."""
    if len(images) < 2:
        raise InputError(f"a covariance of {len(images)} images: expected at least 2")
    flat = images.reshape(len(images), -1)
    products = np.zeros((flat.shape[1],) * 2)
    for start in range(0, len(flat), _EXACT):
        batch = flat[start : start + _EXACT].astype(np.float32)
        products += batch.T @ batch
    mean = flat.mean(axis=0, dtype=np.float64)
    return mean, (products - len(flat) * np.outer(mean, mean)) / (len(flat) - 1)


def _score_range(images: np.ndarray, mean: np.ndarray, analysis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flat, projection = images.reshape(len(images), -1), analysis.T.astype(np.float32)
    scores = map_over(lambda batch: batch.astype(np.float32) @ projection, (flat,), 4096)
    low, high = scores.min(axis=0).astype(np.float64), scores.max(axis=0).astype(np.float64)
    return low - analysis @ mean, high - analysis @ mean


def _leading(covariance: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The leading eigenvectors as rows, their eigenvalues, and the share of the variance that they hold.

    The largest entry of each is positive: an eigenvector has no sign of its own, but the scores have a range.
    """
    variance, vectors = np.linalg.eigh(covariance)
    rows, leading = vectors[:, ::-1][:, :count].T, variance[::-1][:count]
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)
    return rows * np.sign(largest), leading, float(leading.sum() / variance.sum())
