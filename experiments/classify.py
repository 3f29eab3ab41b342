"""Trains a network to classify, and reports how well it does: curves, confusions, each class, the surest answers.

  python -m experiments.classify                                             embedded digits, no download
  python -m experiments.classify --dataset=mnist --model=flat_cnn
  python -m experiments.classify --dataset=cifar10 --model=deep_cnn --epochs=100
  python -m experiments.classify --dataset=mnist --noise=gaussian:0,1    noisy test images as well (--noise_weight)

The parameters are those of the epoch with the best accuracy on the validation images; the test images have no part in
the choice. How sure an answer is, is measured by its log odds, log p / (1 - p): in float32 many p are 1.

Writes to --out_dir: curves.png, confusion.png, answers.png (the surest right and the surest wrong test images),
predictions.npz (logits and labels of the test images), metrics.json, config.json and log.jsonl.
"""

from experiments import launch, shared
from experiments.settings import AugmentationSettings, choice, setting
from wna_jax import figures, statistics
from wna_jax.networks import training
from wna_jax.runs.errors import InputError

_NOISE_WEIGHT = 0.2


class Settings(AugmentationSettings):
    """The settings of one run."""

    noise: str | None = setting(
        None, "Also classify test images in this noise, named as in noise_maps, such as gaussian:0,1."
    )
    noise_weight: float = choice(_NOISE_WEIGHT, "Weight of the noise in noisy images.", at_least=0, at_most=1)
    seed: int = setting(0, "Random seed of the noise.", at_least=0, at_most=2**32 - 1)


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """A trained network to its scores on test images, with and without noise."""
    if settings.noise is None and settings.noise_weight != _NOISE_WEIGHT:
        raise InputError(f"noise_weight is {settings.noise_weight} of no noise: give --noise too, such as gaussian:0,1")
    dataset = shared.load_classes(settings, report)
    labels, shown = dataset.test.labels, {"test": dataset.test_images}
    if settings.noise:  # before the training, which a wrong name would waste
        shown["noisy_test"] = shared.noisy_images(settings, dataset, dataset.test_images, report)
    trained = shared.trained_network(settings, dataset, report)
    logits = {name: training.predict(trained.network, images) for name, images in shown.items()}
    answers = {name: of.argmax(axis=1) for name, of in logits.items()}
    scores = {name: statistics.classification_report(labels, of, dataset.num_classes) for name, of in answers.items()}
    sizes = {split: len(getattr(dataset, split).labels) for split in ("train", "validation", "test")}
    metrics = {
        "parameters": trained.network.parameter_count,
        "num_images": sizes,
        **trained.metrics,
        **{name: of.as_json(dataset.class_names) for name, of in scores.items()},
    }
    what = shared.title_of(settings, dataset)
    seen = {"test": "test images", "noisy_test": f"test images in {settings.noise_weight} {settings.noise} noise"}

    def draw() -> launch.Drawn:
        title = f"Training of {what}: {sizes['train']:,} training images (seen while the network learns), "
        title += f"{sizes['validation']:,} validation images; {scores['test']} of {sizes['test']:,} test images right"
        yield "curves.png", figures.learning_curves(metrics["epochs"], metrics["best_epoch"], title)
        matrices = {f"{sizes['test']:,} {seen[name]}, {of} right": of.confusion for name, of in scores.items()}
        title = f"{what}: share of each true class, in per cent"
        yield "confusion.png", figures.confusions(matrices, dataset.class_names, title)
        answers = figures.surest_answers(dataset.test.images, labels, logits["test"], dataset.class_names, what)
        yield "answers.png", answers

    summary = [
        f"parameters      {metrics['parameters']:,}",
        f"test accuracy   {scores['test']}, loss {metrics['test_loss']:.4f}",
        f"best epoch      {metrics['best_epoch']} of {len(metrics['epochs'])}, {metrics['training_seconds']:.0f} s",
        *scores["test"].table(dataset.class_names),
    ]
    if settings.noise:
        summary += [f"in noise        {scores['noisy_test']}", *scores["noisy_test"].table(dataset.class_names)]
    arrays = {"labels": labels} | {f"logits_{name}": of for name, of in logits.items()}
    return launch.Result(metrics, summary, draw, {"predictions.npz": arrays})


if __name__ == "__main__":
    launch.main(run, Settings)
