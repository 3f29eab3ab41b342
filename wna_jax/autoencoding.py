"""Training autoencoders, plain, variational and denoising, on a data set's images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from wna_jax.data import Dataset
from wna_jax.errors import InputError
from wna_jax.models import generative
from wna_jax.progress import Report, silent
from wna_jax.training import Descent, Parameters, Trained, TrainingSpec, descend, to_unit_range

_EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class DenoisingSpec(TrainingSpec):
    """An autoencoder that is shown (1 - w) x + w u, u uniform in [0, 1], and asked for x (Vincent et al. 2008)."""

    noise_weight: float = 0.5

    def __post_init__(self) -> None:
        """Says at once what cannot be trained."""
        super().__post_init__()
        if not 0 < self.noise_weight < 1:
            raise InputError(f"noise_weight is {self.noise_weight}: it must be above 0 and below 1")


def default_spec(dataset: Dataset, model: str) -> TrainingSpec:
    """Ten passes over large data sets, more over small ones, by Adam at 1e-3."""
    epochs = max(10, 100_000 // len(dataset.train.labels))
    return TrainingSpec(dataset.name, dataset.fingerprint, model, epochs=epochs, peak_learning_rate=1e-3)


def fit(spec: TrainingSpec, dataset: Dataset, report: Report = silent, state_dir: Path | None = None) -> Trained:
    """Trains an autoencoder of `generative.NAMES` by Adam at a constant rate.

    What is made small is the cross-entropy of pixels in [0, 1], summed over the pixels of an image, and of its
    thumbnail where that is decoded too; for a variational one plus the divergence of the code's distribution from
    N(0, 1): the negative evidence bound (Kingma & Welling 2014).

    Args:
        spec: what to train and how.
        dataset: its `train` images; the `validation` images tell the error, and the best epoch.
        report: called every few steps with the loss of the step's batch.
        state_dir: as in `training.descend`.

    Returns:
        The parameters and their metrics: validation_mse is the mean squared error of a pixel in [0, 1]; `epochs` has a
        row each, with the training_mse (of at most 5,000 images) and validation_mse after it.

    Raises:
        InputError: the model does not exist, or training diverged.
    """
    module = generative.create(spec.model, dataset.image_shape)
    key = jax.random.key(spec.seed)
    parameters = jax.jit(module.init)(key, jnp.zeros((1, *dataset.image_shape)))["params"]
    optimiser = optax.adam(spec.peak_learning_rate)
    weight = noise_weight(spec)
    step = _make_step(module, optimiser, jnp.asarray(dataset.train.images), weight)
    splits = {"training_mse": dataset.train.images[:5000], "validation_mse": dataset.validation.images}

    def judge(parameters: Parameters) -> tuple[Parameters, dict[str, float]]:
        errors = {name: reconstruction_error(module, parameters, images, weight) for name, images in splits.items()}
        return parameters, errors

    trained = descend(
        spec,
        len(dataset.train.labels),
        Descent(parameters, optimiser.init(parameters)),
        lambda parameters, state, batch, index: step(parameters, state, batch, jax.random.fold_in(key, index - 1)),
        judge,
        lambda row: -row["validation_mse"],
        report,
        state_dir,
    )
    metrics = {
        "validation_mse": trained.history[trained.best_epoch]["validation_mse"],
        "best_epoch": trained.best_epoch + 1,
        "training_seconds": round(trained.seconds, 2),
        "epochs": trained.history,
    }
    return Trained(jax.tree.map(np.asarray, trained.best), metrics)


def codes(module: generative.DenseAutoencoder, parameters: Parameters, images_u8: np.ndarray) -> np.ndarray:
    """Mean codes of images, [n, d]."""
    encode = jax.jit(lambda images: module.apply({"params": parameters}, to_unit_range(images), method="encode")[0])
    starts = range(0, len(images_u8), _EVALUATION_BATCH)
    return np.concatenate([np.asarray(encode(images_u8[start : start + _EVALUATION_BATCH])) for start in starts])


def noise_weight(spec: TrainingSpec) -> float:
    """The weight of the noise in what is shown: 0 where nothing is to be denoised."""
    return spec.noise_weight if isinstance(spec, DenoisingSpec) else 0.0


def noisy(images: jax.Array, weight: float, key: jax.Array) -> jax.Array:
    """(1 - w) x + w u, with u uniform in [0, 1] for each pixel."""
    return (1 - weight) * images + weight * jax.random.uniform(key, images.shape) if weight else images


def thumbnails(images: jax.Array, side: int) -> jax.Array:
    """Images [n, H, W, C] at side x side pixels, linearly interpolated without aliasing."""
    return jax.image.resize(images, (len(images), side, side, images.shape[-1]), "linear")


def reconstruction_error(
    module: generative.DenseAutoencoder, parameters: Parameters, images_u8: np.ndarray, weight: float = 0.0
) -> float:
    """Mean squared error of a pixel in [0, 1] after encoding and decoding the images, shown with noise of a weight."""

    starts = range(0, len(images_u8), _EVALUATION_BATCH)
    sums = [
        _square_errors(module, weight, parameters, images_u8[start : start + _EVALUATION_BATCH], jax.random.key(start))
        for start in starts
    ]
    return sum(map(float, sums)) / images_u8.size


@partial(jax.jit, static_argnums=(0, 1))
def _square_errors(
    module: generative.DenseAutoencoder, weight: float, parameters: Parameters, images_u8: jax.Array, key: jax.Array
) -> jax.Array:
    images = to_unit_range(images_u8)
    rebuilt = jax.nn.sigmoid(module.apply({"params": parameters}, noisy(images, weight, key)))
    return jnp.square(rebuilt - images).sum()


def _make_step(
    module: generative.DenseAutoencoder, optimiser: optax.GradientTransformation, train: jax.Array, weight: float
) -> Callable[..., tuple]:
    def loss_of(parameters: Parameters, images: jax.Array, key: jax.Array) -> jax.Array:
        def apply(value: jax.Array, method: str) -> Any:
            return module.apply({"params": parameters}, value, method=method)

        mean, log_variance = apply(noisy(images, weight, jax.random.fold_in(key, 1)), "encode")
        noise = jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape) if module.variational else 0 * mean
        logits = apply(mean + noise, "decode_logits")
        loss = optax.sigmoid_binary_cross_entropy(logits, images).sum()
        if isinstance(module, generative.TwoScaleAutoencoder):
            small = apply(mean + noise, "decode_thumbnail_logits")
            loss += optax.sigmoid_binary_cross_entropy(small, thumbnails(images, module.thumbnail)).sum()
        if module.variational:
            loss += jnp.sum(jnp.exp(log_variance) + mean**2 - 1 - log_variance) / 2
        return loss / len(images)

    @jax.jit
    def step(parameters: Parameters, state: Any, images: jax.Array, batch: jax.Array, key: jax.Array) -> tuple:
        loss, gradient = jax.value_and_grad(loss_of)(parameters, to_unit_range(images[batch]), key)
        with jax.numpy_dtype_promotion("standard"):  # optax does not hold to the strict rules that we test under
            updates, state = optimiser.update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), state, {"loss": loss}

    return lambda parameters, state, batch, key: step(parameters, state, train, batch, key)
