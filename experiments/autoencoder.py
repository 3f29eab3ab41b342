"""What does a convolutional autoencoder keep of an image in its code?

Two are trained, a plain and a variational one, each with a code of 64 numbers. Shown are reconstructions of test
images, the errors epoch by epoch, and the decodings on the straight way between the codes of two test images. How much
the codes know of the classes, which no training was told, is the accuracy of a linear classifier on them. All of this
stands beside principal components, as many as the largest code has numbers.

  python -m experiments.autoencoder --dataset=mnist
  python -m experiments.autoencoder --dataset=mnist --denoise=0.5     noisy images are shown, the clean ones asked for
  python -m experiments.autoencoder --dataset=mnist --autoencoders=two_scale_autoencoder     and a thumbnail of 10x10

Writes to --out_dir: reconstructions.png, errors.png, walk.png, codes.npz, metrics.json, config.json and log.jsonl.
"""

import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from experiments import common
from wna_jax import autoencoding, checkpoints, data, figures, statistics
from wna_jax.errors import InputError, unknown_name
from wna_jax.models import generative

flags.DEFINE_list(
    "autoencoders", "conv_autoencoder,conv_vae", f"which to train, comma-separated: {', '.join(generative.NAMES)}"
)
flags.DEFINE_float(
    "denoise",
    0.0,
    "weight of uniform noise in what is shown; 0: the images as they are",
    lower_bound=0,
    upper_bound=0.9,
)

_SHOWN = 10
_STEPS = 10
_PCA = "principal components"


@dataclass(frozen=True)
class Settings:
    """The flags of one run, as a value."""

    dataset: str
    data_dir: str | None
    autoencoders: tuple[str, ...]
    denoise: float
    epochs: int | None
    train_seed: int
    out_dir: str
    checkpoint_dir: str
    retrain: bool


class Coder(NamedTuple):
    """Something that makes codes of images, and images of codes."""

    encode: Callable[[np.ndarray], np.ndarray]
    """Images [n, H, W, C] in [0, 1] -> codes [n, d]."""
    decode: Callable[[np.ndarray], np.ndarray]
    """Codes [n, d] -> images [n, H, W, C] in [0, 1]."""
    decode_thumbnail: Callable[[np.ndarray], np.ndarray] | None = None
    """Codes [n, d] -> small images [n, h, h, C] in [0, 1], where the coder has them."""


