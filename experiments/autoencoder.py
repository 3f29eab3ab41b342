"""What does a convolutional autoencoder keep of an image in its code?

Two are trained, a plain and a variational one, each with a code of 64 numbers (--code_size). Shown are reconstructions
of test images, the errors epoch by epoch, and the decodings along the straight line between the codes of two test
images. How much the codes reveal of the classes, which no training was given, is the accuracy of a linear classifier on
them. All of this is compared with principal components, as many as the largest code has numbers.

  python -m experiments.autoencoder --dataset=mnist
  python -m experiments.autoencoder --dataset=mnist --denoise=0.5     noisy images are shown, the clean ones asked for
  python -m experiments.autoencoder --dataset=mnist --code_size=256   larger codes, which tell more of the classes
  python -m experiments.autoencoder --dataset=mnist --autoencoders=two_scale_autoencoder     and a thumbnail of 10x10

Writes to --out_dir: reconstructions.png, errors.png, walk.png, codes.npz, metrics.json, config.json and log.jsonl.
"""

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import launch, shared
from experiments.settings import DataSettings, choice, setting
from wna_jax import figures, statistics
from wna_jax.networks import autoencoders, checkpoints
from wna_jax.networks.models import generative
from wna_jax.runs.seeds import key_of

_SHOWN, _STEPS, _PCA = 10, 10, "principal components"


