"""Which pixels of one picture turn a network's answer, and which way?

Shows a picture in noise, image + z, and averages the noise by the answer: the classification image around the picture,
for the classes at stake (the network's answer and its most frequent other answer in the noise, or --classes). The
noise is Gaussian; by default its deviation is that at which the network still gives its answer in three of four
presentations. Nothing is clipped.

  python -m experiments.local_maps --dataset=mnist --index=7           the test image of that number
  python -m experiments.local_maps --dataset=cifar10 --model=plain_cnn --image=cat.png --coarseness=2
  python -m experiments.local_maps --model=my_file.py:create --dataset=none --image=cat.png --reference=blur

Beside it, on as many network passes: occlusion, RISE, SmoothGrad and integrated gradients
(wna_jax/studies/attributions.py); `insertion_deletion` compares all of them over many images.

Writes to --out_dir: local_maps.png, maps.npz, metrics.json, config.json, log.jsonl and state/ (to go on from).
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments import launch, shared
from experiments.settings import PictureSettings, choice, setting
from wna_jax import correlation, data, figures, noise, responses, statistics, templates
from wna_jax.analysis import FILE, Analysis
from wna_jax.runs.errors import InputError
from wna_jax.runs.files import or_none
from wna_jax.statistics import Findings
from wna_jax.studies import attributions, local


class Settings(PictureSettings):
    """The settings of one run."""

    TAKES_OWN_NETWORKS = True

    image: str | None = choice(
        None,
        "The picture, an image file, brought to the size and channels of the network's images: where it is wider or "
        "higher, its middle is taken, and nothing is stretched.",
    )
    index: int = choice(0, "Without --image: the number of a test image, from 0 on.", at_least=0)
    classes: tuple[str, ...] | None = choice(
        None, "The classes at stake, by name. By default the answer and the most frequent other answer in the noise."
    )
    threshold: float = choice(
        0.75,
        "The share of presentations in which the answer is given, for the default contrast.",
        at_least=0.01,
        at_most=0.99,
    )
    num_samples: int = setting(100_000, "How many noise samples to draw.", at_least=1)
    batch_size: int | None = setting(
        None, "Noise samples per network pass. By default what suits the device.", at_least=1
    )
    permutations: int = setting(199, "Null maps that clusters are compared with.", at_least=19)


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Noise around a picture through the network to maps, beside those of other methods."""
    dataset, foreign = shared.data_for_network(settings, report)
    picture, shown, done = _picture(settings, dataset)
    attributions.patches(picture.shape[:2], num_passes=settings.num_samples)  # before any training
    chosen = None if settings.classes is None else [dataset.label_of(name) for name in dict.fromkeys(settings.classes)]
    reference_name = shared.reference_of(settings, dataset)
    reference = attributions.reference(reference_name, picture, dataset)
    trained = (
        shared.of_own(settings, foreign, dataset) if foreign else shared.trained_network(settings, dataset, report)
    )
    network, names = trained.network, dataset.class_names
    unit = local.in_squares(noise.gaussian(dataset.image_shape, 0, 1), settings.coarseness)
    found, contrast = None, settings.contrast
    if contrast is None:
        found = local.threshold_contrast(network, picture, unit, settings.threshold, seed=(settings.seed + 1) % 2**32)
        if found is None:
            raise InputError(
                f"in no noise that was tried does the network give its answer in less than {settings.threshold:g} of "
                "the presentations: give a --contrast, such as 0.5"
            )
        contrast = found.at
    white = local.in_squares(noise.gaussian(dataset.image_shape, 0, contrast), settings.coarseness)
    stimulus = noise.around(picture, white)
    own, rival = local.at_stake(network, picture, stimulus)
    classes = chosen or [own, rival]
    options = shared.loop_options(settings, dataset, network, report, noise="around")
    respond = responses.of_classifier(network, local.RESPONSES, classes=classes)
    parts = correlation.reverse_correlate_in_parts(stimulus, respond, course=False, **options)
    said = {name: value for name, value in dataclasses.asdict(settings).items() if name != "out_dir"}
    analysis = Analysis(parts.first, parts.second, stimulus, tuple(names[k] for k in classes), {}, said)
    tests = {name: analysis.findings(name, permutations=settings.permutations) for name in local.RESPONSES}
    peers = local.contributions(
        network,
        picture,
        own,
        reference,
        contrast,
        settings.num_samples,
        factor=settings.coarseness,
        seed=settings.seed,
        report=report,
    )
    (answer,) = templates.feed_back(network, np.ma.masked_array(picture[None]), stretch=False)
    assert answer is not None
    decision = analysis.moments["decision"]
    metrics = {
        "test_accuracy": trained.test_accuracy,
        "picture": shown,
        "picture_was_changed": done or None,
        "reference": reference_name,
        "answer": names[own],
        "confidence": answer.confidence,
        "contrast": contrast,
        "threshold": found and {"share": settings.threshold, "at": found.at, "low": found.low, "high": found.high},
        "classes": [names[k] for k in classes],
        "num_samples": settings.num_samples,
        "counts": decision.count.tolist(),
        "mean_weights": {name: (m.weight_sum / m.num_samples).tolist() for name, m in analysis.moments.items()},
        "reliability": {name: or_none(half.reliability) for name, half in analysis.reliability.items()},
        "n0": {name: or_none(half.n0) for name, half in analysis.reliability.items()},
        "significant_pixels": {
            name: {
                test: None if inside is None else inside.sum(axis=(1, 2, 3)).tolist()
                for test, inside in findings.significant.items()
            }
            for name, findings in tests.items()
        },
    }

    def draw() -> launch.Drawn:
        what = f"{shared.title_of(settings, dataset)}: noise of deviation {contrast:.3g} around {shown}, "
        what += f"{settings.num_samples:,} samples and as many passes for each other method"
        yield (
            "local_maps.png",
            _figure(analysis, tests, picture, classes, names, peers, network, answer, reference_name, what),
        )

    limits = f" [{found.low:.3f}, {found.high:.3f}]" if found else ""
    summary = [
        f"answer          {answer.text(names)} ({shown})",
        f"contrast        {contrast:.3g}{limits}" + f", answer given in {settings.threshold:.0%}" * bool(found),
        f"reference       removed pixels are {attributions.REFERENCES[reference_name]}",
    ]
    if done:
        summary.insert(0, f"picture         {done}")
    for i, k in enumerate(classes):
        of = [f"{name} {_text(metrics['reliability'][name][i])}" for name in local.RESPONSES]
        share = figures.percent(decision.count[i] / settings.num_samples)
        summary.append(f"{names[k]:15s} {decision.count[i]:,} samples ({share}); reliability: {', '.join(of)}")
    arrays = {name: of.filled(0) for name, of in peers.items() if of.count()}
    contributions = {"picture": picture, "reference": reference} | arrays
    return launch.Result(metrics, summary, draw, {FILE: analysis.arrays(), "contributions.npz": contributions})


