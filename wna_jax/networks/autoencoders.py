"""Autoencoders, plain, variational and denoising: their training, and what their codes are worth.

A `Coder` turns images into codes and codes into images: a trained `Autoencoder`, or the `PrincipalComponents` to
compare it with. `linear_probe` measures what the codes reveal of the classes, which no training was given.
"""

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import register_dataclass

from wna_jax.data import Dataset
from wna_jax.networks.models import generative, initialised
from wna_jax.networks.network import Parameters
from wna_jax.networks.training import Descent, Trained, TrainingSpec, descend, moved, to_unit_range
from wna_jax.runs.accumulate import in_batches, map_over
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Report, silent

_BATCH = 1000


@dataclass(frozen=True)
class DenoisingSpec(TrainingSpec):
    """An autoencoder that is shown (1 - w) x + w u, u uniform in [0, 1], and asked for x (Vincent et al. 2008)."""

    noise_weight: float = 0.5

    def __post_init__(self) -> None:
        """Validates the fields."""
        super().__post_init__()
        if not 0 < self.noise_weight < 1:
            raise InputError(f"noise_weight is {self.noise_weight}: it must be above 0 and below 1")


def default_spec(
    dataset: Dataset, model: str, seed: int = 0, epochs: int | None = None, noise_weight: float = 0.0
) -> TrainingSpec:
    """The usual spec of an autoencoder: Adam at 1e-3 for 10 epochs, or for as many as make 100,000 images.

    Args:
        dataset: what to train on.
        model: one of `generative.NAMES`.
        seed: of the training.
        epochs: another number of epochs.
        noise_weight: if above 0, of the noise that is to be removed.
    """
    if epochs is None:
        epochs = max(10, 100_000 // len(dataset.train.labels))
    usual = TrainingSpec(dataset.name, dataset.fingerprint, model, seed, epochs, peak_learning_rate=1e-3)
    return DenoisingSpec(**asdict(usual), noise_weight=noise_weight) if noise_weight else usual


def fit(spec: TrainingSpec, dataset: Dataset, report: Report = silent, state_dir: Path | None = None) -> Trained:
    """Trains an autoencoder of `generative.NAMES` by Adam at a constant rate.

    The loss is the cross-entropy of the pixels in [0, 1], summed over an image, and over its thumbnail if that is
    decoded too. A variational autoencoder adds the divergence of the code's distribution from N(0, 1), which makes the
    loss the negative evidence lower bound (Kingma & Welling 2014).

    Args:
        spec: what to train and how.
        dataset: its `train` images; the error on the `validation` images chooses the epoch.
        report: called every few steps with the batch's loss.
        state_dir: as in `training.descend`.

    Returns:
        The parameters and their metrics: validation_mse is the mean squared error per pixel in [0, 1]; a row of
        `epochs` has the training_mse (of at most 5,000 images) and validation_mse after the epoch.

    Raises:
        InputError: the model does not exist, or training diverged.
    """
    module = generative.create(spec.model, dataset.image_shape)
    key = jax.random.key(spec.seed)
    parameters = initialised(module, key, jnp.zeros((1, *dataset.image_shape)))
    weight = spec.noise_weight if isinstance(spec, DenoisingSpec) else 0.0
    step = _step_of(module, spec.peak_learning_rate, weight)
    train = jnp.asarray(dataset.train.images)
    splits = {"training_mse": dataset.train.images[:5000], "validation_mse": dataset.validation.images}

    def judge(parameters: Parameters) -> tuple[Parameters, dict[str, float]]:
        errors = {name: _reconstruction_error(module, parameters, images, weight) for name, images in splits.items()}
        return parameters, errors

    trained = descend(
        spec,
        len(dataset.train.labels),
        Descent(parameters, optax.adam(spec.peak_learning_rate).init(parameters)),
        lambda parameters, state, batch, index: step(parameters, state, train, batch, key, np.uint32(index - 1)),
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


class Coder(Protocol):
    """Turns images into codes and codes into images."""

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Images [n, H, W, C] in [0, 1] -> codes [n, d]."""

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Codes [n, d] -> images [n, H, W, C] in [0, 1]."""

    def decode_thumbnail(self, codes: np.ndarray) -> np.ndarray | None:
        """Codes [n, d] -> small images [n, h, h, C] in [0, 1], if the coder has them."""


@register_dataclass
@dataclass(frozen=True, eq=False)
class Autoencoder:
    """A trained autoencoder as a `Coder`; like a `Network`, it is a pytree whose leaves are the parameters."""

    module: generative.DenseAutoencoder = field(metadata={"static": True})
    parameters: Parameters

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Images [n, H, W, C], in [0, 1] or as uint8, -> mean codes [n, d]."""
        return self._apply("encode", images)[0]

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Codes [n, d] -> images [n, H, W, C] in [0, 1]."""
        return self._apply("decode", codes)

    def decode_thumbnail(self, codes: np.ndarray) -> np.ndarray | None:
        """Codes [n, d] -> small images [n, h, h, C] in [0, 1] of a `TwoScaleAutoencoder`; None of another."""
        has_thumbnails = isinstance(self.module, generative.TwoScaleAutoencoder)
        return self._apply("decode_thumbnail", codes) if has_thumbnails else None

    def _apply(self, method: str, values: np.ndarray) -> Any:
        return map_over(lambda batch: _applied(self.module, method, self.parameters, batch), (values,), _BATCH)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _applied(module: generative.DenseAutoencoder, method: str, parameters: Parameters, values: jax.Array) -> Any:
    shown = to_unit_range(values) if values.dtype == jnp.uint8 else values
    return module.apply({"params": parameters}, shown, method=method)


class PrincipalComponents:
    """The first principal components of training images [N, H, W, C] as a `Coder`: the best linear autoencoder."""

    def __init__(self, train_images: np.ndarray, size: int) -> None:
        """Finds the components; there are at most N - 1."""
        from sklearn.decomposition import PCA  # here, since it takes long to import

        self._shape, flat = train_images.shape[1:], train_images.reshape(len(train_images), -1)
        self._components = PCA(min(size, len(flat) - 1), svd_solver="covariance_eigh").fit(flat)

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Images [n, H, W, C] in [0, 1] -> codes [n, d]."""
        return self._components.transform(images.reshape(len(images), -1))

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Codes [n, d] -> images [n, H, W, C], not clipped to [0, 1]."""
        return self._components.inverse_transform(codes).reshape(-1, *self._shape)

    def decode_thumbnail(self, codes: np.ndarray) -> None:
        """There are no thumbnails."""


def linear_probe(train_codes: np.ndarray, train_labels: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The class that multinomial logistic regression on standardised training codes gives each code, [n]."""
    from sklearn.linear_model import LogisticRegression  # here, since it takes long to import

    mean, deviation = train_codes.mean(axis=0), np.maximum(train_codes.std(axis=0), 1e-6)
    classifier = LogisticRegression(max_iter=1000).fit((train_codes - mean) / deviation, train_labels)
    return classifier.predict((codes - mean) / deviation)


def noisy(images: jax.Array, weight: float, key: jax.Array) -> jax.Array:
    """(1 - w) x + w u, with u uniform in [0, 1] for each pixel."""
    return (1 - weight) * images + weight * jax.random.uniform(key, images.shape) if weight else images


def thumbnails(images: jax.Array, side: int) -> jax.Array:
    """Images [n, H, W, C] at side x side pixels, linearly interpolated without aliasing."""
    return jax.image.resize(images, (len(images), side, side, images.shape[-1]), "linear")


def _reconstruction_error(
    module: generative.DenseAutoencoder, parameters: Parameters, images_u8: np.ndarray, weight: float
) -> float:
    """Mean squared error per pixel in [0, 1] of the reconstructions of images that are shown with noise of a weight."""
    sums = [
        float(_square_errors(module, weight, parameters, batch, np.uint32(i * _BATCH)))
        for i, batch in enumerate(in_batches(images_u8, _BATCH))
    ]
    return sum(sums) / images_u8.size


@functools.partial(jax.jit, static_argnums=(0, 1))
def _square_errors(
    module: generative.DenseAutoencoder, weight: float, parameters: Parameters, images_u8: jax.Array, seed: jax.Array
) -> jax.Array:
    images = to_unit_range(images_u8)
    rebuilt = jax.nn.sigmoid(module.apply({"params": parameters}, noisy(images, weight, jax.random.key(seed))))
    return jnp.square(rebuilt - images).sum()


@functools.lru_cache(maxsize=16)
def _step_of(
    module: generative.DenseAutoencoder, learning_rate: float, weight: float
) -> Callable[..., tuple[Parameters, Any, dict[str, jax.Array]]]:
    """The jitted step of a kind of training; trainings that differ in seed or data alone share the compiled program."""
    optimiser = optax.adam(learning_rate)

    def loss_of(parameters: Parameters, images: jax.Array, key: jax.Array) -> jax.Array:
        apply = functools.partial(module.apply, {"params": parameters})
        mean, log_variance = apply(noisy(images, weight, jax.random.fold_in(key, 1)), method="encode")
        code = mean
        if module.variational:
            code += jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
        loss = optax.sigmoid_binary_cross_entropy(apply(code, method="decode_logits"), images).sum()
        if isinstance(module, generative.TwoScaleAutoencoder):
            small = apply(code, method="decode_thumbnail_logits")
            loss += optax.sigmoid_binary_cross_entropy(small, thumbnails(images, module.thumbnail)).sum()
        if module.variational:
            loss += jnp.sum(jnp.exp(log_variance) + mean**2 - 1 - log_variance) / 2
        return loss / len(images)

    @jax.jit
    def step(
        parameters: Parameters, state: Any, train: jax.Array, batch: jax.Array, seed_key: jax.Array, index: jax.Array
    ) -> tuple[Parameters, Any, dict[str, jax.Array]]:
        key = jax.random.fold_in(seed_key, index)
        loss, gradient = jax.value_and_grad(loss_of)(parameters, to_unit_range(train[batch]), key)
        return *moved(optimiser, parameters, state, gradient), {"loss": loss}

    return step
