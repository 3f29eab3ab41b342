"""Which method tells best on which pixels of an image an answer rests? Classification images beside four others.

For each of some test images, what each pixel contributes to the network's answer is estimated by the classification
image of noise around the image, occlusion, RISE, SmoothGrad and integrated gradients, on equal numbers of network
passes (wna_jax/studies/attributions.py). The probability of the answer is then followed while pixels are taken away
(deletion: a good map has a low score) or put in (insertion: a high one), the most important first (Petsiuk, Das &
Saenko 2018).

  python -m experiments.insertion_deletion                              embedded digits, no download
  python -m experiments.insertion_deletion --dataset=cifar10 --model=plain_cnn --epochs=6
  python -m experiments.insertion_deletion --model=my_file.py:create --dataset=none --image=cat.png,photographs

The contrast of the noise is the median threshold of 20 validation images, or, without data, of the pictures themselves.
Intervals are 95%, by bootstrap over images (of fewer than 20: t intervals); differences from the classification image
of the logit are paired. No method was tuned on test images.

Writes to --out_dir: scores.png, curves.png, scores.npz, metrics.json, config.json, log.jsonl and state/ (to go on
from).
"""

from pathlib import Path
from typing import Any

import numpy as np

from experiments import launch, shared
from experiments.settings import PictureSettings, choice, setting
from wna_jax import data, figures, noise, statistics
from wna_jax.runs.errors import InputError
from wna_jax.runs.fingerprints import fingerprint
from wna_jax.studies import attributions, local

_FOR_CONTRAST = 20  # validation images
_FEW = 20
"""Images below which intervals are t intervals."""
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

    image: tuple[str, ...] | None = choice(
        None,
        "Pictures instead of test images: image files, or folders of them. Each is brought to the size and channels "
        "of the network's images: where it is wider or higher, its middle is taken, and nothing is stretched.",
    )
    num_images: int = setting(100, "How many test images, drawn at random.", at_least=2)
    num_passes: int = choice(
        3_000, "Network passes of each method per image; a gradient counts as three.", at_least=200
    )
    steps: int = choice(50, "Steps in which pixels are taken away, or put in.", at_least=2)


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Test images through all methods to deletion and insertion curves."""
    dataset, foreign = shared.data_for_network(settings, report)
    attributions.patches(dataset.image_shape[:2], num_passes=settings.num_passes)  # before any training
    pictures, shown = _pictures(settings, dataset)
    reference = shared.reference_of(settings, dataset)
    references = np.stack([attributions.reference(reference, picture, dataset) for picture in pictures])
    trained = (
        shared.of_own(settings, foreign, dataset) if foreign else shared.trained_network(settings, dataset, report)
    )
    network = trained.network
    contrast = settings.contrast or usual_contrast(settings, network, dataset, pictures, report)
    of_pictures = {"pictures": "of one's own"} if settings.image else {}
    found = local.compare(
        network,
        pictures,
        references,
        contrast,
        settings.num_passes,
        factor=settings.coarseness,
        steps=settings.steps,
        seed=settings.seed,
        state_dir=settings.folder / "state",
        identity={"data": dataset.fingerprint, "network": fingerprint(network), "reference": reference} | of_pictures,
        report=report,
    )
    n, scores, kind = len(pictures), found.scores, "pictures" if settings.image else "test images"
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
    answers = [dataset.class_names[k] for k in local.answers(network, pictures)]
    metrics = {
        "test_accuracy": trained.test_accuracy,
        "num_images": n,
        "images": shown,
        "answers": answers,
        "reference": reference,
        "num_passes": settings.num_passes,
        "contrast": contrast,
        "answers_that_noise_never_changed": found.unchanged,
        "first": _FIRST,
        "scores": rows,
    }
    what = f"{shared.title_of(settings, dataset)}: {n} {kind}, {settings.num_passes:,} passes per method and image"

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
        note += f"(deletion) or put in (insertion), with 95% intervals over images. A random order: {chance}."
        squares = f"squares of {settings.coarseness}, " * (settings.coarseness > 1)
        ours = [method for method in rows if method.startswith("classification image")]
        yield (
            "scores.png",
            figures.point_ranges(panels, ours, f"{what}, {squares}noise of deviation {contrast:.3g}", note),
        )
        curves: dict[str, dict[str, figures.Curve]] = {}
        for name, heading in _HEADINGS.items():
            index = {method: found.methods.index(method) for method in _DRAWN if method in found.methods}
            drawn = {method: getattr(found, name)[:, i] for method, i in index.items()}
            curves[heading] = {
                method: figures.Curve(found.share.tolist(), of.mean(axis=0), _interval(of))
                for method, of in drawn.items()
            }
        axes = "share of the pixels, most important first", "probability of the answer"
        yield "curves.png", figures.curves(curves, *axes, f"{what}; 95% intervals")

    summary = []
    if trained.test_accuracy is not None:
        summary.append(f"test accuracy   {trained.test_accuracy:.2%}")
    if settings.image:
        summary += [f"{name}, called {of}" for name, of in zip(shown, answers, strict=True)]
    summary += [
        f"{n} {kind}, noise of deviation {contrast:.3f}; removed pixels are {attributions.REFERENCES[reference]}",
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
    arrays = {"images": np.array(shown), "share": found.share, "deletion": found.deletion, "insertion": found.insertion}
    return launch.Result(metrics, summary, draw, {"scores.npz": arrays | {"methods": np.array(found.methods)}})


def _pictures(settings: Settings, dataset: data.Dataset) -> tuple[np.ndarray, list[Any]]:
    """The pictures, float32 [n, H, W, C] in [0, 1], and their names, or the numbers of the test images."""
    if settings.image is None:
        shared.check_test_images(dataset)
        which = np.random.default_rng(settings.seed).permutation(len(dataset.test.labels))[: settings.num_images]
        return dataset.test_images[which], which.tolist()
    paths = [Path(name).expanduser() for name in settings.image]
    paths = [file for path in paths for file in (data.image_files(path) if path.is_dir() else [path])]
    if len(paths) < 2:
        raise InputError(f"image is {','.join(settings.image)}, {len(paths)} image files: expected two or more")
    read = [shared.read_picture(path, dataset) for path in paths]
    names = [f"{path.name} ({done})" if done else path.name for path, (_, done) in zip(paths, read, strict=True)]
    return np.stack([picture for picture, _ in read]), names


def usual_contrast(
    settings: Settings, network: Any, dataset: data.Dataset, pictures: np.ndarray, report: launch.Report = launch.silent
) -> float:
    """The median threshold contrast of some validation images, or of the pictures where there are none."""
    unit = local.in_squares(noise.gaussian(dataset.image_shape, 0, 1), settings.coarseness)
    known, num_draws = dataset.validation.images[:_FOR_CONTRAST] / np.float32(255), 200
    if not len(known):
        known, num_draws = pictures, 50  # networks for large pictures are slow
    return local.usual_contrast(network, known, unit, num_draws=num_draws, seed=settings.seed, report=report)


def _ends(values: np.ndarray) -> list[float]:
    return [float(end) for end in _interval(values)]


def _interval(values: np.ndarray) -> statistics.Interval:
    """The 95% interval of means over images [n, ...]: of few of them the bootstrap's is too narrow."""
    if len(values) >= _FEW:
        return statistics.bootstrap_interval(values)
    return statistics.Interval(*np.apply_along_axis(lambda of: statistics.seed_mean(of.tolist())[2:], 0, values))


if __name__ == "__main__":
    launch.main(run, Settings)
