"""Autoencoders, plain, variational and denoising: their training, and what their codes are worth.

A `Coder` turns images into codes and codes into images: a trained `Autoencoder`, or the `PrincipalComponents` to
compare it with. `linear_probe` measures what the codes reveal of the classes, which no training was given.
"""

import functools
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import register_dataclass

from wna_jax.data import Dataset
from wna_jax.networks.models import generative, initialised
from wna_jax.networks.network import Parameters
from wna_jax.networks.training import Descent, Figures, Step, Trained, TrainingSpec, descend, step_along, to_unit_range
from wna_jax.runs.accumulate import map_over, sum_over
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Report, silent
from wna_jax.runs.seeds import key_of

_BATCH = 1000


@dataclass(frozen=True)
class AutoencoderSpec(TrainingSpec):
    """An autoencoder's code has `code_size` numbers, None for the model's own size.

    With a `noise_weight` w it is shown (1 - w) x + w u, u uniform in [0, 1], and asked for x (Vincent et al. 2008).
    """

    code_size: int | None = None
    noise_weight: float | None = None

    def __post_init__(self) -> None:
        """Validates the fields."""
        super().__post_init__()
        if self.code_size is not None and self.code_size < 1:
            raise InputError(f"code_size is {self.code_size}: it must be above 0")
        if self.noise_weight is not None and not 0 < self.noise_weight < 1:
            raise InputError(f"noise_weight is {self.noise_weight}: it must be above 0 and below 1")


def default_spec(
    dataset: Dataset,
    model: str,
    seed: int = 0,
    epochs: int | None = None,
    noise_weight: float = 0.0,
    code_size: int | None = None,
) -> AutoencoderSpec:
    """The usual spec of one of `generative.NAMES`: Adam at 1e-3 for 10 epochs, or for as many as make 100,000 images.

    A `noise_weight` above 0 is that of the noise that is to be removed.
    """
    if epochs is None:
        epochs = max(10, 100_000 // len(dataset.train.labels))
    usual = TrainingSpec(dataset.name, dataset.fingerprint, model, seed, epochs, peak_learning_rate=1e-3)
    return AutoencoderSpec(**asdict(usual), code_size=code_size, noise_weight=noise_weight or None)


def fit(spec: TrainingSpec, dataset: Dataset, report: Report = silent, state_dir: Path | None = None) -> Trained:
    """Trains an autoencoder of `generative.NAMES` by Adam at a constant rate; the arguments are as in `training.fit`.

    The loss is the cross-entropy of the pixels in [0, 1], summed over an image, and over its thumbnail if that is
    decoded too. A variational autoencoder adds the divergence of the code's distribution from N(0, 1), which makes the
    loss the negative evidence lower bound (Kingma & Welling 2014).

    The error on the `validation` images chooses the epoch: validation_mse is the mean squared error per pixel in
    [0, 1]. A row of the metric `epochs` has this and the training_mse, of at most 5,000 images, after the epoch.

    Raises:
        InputError: the model does not exist, or training diverged.
    """
    own = spec if isinstance(spec, AutoencoderSpec) else AutoencoderSpec(**asdict(spec))
    module, weight = generative.create(spec.model, dataset.image_shape, own.code_size), own.noise_weight or 0.0
    step = _step_of(module, spec.peak_learning_rate, weight)
    parameters = initialised(module, key_of(spec.seed), jnp.zeros((1, *dataset.image_shape)))
    start = Descent(parameters, optax.adam(spec.peak_learning_rate).init(parameters))
    splits = {"training_mse": dataset.train.images[:5000], "validation_mse": dataset.validation.images}

    def mean_square_error(parameters: Parameters, images: np.ndarray) -> float:
        of_batch = functools.partial(_square_errors, module, weight, parameters)
        return float(sum_over(of_batch, (images, np.arange(len(images), dtype=np.uint32)), _BATCH)) / images.size

    def judge(parameters: Parameters) -> tuple[Parameters, Figures]:
        return parameters, {name: mean_square_error(parameters, images) for name, images in splits.items()}

    trained = descend(spec, dataset.train, start, step, judge, lambda row: -row["validation_mse"], report, state_dir)
    return trained.result({}, "validation_mse")


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


Coder = Autoencoder | PrincipalComponents
"""Turns images into codes and codes into images."""


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


@functools.partial(jax.jit, static_argnums=(0, 1))
def _square_errors(
    module: generative.DenseAutoencoder, weight: float, parameters: Parameters, images_u8: jax.Array, seeds: jax.Array
) -> jax.Array:
    """The summed square errors of the reconstructions of images that are shown with noise, of the first one's seed."""
    images = to_unit_range(images_u8)
    rebuilt = jax.nn.sigmoid(module.apply({"params": parameters}, noisy(images, weight, key_of(seeds[0]))))
    return jnp.square(rebuilt - images).sum()


@functools.lru_cache(maxsize=16)
def _step_of(module: generative.DenseAutoencoder, learning_rate: float, weight: float) -> Step:
    """The jitted step of a kind of training; trainings that differ in seed or data alone share the compiled program."""

    def loss_and_figures(parameters: Parameters, images: jax.Array, _: jax.Array, key: jax.Array) -> tuple:
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
        mean_loss = loss / len(images)
        return mean_loss, {"loss": mean_loss}

    return step_along(loss_and_figures, optax.adam(learning_rate), first=0)
