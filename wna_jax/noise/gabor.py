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
from wna_jax.noise.base import Noise, Shape, pixel_moments
from wna_jax.runs.errors import InputError

if TYPE_CHECKING:
    from wna_jax.data import Dataset

FILTERED_IMAGES = 5000
"""Training images that `gabor_filtered` noise is fitted to."""
_EXACT = 256  # images: sums of so many products of bytes are whole numbers below 2^24, exact in float32


class PrincipalImages(NamedTuple):
    """The principal components of one channel's images, rendered as images [D], D = H W."""

    mean: np.ndarray
    """The mean training image as the atoms render it, [D]; its mean over pixels is 0."""
    basis: np.ndarray
    """The image of a score of 1 in each of k components, [k, D]."""
    analysis: np.ndarray
    """The scores of a training image y are `analysis` (y - mean of all images), [k, D]."""
    low: np.ndarray
    """The smallest score of the training images, [k]."""
    high: np.ndarray
    """The largest score, [k]."""
    explained_variance: float
    """The share of the weights' variance that the k components hold."""


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


def fit(images: np.ndarray, num_components: int | None = None, alpha: float = 0.1) -> PrincipalImages:
    """Ridge regression of images on Gabor atoms, and the principal components of the weights.

    Args:
        images: uint8 [N, H, W], of one channel.
        num_components: k; by default 250, for images above 28x28 600, or as many as there are.
        alpha: of the ridge regression. Its intercept per image does not enter the weights, since atoms are centred.

    Raises:
        InputError: fewer than two images, or more components than atoms.
    """
    height, width = images.shape[1:]
    design = atoms(height, width)
    mean, scatter = _pixel_covariance(images)
    centred = design - design.mean(axis=1, keepdims=True)
    ridge = np.linalg.solve(centred @ centred.T + alpha * np.eye(len(design)), centred)  # [A, D]
    rank = min(len(design), height * width - 1, len(images) - 1)
    wanted = _wanted(num_components, 250 if max(height, width) <= 28 else 600, rank, len(images))
    variance, vectors = np.linalg.eigh(ridge @ scatter @ ridge.T)
    components = _with_fixed_signs(vectors[:, ::-1][:, :wanted].T)
    analysis = components @ ridge
    low, high = _score_range(images, mean, analysis)
    return PrincipalImages(
        mean=(ridge @ mean) @ centred,
        basis=components @ design,
        analysis=analysis,
        low=low,
        high=high,
        explained_variance=float(variance[::-1][:wanted].sum() / variance.sum()),
    )


def fit_filtered(images: np.ndarray, num_components: int | None = None, alpha: float = 0.1) -> PrincipalImages:
    """The principal components of Gabor-filter responses, rendered as images by ridge regression.

    The 24 responses of an image (correlation with each kernel, mirrored at the edges) are r = G y. With S the pixel
    covariance and S^(1/2) G'G S^(1/2) = U diag(l) U', the components of r have the variances l, and ridge regression of
    y on r renders a score of 1 in component j as S^(1/2) u_j sqrt(l_j) / (l_j + alpha). G itself, of 24 D rows, is not
    needed.

    Args:
        images: uint8 [N, H, W], of one channel.
        num_components: by default 450, or as many as there are.
        alpha: of the ridge regression, in units of squared pixel values on the scale of the bytes.

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
    variance, vectors = np.linalg.eigh(root @ gram @ root)
    wanted = _wanted(num_components, 450, min(len(mean), len(images) - 1), len(images))
    length = np.sqrt(np.maximum(variance[::-1][:wanted], 1e-12))[:, None]
    directions = _with_fixed_signs(vectors[:, ::-1][:, :wanted].T)
    analysis = directions @ root @ gram / length
    low, high = _score_range(images, mean, analysis)
    basis = directions @ root * length / (length**2 + alpha)
    share = float(variance[::-1][:wanted].sum() / variance.sum())
    return PrincipalImages(mean - mean.mean(), basis, analysis, low, high, share)


def fit_channels(dataset: "Dataset") -> list[PrincipalImages]:
    """`fit` of each colour channel of the training images; takes seconds, and nothing is kept."""
    return [fit(dataset.train.images[..., c]) for c in range(dataset.image_shape[2])]


def fit_filtered_channels(dataset: "Dataset") -> list[PrincipalImages]:
    """`fit_filtered` of each colour channel of the first 5,000 training images."""
    return [fit_filtered(dataset.train.images[:FILTERED_IMAGES, ..., c]) for c in range(dataset.image_shape[2])]


def gabor_pca(dataset: "Dataset", *, keep_mean: bool = True) -> Noise:
    """Gabor-PCA noise of a data set's training images, each channel separately.

    Every score is drawn independently from U[min, max] over the training images; each channel of the image is stretched
    to [0, 1]. Mean and deviation of each pixel come from `pixel_moments`.

    Args:
        dataset: its training images are fitted.
        keep_mean: False leaves out the mean of the principal components, as the authors do (they also leave out the
            regression's intercept, which the stretch removes anyway). The noise then varies about a grey image instead
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
    shape = dataset.image_shape
    scale = np.stack([(part.high - part.low)[:, None] * part.basis for part in fitted]).astype(np.float32)
    offset = np.stack([part.low @ part.basis + keep_mean * part.mean for part in fitted]).astype(np.float32)
    sample = Partial(_draw_image, shape, scale, offset)
    return Noise(name, shape, *pixel_moments(sample), sample, white=False)


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
    flat = images.reshape(len(images), -1)
    projection = analysis.T.astype(np.float32)
    low, high = np.full(len(analysis), np.inf), np.full(len(analysis), -np.inf)
    for start in range(0, len(flat), 4096):
        scores = flat[start : start + 4096].astype(np.float32) @ projection
        low, high = np.minimum(low, scores.min(axis=0)), np.maximum(high, scores.max(axis=0))
    return low - analysis @ mean, high - analysis @ mean


def _with_fixed_signs(vectors_kd: np.ndarray) -> np.ndarray:
    """Rows with their largest entry positive: an eigenvector has no sign of its own, but the scores have a range."""
    largest = np.take_along_axis(vectors_kd, np.abs(vectors_kd).argmax(axis=1)[:, None], axis=1)
    return vectors_kd * np.sign(largest)
