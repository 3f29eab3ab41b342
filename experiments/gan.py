"""Can a generator learn to make images that a discriminator takes for those of the data (a GAN)?

A DCGAN in the size of the images. Reports the losses, what the same codes become over the training, and how far the
generated images are from test images: the sliced Wasserstein distance, beside that of training images (the best there
is) and of noise that matches the pixels. Where the data have classes, a trained classifier (--model) says what it sees.

  python -m experiments.gan --dataset=mnist
  python -m experiments.gan --dataset=folder:faces --image_size=64 --width=16 --epochs=30

A stopped run resumes; with more --epochs a finished one does. Writes to --out_dir: samples.png, training.png,
losses.png, distance.png, samples.npz, metrics.json, config.json, log.jsonl and state/.
"""

from collections.abc import Callable
from dataclasses import replace

import jax
import numpy as np

from experiments import launch, shared
from experiments.settings import NetworkSettings, setting
from wna_jax import correlation, data, figures, noise
from wna_jax.networks import gan_scores, gans, models, training
from wna_jax.networks.gans import AdversarialSpec

_EPOCHS, _COMPARED, _SURE = 20, 2000, 0.9
_ROWS, _COLUMNS = 6, 12


class Settings(NetworkSettings):
    """The settings of one run; epochs and train_seed are the GAN's."""

    model: str = setting("paper_cnn", f"The classifier that judges generated images: {', '.join(models.NAMES)}.")
    epochs: int | None = setting(None, f"Passes over the training images; {_EPOCHS} by default.", at_least=1)
    width: int = setting(AdversarialSpec.width, "Channels of both networks at half the images' size.")
    code_size: int = setting(AdversarialSpec.code_size, "Numbers in a code.")
    hidden: int = setting(
        AdversarialSpec.hidden, "Units of a dense layer in both networks, next to code and answer; 0 for none."
    )
    penalty: float = setting(
        AdversarialSpec.penalty,
        "Weight of the penalty on the discriminator's slope at real images (R1), without which it wins; 0 for none.",
    )
    real_images: int = setting(AdversarialSpec.batch_size, "Real images per step; as many are generated.")
    learning_rate: float = setting(AdversarialSpec.learning_rate, "Learning rate of Adam, for both networks.")
    beta1: float = setting(AdversarialSpec.beta1, "Momentum of Adam, for both networks.")


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """A trained GAN to its images, losses and distances, and what a classifier says of the images."""
    dataset = shared.load_data(settings, report)
    chosen = {
        name: getattr(settings, name) for name in ("learning_rate", "beta1", "width", "code_size", "hidden", "penalty")
    }
    chosen |= {"seed": settings.train_seed, "batch_size": settings.real_images}
    spec = AdversarialSpec(dataset.name, dataset.fingerprint, **chosen)
    epochs = _EPOCHS if settings.epochs is None else settings.epochs
    gans.networks(spec, dataset.image_shape)  # raises before the classifier is trained
    judge = None
    if dataset.num_classes > 1:
        data.check_classes(dataset)
        judge = shared.trained_network(replace(settings, epochs=None, train_seed=0), dataset, report).network
    trained = gans.fit(spec, dataset, epochs, settings.folder / "state", report)
    real, rng, pixels = dataset.train.images, np.random.default_rng(settings.train_seed), noise.matched(dataset)
    test = dataset.test_images[: min(_COMPARED, len(real))]
    n, seed = len(test), settings.train_seed + 1
    samples = trained.generate(n, seed)
    answers: dict[str, np.ndarray] = {}
    if judge:
        shown = {"generated": samples, "test": test}
        answers = {kind: np.asarray(jax.nn.softmax(training.predict(judge, of))) for kind, of in shown.items()}
    kinds: dict[str, Callable[[int], np.ndarray]] = {
        "generated": lambda draw: trained.generate(n, seed + draw),
        "training": lambda _: real[rng.choice(len(real), n, replace=False)] / np.float32(255),
        "noise": lambda draw: np.asarray(correlation.draw_samples(pixels, n, seed=draw)),
    }
    distances = gan_scores.repeated_distances(kinds, test)
    judged = {kind: gan_scores.confident_answers(of, _SURE) for kind, of in answers.items()}
    best = gan_scores.distance_of_training_images(dataset)
    metrics = {
        "num_train": len(real),
        "epochs": epochs,
        "steps": trained.steps,
        "parameters": trained.parameter_counts,
        "sliced_wasserstein": distances,
        "sliced_wasserstein_by_step": trained.distances,
        "sliced_wasserstein_of_training_from_validation": best,
        "mean_losses_of_last_steps": {
            "steps": min(100, trained.steps),
            **dict(zip(gans.NETWORKS, trained.losses[-100:].mean(axis=0).tolist(), strict=True)),
        },
        "judged": {kind: found._asdict() for kind, found in judged.items()},
    }
    summary = []
    for kind, (mean, spread) in distances.items():
        summary.append(f"{kind:10s} {mean:.4f} ± {spread:.4f} from test images (sliced Wasserstein distance)")
    for kind, found in judged.items():
        sure = f"{found.confident:.1%} called with confidence > {_SURE}"
        summary.append(f"{kind:10s} {sure}; these by class {found.counts}")
    what = f"{dataset.title} ({len(real):,} images, {trained.steps:,} steps)"

    def draw() -> launch.Drawn:
        columns = min(_COLUMNS, n)
        rows = min(_ROWS, n // columns)
        grid = samples[: rows * columns].reshape(rows, columns, *dataset.image_shape)
        title, captions = f"Images of random codes by a GAN of {what}", []
        if judge:
            title += f"; what {settings.model} calls them"
            called = [f"{dataset.class_names[p.argmax()]} {p.max():.2f}" for p in answers["generated"]]
            captions = [called[row * columns : (row + 1) * columns] for row in range(rows)]
        yield "samples.png", figures.gallery(grid, [""] * rows, title, captions)
        labels = [f"{steps:,} steps" for steps in trained.snapshots]
        title = f"The same random codes as training goes on: generator of a GAN of {what}"
        yield "training.png", figures.gallery(np.stack(list(trained.snapshots.values())), labels, title)
        parts = np.array_split(np.arange(trained.steps), min(60, trained.steps))
        at, means = [part.mean() for part in parts], np.stack([trained.losses[part].mean(axis=0) for part in parts])
        panels = {"": {name: figures.Curve(at, means[:, i]) for i, name in enumerate(gans.NETWORKS)}}
        title = f"Losses of a GAN of {what}; dotted: that of a discriminator that knows nothing"
        limits, ignorant = (0, None), 2 * np.log(2)
        yield "losses.png", figures.curves(panels, "steps", "nats", title, level=ignorant, y_limits=limits)
        curve = figures.Curve([max(1, steps) for steps in trained.distances], np.array([*trained.distances.values()]))
        title = f"Distance from validation images of those generated by a GAN of {what}; dotted: of training images"
        axes, panels = ("steps (the first: untrained)", "sliced Wasserstein distance"), {"": {"generated": curve}}
        yield "distance.png", figures.curves(panels, *axes, title, level=best, x_scale="log", y_limits=limits)

    samples_u8 = np.round(255 * samples).astype(np.uint8)
    return launch.Result(metrics, summary, draw, {"samples.npz": {"samples": samples_u8, "losses": trained.losses}})


if __name__ == "__main__":
    launch.main(run, Settings)