class Settings(DataSettings):
    """The settings of one run."""

    autoencoders: tuple[str, ...] = choice(
        ("conv_autoencoder", "conv_vae"),
        f"The autoencoders to train: {', '.join(generative.NAMES)}.",
        choices=generative.NAMES,
        kind="autoencoder",
    )
    denoise: float = choice(
        0.0, "Weight of uniform noise in the images shown; 0 shows the images as they are.", at_least=0, at_most=0.9
    )
    code_size: int | None = choice(
        None, "Numbers in a code; by default 64, of the dense ones 9 (autoencoder) and 20 (vae).", at_least=1
    )
    epochs: int | None = setting(None, "Passes over the training images. By default as many as the data set needs.")
    train_seed: int = setting(0, "Random seed of the training.", at_least=0, at_most=2**32 - 1)
    checkpoint_dir: str = setting("runs/checkpoints", "Where trained networks are kept, and found again.")
    retrain: bool = setting(False, "Train even if there is a checkpoint, and replace it.")


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Trained autoencoders, and principal components, to errors, codes and what these know."""
    dataset = shared.load_data(settings, report)
    metrics: dict[str, Any] = {"denoise": settings.denoise}
    coders: dict[str, autoencoders.Coder] = {}
    unusual = {"code": settings.code_size, "denoise": settings.denoise}
    directory = Path(settings.checkpoint_dir) / "".join(f"{name}{value:g}" for name, value in unusual.items() if value)
    for name in settings.autoencoders:
        spec = autoencoders.default_spec(
            dataset, name, settings.train_seed, settings.epochs, settings.denoise, settings.code_size
        )
        trained, _ = checkpoints.load_or_train(spec, dataset, directory, settings.retrain, report, autoencoders.fit)
        module = generative.create(name, dataset.image_shape, settings.code_size)
        coders[name] = autoencoders.Autoencoder(module, trained.parameters)
        metrics[name] = trained.metrics
    train, test = dataset.train.images / np.float32(255), dataset.test_images
    shown = np.asarray(autoencoders.noisy(jnp.asarray(test), settings.denoise, key_of(settings.train_seed)))
    size = max(
        generative.create(name, dataset.image_shape, settings.code_size).code_size for name in settings.autoencoders
    )
    coders[_PCA] = autoencoders.PrincipalComponents(train, size)
    codes = {name: coder.encode(shown) for name, coder in coders.items()}
    summary = []
    for name, coder in coders.items():
        found = metrics.setdefault(name, {})
        found["code_size"] = codes[name].shape[1]
        found["test_mse"] = float(np.mean((coder.decode(codes[name]) - test) ** 2))
        if (small := coder.decode_thumbnail(codes[name])) is not None:
            found["thumbnail_test_mse"] = float(np.mean((small - _shrunk(test, small)) ** 2))
        if len(np.unique(dataset.train.labels)) > 1:
            clean = coder.encode(test) if settings.denoise else codes[name]
            answers = autoencoders.linear_probe(coder.encode(train), dataset.train.labels, clean)
            scores = statistics.classification_report(dataset.test.labels, answers, dataset.num_classes)
            found["linear_probe"] = {"accuracy": scores.accuracy, "interval": list(map(float, scores.interval))}
        probe = f", linear probe {found['linear_probe']['accuracy']:.2%}" if "linear_probe" in found else ""
        thumbnail = f", of thumbnails {found['thumbnail_test_mse']:.5f}" if "thumbnail_test_mse" in found else ""
        errors = f"test error {found['test_mse']:.5f}{thumbnail}"
        summary.append(f"{name:21s} code of {found['code_size']}, {errors}{probe}")
    arrays = {"labels": dataset.test.labels} | {f"codes_{name.replace(' ', '_')}": of for name, of in codes.items()}
    first = [np.flatnonzero(dataset.test.labels == k)[:_SHOWN] for k in range(dataset.num_classes)]
    in_turn = [index for group in itertools.zip_longest(*first) for index in group if index is not None]
    chosen, noise = np.array(in_turn[:_SHOWN]), f", shown with {settings.denoise:g} noise" if settings.denoise else ""

    def draw() -> launch.Drawn:
        rows = {"test images": test[chosen]} | ({"as shown": shown[chosen]} if settings.denoise else {})
        for name, coder in coders.items():
            rows[f"{name}\nerror {metrics[name]['test_mse']:.2g}"] = coder.decode(codes[name][chosen])
            if (small := coder.decode_thumbnail(codes[name][chosen])) is not None:
                side, error = "x".join(map(str, small.shape[1:3])), metrics[name]["thumbnail_test_mse"]
                rows[f"test images,\n{side}"] = _enlarged(_shrunk(test[chosen], small), test)
                rows[f"{name}\n{side}, error {error:.2g}"] = _enlarged(small, test)
        errors = f"mean squared errors of {len(test):,} images"
        title = f"Test images of {dataset.title}{noise} and their reconstructions; {errors}"
        yield "reconstructions.png", figures.gallery(np.stack(list(rows.values())), list(rows), title)
        curves = {}
        for name, split in itertools.product(settings.autoencoders, ("training", "validation")):
            values = np.array([row[f"{split}_mse"] for row in metrics[name]["epochs"]])
            label = f"{name} ({metrics[name]['code_size']}), {split}"
            curves[label] = figures.Curve(range(1, len(values) + 1), values)
        title = f"Reconstruction of {dataset.title}{noise}, by codes of so many numbers; dotted: "
        title += f"{metrics[_PCA]['code_size']} principal components, test"
        axes, level = ("epoch", "mean squared error"), metrics[_PCA]["test_mse"]
        yield "errors.png", figures.curves({"": curves}, *axes, title, level=level, y_limits=(0, None))
        share = np.linspace(0, 1, _STEPS, dtype=np.float32)[:, None]
        between = {name: (1 - share) * of[chosen[0]] + share * of[chosen[-1]] for name, of in codes.items()}
        images = np.stack([coder.decode(between[name].astype(np.float32)) for name, coder in coders.items()])
        title = f"On the straight line between the codes of two test images of {dataset.title}"
        yield "walk.png", figures.gallery(images, list(coders), title, (), [f"{at:.2f}" for at in share[:, 0].tolist()])

    return launch.Result(metrics, summary, draw, {"codes.npz": arrays})


def _shrunk(images: np.ndarray, like: np.ndarray) -> np.ndarray:
    return np.asarray(autoencoders.thumbnails(jnp.asarray(images), like.shape[1]))


def _enlarged(images: np.ndarray, like: np.ndarray) -> np.ndarray:
    return np.asarray(jax.image.resize(images, (len(images), *like.shape[1:]), "nearest"))


if __name__ == "__main__":
    launch.main(run, Settings)