def _picture(settings: Settings, dataset: data.Dataset) -> tuple[np.ndarray, str, str]:
    """The picture, float32 [H, W, C] in [0, 1], what it is called, and what was done to it."""
    if settings.image is not None:
        picture, done = shared.read_picture(settings.image, dataset)
        return picture, Path(settings.image).name, done
    shared.check_test_images(dataset)
    if settings.index >= len(dataset.test.labels):
        last = len(dataset.test.labels) - 1
        raise InputError(f"index is {settings.index}: the test images of {dataset.title} are numbered 0 to {last}")
    name = dataset.class_names[dataset.test.labels[settings.index]]
    return dataset.test_images[settings.index], f"test image {settings.index}, of class {name}", ""


def _text(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _figure(
    analysis: Analysis,
    tests: Mapping[str, Findings],
    picture: np.ndarray,
    classes: list[int],
    names: tuple[str, ...],
    peers: Mapping[str, np.ma.MaskedArray],
    network: Any,
    answer: templates.Feedback,
    reference: str,
    title: str,
) -> Any:
    """A row for each class at stake: its maps, and the picture with one of them; below what each pixel contributes.

    Maps of colours have two rows: their brightness, the mean of the channels, which is tested by itself, and what is
    left of the channels without it.
    """
    rows: dict[str, list[figures.Panel | None]] = {}
    in_colour = picture.shape[-1] == 3
    limit = max(figures.limit_of(_brightness(of.in_standard_errors)) for of in tests.values()) if in_colour else 0
    for i, k in enumerate(classes):
        row: list[figures.Panel | None] = [None]
        tints: list[figures.Panel | None] = [None]
        if i == 0:
            row = [figures.Panel(picture, "picture", caption=f"called {answer.text(names)}")]
        for name, findings in tests.items():
            z, inside = findings.in_standard_errors, findings.significant["pixels"]
            outline = None if inside is None else inside[i].any(axis=-1)
            known = analysis.reliability[name].reliability[i]
            heading = f"{name}, r {'unknown' if known is np.ma.masked else f'{known:.2f}'}"
            if in_colour:
                tints.append(figures.Panel(figures.tint(z[i], limit), "", False, outline))
                z = _brightness(z)
                outline = statistics.significant_pixels(z, num_maps=len(z))[i, ..., 0]
            row.append(figures.Panel(z[i], heading, True, outline))
        effect = analysis.maps["logit"].images[i]
        if effect.count():
            factor = len(picture) // len(effect)
            added = picture + local.over_squares(effect, factor).filled(0) * (0.5 / np.abs(effect).max())
            (said,) = templates.feed_back(network, np.ma.masked_array(added[None]), stretch=False)
            row.append(figures.Panel(added, "picture + map", caption=f"called {said.text(names)}" if said else ""))
        count = analysis.moments["decision"].count[i]
        rows[f"{names[k]}\n{count:,}" + "\nbrightness" * in_colour] = row
        if in_colour:
            rows[f"{names[k]}\ncolour"] = tints
    unit = {}
    for response in ("probability", "logit"):
        label = f"contributes\nto the {response}"
        rows[label] = [
            _contribution(name, of)
            for name, of in peers.items()
            if name == "classification image, decision" or name.endswith(f", {response}")
        ]
        unit[label] = "of the largest"
    colour = "Colour: the tint of the noise that speaks for the class, grey where none does. " * in_colour
    note = (
        "Above: classification images in standard errors, and the number of samples of the class. Red: brighter noise "
        f"there speaks for the class, blue: darker noise. {colour}r: reliability (split half); outlined: p < .05 over "
        f"the maps of one response{', in colour of any channel' * in_colour}. "
        "Picture + map: the map of the logit is added, by at most .5. "
        f"Below: what each pixel contributes to {names[answer.predicted]}, by method (red: for it); removed pixels are "
        f"{attributions.REFERENCES[reference]}."
    )
    return figures.panels(rows, title, note, unit)


def _brightness(z: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """The mean over the channels of maps [..., C] in standard errors, in its own: channels of the noise are alike."""
    return z.sum(axis=-1, keepdims=True) / np.sqrt(z.shape[-1])


def _contribution(name: str, of_pixels: np.ma.MaskedArray) -> figures.Panel:
    largest = np.abs(of_pixels).max() if of_pixels.count() else 1
    return figures.Panel(of_pixels[..., None] / (largest or 1), name.replace(", ", "\n"), True)


if __name__ == "__main__":
    launch.main(run, Settings)
