"""Which method tells best on which pixels of an image an answer rests? Classification images beside four others.

For each of some test images, what each pixel contributes to the network's answer is estimated by the classification
image of noise around the image, occlusion, RISE, SmoothGrad and integrated gradients, on equal numbers of network
passes (wna_jax/studies/attributions.py). The probability of the answer is then followed while pixels are taken away
(deletion: a good map has a low score) or put in (insertion: a high one), the most important first (Petsiuk, Das &
Saenko 2018).

  python -m experiments.insertion_deletion                              embedded digits, no download
  python -m experiments.insertion_deletion --dataset=cifar10 --model=plain_cnn --epochs=6

The contrast of the noise is the median threshold of 20 validation images. Intervals are 95%, by bootstrap over images;
differences from the classification image of the logit are paired. No method was tuned on test images.

Writes to --out_dir: scores.png, curves.png, scores.npz, metrics.json, config.json, log.jsonl and state/ (to go on
from).
"""

from typing import Any

import numpy as np

from experiments import launch, shared
from experiments.settings import PictureSettings, choice, setting
from wna_jax import data, figures, noise, statistics
from wna_jax.runs.fingerprints import fingerprint
from wna_jax.studies import attributions, local

_FOR_CONTRAST = 20  # validation images
_DRAWN = (
    *("classification image, logit", "classification image, decision", "occlusion, logit", "RISE, probability"),
    *("SmoothGrad, logit", "integrated gradients, probability", "random order"),
)


_FIRST = "classification image, logit"
"""The best of the three classification images on 10 validation images of MNIST, before any test image was scored."""
_HEADINGS = {"deletion": "deletion: lower is better", "insertion": "insertion: higher is better"}


class Settings(PictureSettings):
    """The settings of one run."""

    TAKES_OWN_NETWORKS = True

    num_images: int = setting(100, "How many test images, drawn at random.", at_least=2)
    num_passes: int = choice(
        3_000, "Network passes of each method per image; a gradient counts as three.", at_least=200
    )


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Test images through all methods to deletion and insertion curves."""
    dataset = shared.load_classes(settings, report)
    attributions.patches(dataset.image_shape[:2], num_passes=settings.num_passes)  # before any training
    trained = shared.trained_network(settings, dataset, report)
    network = trained.network
    contrast = settings.contrast or usual_contrast(network, dataset, settings.seed, settings.coarseness)
    which = np.random.default_rng(settings.seed).permutation(len(dataset.test.labels))[: settings.num_images]
    pictures = dataset.test_images[which]
    references = np.stack([attributions.reference(settings.reference, picture, dataset) for picture in pictures])
    found = local.compare(
        network,
        pictures,
        references,
        contrast,
        settings.num_passes,
        factor=settings.coarseness,
        seed=settings.seed,
        state_dir=settings.folder / "state",
        identity={"data": dataset.fingerprint, "network": fingerprint(network), "reference": settings.reference},
        report=report,
    )
    n, scores = len(pictures), found.scores
    first = found.methods.index(_FIRST)
    rows: dict[str, dict[str, Any]] = {}
    for i, method in enumerate(found.methods):
        rows[method] = {
            name: {
                "mean": float(of[:, i].mean()),
                "interval_95": _ends(of[:, i]),
                "minus_first": float((of[:, i] - of[:, first]).mean()),
                "minus_first_interval_95": _ends(of[:, i] - of[:, first]),
            }
            for name, of in scores.items()
        }
    metrics = {
        "test_accuracy": trained.test_accuracy,
        "num_images": n,
        "num_passes": settings.num_passes,
        "contrast": contrast,
        "answers_that_noise_never_changed": found.unchanged,
        "first": _FIRST,
        "scores": rows,
    }
    what = f"{settings.model} on {dataset.title}: {n} test images, {settings.num_passes:,} passes per method and image"

    def draw() -> launch.Drawn:
        ordered = [_FIRST, *(method for method in rows if method not in (_FIRST, local.RANDOM))]
        panels: dict[str, Any] = {
            heading: {
                method: (rows[method][name]["mean"], statistics.Interval(*rows[method][name]["interval_95"]))
                for method in ordered
            }
            for name, heading in _HEADINGS.items()
        }
        chance = " and ".join(f"{rows[local.RANDOM][name]['mean']:.3f} ({name})" for name in scores)
        note = "Mean area under the curve of the answer's probability while the most important pixels are replaced "
        note += f"(deletion) or put in (insertion), with 95% bootstrap intervals over images. A random order: {chance}."
        squares = f"squares of {settings.coarseness}, " * (settings.coarseness > 1)
        ours = [method for method in rows if method.startswith("classification image")]
        yield (
            "scores.png",
            figures.point_ranges(panels, ours, f"{what}, {squares}noise of deviation {contrast:.2f}", note),
        )
        curves: dict[str, dict[str, figures.Curve]] = {}
        for name, heading in _HEADINGS.items():
            index = {method: found.methods.index(method) for method in _DRAWN if method in found.methods}
            drawn = {method: getattr(found, name)[:, i] for method, i in index.items()}
            curves[heading] = {
                method: figures.Curve(found.share.tolist(), of.mean(axis=0), statistics.bootstrap_interval(of))
                for method, of in drawn.items()
            }
        axes = "share of the pixels, most important first", "probability of the answer"
        yield "curves.png", figures.curves(curves, *axes, f"{what}; 95% intervals")

    summary = [
        f"test accuracy   {trained.test_accuracy:.2%}; noise of deviation {contrast:.3f}; {n} images",
        f"{'score [95% interval], and minus the first':36s}" + "".join(f"{name:>46s}" for name in _HEADINGS.values()),
    ]
    for method in [_FIRST, *(method for method in rows if method != _FIRST)]:
        cells = [
            f"{of['mean']:.3f} [{of['interval_95'][0]:.3f}, {of['interval_95'][1]:.3f}]  {of['minus_first']:+.3f} "
            f"[{of['minus_first_interval_95'][0]:+.3f}, {of['minus_first_interval_95'][1]:+.3f}]"
            for of in rows[method].values()
        ]
        summary.append(f"{method:36s}" + "".join(f"{cell:>46s}" for cell in cells))
    if found.unchanged:
        summary.append(f"no noise changed the answer to {found.unchanged} of the images: no order by decisions there")
    arrays = {"images": which, "share": found.share, "deletion": found.deletion, "insertion": found.insertion}
    return launch.Result(metrics, summary, draw, {"scores.npz": arrays | {"methods": np.array(found.methods)}})


def usual_contrast(network: Any, dataset: data.Dataset, seed: int, factor: int = 1) -> float:
    """The median threshold contrast of some validation images; one that noise never changes counts as above all."""
    unit = local.in_squares(noise.gaussian(dataset.image_shape, 0, 1), factor)
    pictures = dataset.validation.images[:_FOR_CONTRAST] / np.float32(255)
    found = [local.threshold_contrast(network, picture, unit, num_draws=200, seed=seed) for picture in pictures]
    return float(np.median([local.MOST_CONTRAST if of is None else of.at for of in found]))


def _ends(values: np.ndarray) -> list[float]:
    return [float(end) for end in statistics.bootstrap_interval(values)]


if __name__ == "__main__":
    launch.main(run, Settings)