def run(settings: Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    out_dir = common.open_output(settings)
    if not settings.autoencoders:
        raise InputError(f"autoencoders is empty: choose from {', '.join(generative.NAMES)}")
    for name in settings.autoencoders:
        if name not in generative.NAMES:
            raise unknown_name("autoencoder", name, generative.NAMES)
    coders: dict[str, Coder] = {}
    metrics: dict[str, Any] = {"denoise": settings.denoise}
    with common.reporting(out_dir) as report:
        dataset = data.load(settings.dataset, settings.data_dir, report)
        for name in settings.autoencoders:
            spec = _spec(settings, dataset, name)
            directory = Path(settings.checkpoint_dir) / (f"denoise{settings.denoise:g}" if settings.denoise else "")
            trained, _ = checkpoints.load_or_train(spec, dataset, directory, settings.retrain, report, autoencoding.fit)
            coders[name] = _coder(generative.create(name, dataset.image_shape), trained.parameters)
            metrics[name] = trained.metrics
    train, test = (split.images / np.float32(255) for split in (dataset.train, dataset.test))
    shown = np.asarray(autoencoding.noisy(jnp.asarray(test), settings.denoise, jax.random.key(settings.train_seed)))
    size = max(generative.create(name, dataset.image_shape).code_size for name in settings.autoencoders)
    coders[_PCA] = _principal_components(train, min(size, len(train) - 1))
    arrays: dict[str, Any] = {"labels": dataset.test.labels}
    for name, coder in coders.items():
        codes = coder.encode(shown)
        found = metrics.setdefault(name, {})
        found["code_size"] = codes.shape[1]
        found["test_mse"] = float(np.mean((coder.decode(codes) - test) ** 2))
        if coder.decode_thumbnail:
            small = coder.decode_thumbnail(codes)
            found["thumbnail_test_mse"] = float(np.mean((small - _thumbnails(test, small)) ** 2))
        if len(np.unique(dataset.train.labels)) > 1:
            clean = codes if not settings.denoise else coder.encode(test)
            found["linear_probe"] = _probe(coder.encode(train), clean, dataset)
        arrays[f"codes_{name.replace(' ', '_')}"] = codes
    common.write_json(out_dir / "metrics.json", metrics)
    common.write_config(out_dir, settings)
    common.write_arrays(out_dir / "codes.npz", **arrays)
    _draw(settings, out_dir, dataset, coders, test, shown, metrics)
    for name in coders:
        found = metrics[name]
        probe = f", linear probe {found['linear_probe']['accuracy']:.2%}" if "linear_probe" in found else ""
        thumbnail = f", of thumbnails {found['thumbnail_test_mse']:.5f}" if "thumbnail_test_mse" in found else ""
        print(f"{name:21s} code of {found['code_size']}, test error {found['test_mse']:.5f}{thumbnail}{probe}")
    print(f"look at               {out_dir / 'reconstructions.png'}")


def _spec(settings: Settings, dataset: data.Dataset, name: str) -> autoencoding.TrainingSpec:
    usual = asdict(autoencoding.default_spec(dataset, name))
    usual |= {"seed": settings.train_seed, "epochs": usual["epochs"] if settings.epochs is None else settings.epochs}
    if settings.denoise:
        return autoencoding.DenoisingSpec(**usual, noise_weight=settings.denoise)
    return autoencoding.TrainingSpec(**usual)


def _coder(module: generative.DenseAutoencoder, parameters: Any) -> Coder:
    def in_batches(method: str) -> Callable[[np.ndarray], np.ndarray]:
        apply = jax.jit(lambda values: module.apply({"params": parameters}, values, method=method))

        def call(values: np.ndarray) -> np.ndarray:
            parts = [apply(values[i : i + 1000]) for i in range(0, len(values), 1000)]
            return np.concatenate([part[0] if method == "encode" else part for part in parts])

        return call

    two_scale = isinstance(module, generative.TwoScaleAutoencoder)
    return Coder(in_batches("encode"), in_batches("decode"), in_batches("decode_thumbnail") if two_scale else None)


def _thumbnails(images: np.ndarray, like: np.ndarray) -> np.ndarray:
    return np.asarray(autoencoding.thumbnails(jnp.asarray(images), like.shape[1]))


def _principal_components(train: np.ndarray, size: int) -> Coder:
    shape = train.shape[1:]
    pca = PCA(size, svd_solver="covariance_eigh").fit(train.reshape(len(train), -1))
    return Coder(
        lambda images: pca.transform(images.reshape(len(images), -1)),
        lambda codes: pca.inverse_transform(codes).reshape(-1, *shape),
    )


def _probe(train_codes: np.ndarray, test_codes: np.ndarray, dataset: data.Dataset) -> dict[str, Any]:
    """Test accuracy of multinomial regression on standardised codes, and its 95% interval."""
    mean, deviation = train_codes.mean(axis=0), np.maximum(train_codes.std(axis=0), 1e-6)
    classifier = LogisticRegression(max_iter=1000).fit((train_codes - mean) / deviation, dataset.train.labels)
    right = int((classifier.predict((test_codes - mean) / deviation) == dataset.test.labels).sum())
    low, high = statistics.wilson_interval(np.array(right), len(dataset.test.labels))
    return {"accuracy": right / len(dataset.test.labels), "interval": [float(low), float(high)]}


def _enlarged(small: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(jax.image.resize(small, (len(small), *shape[1:]), "nearest"))


def _draw(
    settings: Settings,
    out_dir: Path,
    dataset: data.Dataset,
    coders: dict[str, Coder],
    test: np.ndarray,
    shown: np.ndarray,
    metrics: dict[str, Any],
) -> None:
    first = [np.flatnonzero(dataset.test.labels == k)[:_SHOWN] for k in range(dataset.num_classes)]
    in_turn = (index for group in itertools.zip_longest(*first) for index in group if index is not None)
    chosen = np.array(list(in_turn)[:_SHOWN])
    rows = {"test images": test[chosen]}
    if settings.denoise:
        rows["as shown"] = shown[chosen]
    for name, coder in coders.items():
        rows[f"{name}\nerror {metrics[name]['test_mse']:.2g}"] = coder.decode(coder.encode(shown[chosen]))
        if coder.decode_thumbnail:
            small = coder.decode_thumbnail(coder.encode(shown[chosen]))
            told = f"{small.shape[1]}x{small.shape[2]}"
            rows[f"test images,\n{told}"] = _enlarged(_thumbnails(test[chosen], small), test.shape)
            error = metrics[name]["thumbnail_test_mse"]
            rows[f"{name}\n{told}, error {error:.2g}"] = _enlarged(small, test.shape)
    noise = f", shown with {settings.denoise:g} noise" if settings.denoise else ""
    title = (
        f"Test images of {dataset.title}{noise} and their reconstructions; mean squared errors of {len(test):,} images"
    )
    common.save(figures.gallery(np.stack(list(rows.values())), list(rows), title), out_dir / "reconstructions.png")

    curves = {}
    for name in settings.autoencoders:
        for split in ("training", "validation"):
            values = np.array([row[f"{split}_mse"] for row in metrics[name]["epochs"]])
            curves[f"{name} ({metrics[name]['code_size']}), {split}"] = figures.Curve(
                range(1, len(values) + 1), values, statistics.Interval(values, values)
            )
    title = f"Reconstruction of {dataset.title}{noise}, by codes of so many numbers; dotted: "
    title += f"{metrics[_PCA]['code_size']} principal components, test"
    common.save(
        figures.curves(
            {"": curves}, "epoch", "mean squared error", title, level=metrics[_PCA]["test_mse"], y_limits=(0, None)
        ),
        out_dir / "errors.png",
    )

    ends = shown[chosen[[0, -1]]]
    share = np.linspace(0, 1, _STEPS)[:, None]
    walks = {}
    for name, coder in coders.items():
        codes = coder.encode(ends)
        walks[name] = coder.decode(((1 - share) * codes[:1] + share * codes[1:]).astype(np.float32))
    title = f"On the straight way between the codes of two test images of {dataset.title}"
    columns = [f"{float(value):.2f}" for value in share[:, 0]]
    common.save(figures.gallery(np.stack(list(walks.values())), list(walks), title, (), columns), out_dir / "walk.png")


if __name__ == "__main__":
    common.main(run, Settings)
