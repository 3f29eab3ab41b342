"""What does a trained network see in noise?

Loads or trains a network, shows it white noise, and averages the noise by the network's response: the classification
image (bias map) of each class, with its count, its standard error, and what the network calls the map itself.

  python -m experiments.noise_maps                                    embedded digits, no download
  python -m experiments.noise_maps --dataset=mnist --noise=uniform    the paper's main experiment (arXiv 1912.12106)

Writes to --out_dir: classification_images.png, significance.png, convergence.png, noise_histogram.png,
noise_examples.png, class_gallery.png, maps.npz, metrics.json, config.json, log.jsonl and state/ (to go on from).
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from experiments import launch, shared
from experiments.settings import SamplingSettings, choice, setting
from wna_jax import correlation, data, figures, maps, noise, responses, statistics, templates
from wna_jax.analysis import FILE, Analysis
from wna_jax.correlation import fields
from wna_jax.networks import Network
from wna_jax.runs.errors import InputError
from wna_jax.runs.files import or_none
from wna_jax.runs.progress import Stopwatch, renamed


class Settings(SamplingSettings):
    """The settings of one run."""

    response: tuple[str, ...] = choice(
        ("decision", "probability"),
        "What is averaged: decision, probability or probability:SHARPNESS, confident:THRESHOLD, confidence, logit.",
    )
    permutations: int = setting(
        199, "Null maps that clusters are compared with; the smallest p is 1 in one more.", at_least=19
    )
    roi: tuple[int, ...] | None = setting(
        None,
        "A region of interest, as ROW,COLUMN,HEIGHT,WIDTH in pixels from the upper left corner: tests, infoVal and "
        "reliability are about it alone. Choose it before looking at the maps; the sums do not depend on it.",
        at_least=0,
    )
    gradient_samples: int = setting(
        1000, "Samples for the gradient maps against which convergence is seen; 0 for none.", at_least=0
    )
    classes: tuple[str, ...] | None = choice(
        None,
        "The classes whose maps are made, by name, where memory does not allow for all. The network still decides "
        "among all.",
    )
    convergence: bool = setting(
        True, "Keep the sums on the way, to see how maps converge. Without, a run takes a quarter of the memory."
    )


class Found(NamedTuple):
    """What one run found, and what more is told of it: by response; the convergence by what a map is compared with."""

    analysis: Analysis
    classes: list[int]
    feedback: dict[str, list[templates.Feedback | None]]
    reliability: dict[str, statistics.SplitHalf]
    findings: dict[str, statistics.Findings]
    convergence: dict[str, tuple[str, statistics.Convergence]]


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Noise through the network to maps, their tests and figures."""
    responses.check_names(settings.response)  # before any training
    dataset, stimulus, trained = shared.set_up(settings, report, partial(_chosen, settings))
    roi, classes = _chosen(settings, dataset)
    names = tuple(dict.fromkeys(("decision", *settings.response)))  # decisions are always counted
    own = classes if settings.classes else None
    watch = Stopwatch(report)
    respond = responses.of_classifier(trained.network, names, classes=own)
    options = shared.loop_options(settings, dataset, trained.network, watch, responses=list(names))
    parts = correlation.reverse_correlate_in_parts(stimulus, respond, course=settings.convergence, **options)
    first, second = ({name: half[name] for name in names} for half in (parts.first, parts.second))
    overlaps: dict[str, Any] = dict.fromkeys(names)
    if first["decision"].field_sums is not None:
        overlaps = fields.overlap(stimulus, respond, seed=(settings.seed + 2**30) % 2**32)
    said = {name: value for name, value in dataclasses.asdict(settings).items() if name != "out_dir"}
    analysis = Analysis(first, second, stimulus, tuple(dataset.class_names[k] for k in classes), overlaps, said)
    moments = analysis.moments
    reliability = {name: statistics.split_half(first[name], second[name], stimulus, roi) for name in names}
    tests: dict[str, Any] = {"permutations": settings.permutations, "seed": settings.seed, "roi": roi}
    found = Found(
        analysis,
        classes,
        {name: templates.feed_back(trained.network, analysis.maps[name].images) for name in names},
        reliability,
        {name: analysis.findings(name, **tests) for name in names},
        _convergence(settings, stimulus, trained.network, own, parts, reliability, roi, report),
    )
    counts = moments["decision"].count
    metrics = {
        "test_accuracy": trained.test_accuracy,
        "num_samples": settings.num_samples,
        "classes": [dataset.class_names[k] for k in classes],
        "counts": counts.tolist(),
        "empty_classes": np.flatnonzero(counts == 0).tolist(),
        "mean_weights": {name: (m.weight_sum / m.num_samples).tolist() for name, m in moments.items()},
        "feedback": {name: templates.as_json(answers, classes) for name, answers in found.feedback.items()},
        "sampling": "independent" if moments["decision"].field_sums is None else "field",
        "share_standard_errors": or_none(maps.share_standard_error(moments["decision"])),
        "reliability": {name: or_none(half.reliability) for name, half in reliability.items()},
        "n0": {name: or_none(half.n0) for name, half in reliability.items()},
        "significant_pixels": {
            name: {
                test: None if inside is None else inside.sum(axis=(1, 2, 3)).tolist()
                for test, inside in findings.significant.items()
            }
            for name, findings in found.findings.items()
        },
        "info_val": {
            name: None if of.info_val is None else or_none(of.info_val) for name, of in found.findings.items()
        },
        "samples_per_second": watch.rate if watch.done > settings.num_samples / 2 else None,  # else resumed or extended
        "noise_seconds": watch.seconds,
        "network_was_loaded": trained.was_loaded,
        "training": trained.metrics,
    }
    draw = partial(_draw, settings, dataset, stimulus, trained, found)
    return launch.Result(metrics, list(_summary(found, metrics, own is not None)), draw, {FILE: analysis.arrays()})


def _convergence(
    settings: Settings,
    stimulus: noise.Noise,
    network: Network,
    classes: Sequence[int] | None,
    parts: correlation.Parts,
    reliability: Mapping[str, statistics.SplitHalf],
    roi: np.ndarray | None,
    report: launch.Report,
) -> dict[str, tuple[str, statistics.Convergence]]:
    """Maps of more and more samples of the first half, against the second half and the mean gradient of probability.

    The gradient, known from few samples, is what the map tends to in white noise.
    """
    gradients, curves = None, {}
    if parts.course and settings.gradient_samples and "probability" in settings.response and stimulus.white:
        moments = correlation.reverse_correlate(
            stimulus,
            responses.gradient_of(responses.of_response(network, "probability", classes)),
            settings.gradient_samples,
            seed=(settings.seed + 2**31) % 2**32,  # other samples than those of the maps
            batch_size=min(100, settings.gradient_samples),
            report=renamed(report, "gradients"),
        )
        gradients = maps.gradient_images(moments)
    for name in settings.response if parts.course else ():
        cumulative = [*(point[name] for point in parts.course), parts.first[name]]
        n0, held_out = reliability[name].n0, parts.second[name]
        if held_out.num_samples:
            reference = maps.regression_images(held_out, stimulus)
            known = 1 / (1 + n0 / held_out.num_samples)
            against = f"{name} maps against the other half of the samples"
            curves[against] = name, statistics.convergence(cumulative, stimulus, reference, n0, known, roi)
        if name == "probability" and gradients is not None:
            known = statistics.known_noise_reliability(gradients, roi)
            against = f"{name} maps against the mean gradient of {settings.gradient_samples:,} samples"
            curves[against] = name, statistics.convergence(cumulative, stimulus, gradients, n0, known, roi)
    return curves


def _region(settings: Settings, dataset: data.Dataset) -> np.ndarray | None:
    """The region of interest, bool [H, W]."""
    if settings.roi is None:
        return None
    if len(settings.roi) != 4:
        given = f"roi is {','.join(map(str, settings.roi))}"
        raise InputError(f"{given}: expected ROW,COLUMN,HEIGHT,WIDTH, such as --roi=8,8,12,12")
    row, column, height, width = settings.roi
    return statistics.rectangle(dataset.image_shape, row, column, height, width)


def _chosen(settings: Settings, dataset: data.Dataset) -> tuple[np.ndarray | None, list[int]]:
    """The region of interest, bool [H, W], and the classes that maps are of."""
    classes = [dataset.label_of(name) for name in settings.classes or dataset.class_names]
    if len(set(classes)) < len(classes):
        raise InputError(f"classes is {','.join(settings.classes or ())}: name each class once")
    return _region(settings, dataset), classes


def _draw(
    settings: Settings, dataset: data.Dataset, stimulus: noise.Noise, trained: shared.TrainedNetwork, found: Found
) -> launch.Drawn:
    names, moments, reliability = dataset.class_names, found.analysis.moments, found.reliability
    decision = moments["decision"]
    few, chosen = _most_interesting(found, settings.response[0])
    rows, own_names = list(few), [names[k] for k in few.values()]
    what = f"{settings.model} on {dataset.title} (test accuracy {trained.test_accuracy:.2%})"
    shape = "images" if decision.field_sums is None else "overlapping windows"
    dose = f"{settings.num_samples:,} {shape} of {settings.noise} noise{chosen}"
    shown = {name: found.analysis.maps[name] for name in settings.response}
    findings = {name: found.findings[name] for name in settings.response}

    roi, pixels = _region(settings, dataset), {name: of.significant["pixels"] for name, of in findings.items()}
    significant = {name: inside for name, inside in pixels.items() if inside is not None}
    title = f"Classification images of {what}: {dose}"
    figure = figures.classification_images(
        shown, found.feedback, reliability, significant, names, dataset.class_means, title, roi, few
    )
    yield "classification_images.png", figure
    title = f"Significance in the maps of {what}: {dose}"
    yield "significance.png", figures.significance(findings, names, title, roi, few)
    if found.convergence:
        n0, title = {name: reliability[name].n0 for name in shown}, f"Convergence of the maps of {what}: {dose}"
        yield "convergence.png", figures.convergence(found.convergence, n0, names, title, few)
    of_classes, errors = moments.get("probability"), maps.share_standard_error(decision)
    p = None if of_classes is None else of_classes.weight_sum[rows] / settings.num_samples
    whole = settings.num_samples, len(names)
    title = f"What {what} answers to {dose}"
    yield "noise_histogram.png", figures.shares(decision.count[rows], errors[rows], p, own_names, title, whole)
    title = f"{settings.noise} noise, and what the network calls it"
    yield "noise_examples.png", shared.noise_examples(stimulus, trained.network, dataset, settings.seed, title)
    members = {k: dataset.members(k) for k in few.values()}
    count = min(8, *map(len, members.values()))
    pictures = [np.stack([dataset.class_means[k], *own[:count] / 255]) for k, own in members.items()]
    title = f"{dataset.title}: mean and first training images of each class{chosen}"
    yield "class_gallery.png", figures.gallery(np.stack(pictures), own_names, title)


def _most_interesting(found: Found, response: str) -> tuple[dict[int, int], str]:
    """The maps that figures have room for, with their classes, and how they were chosen: the most reliable ones."""
    if len(found.classes) <= figures.MOST_CLASSES:
        return dict(enumerate(found.classes)), ""
    known, counts = found.reliability[response].reliability.filled(-1), found.analysis.moments["decision"].count
    rows = np.sort(np.lexsort((-counts, -known))[: figures.MOST_CLASSES])
    text = f"; the {len(rows)} of {len(found.classes)} classes with the most reliable {response} maps"
    return {int(row): found.classes[row] for row in rows}, text


def _summary(found: Found, metrics: Mapping[str, Any], of_some: bool) -> Iterator[str]:
    """The last lines on the terminal: what was found, of all classes or of some, and where it is."""
    counts = np.array(metrics["counts"])
    most, rate = int(counts.argmax()), metrics["samples_per_second"]
    names = metrics["classes"]
    empty = [names[k] for k in metrics["empty_classes"]]
    speed = f"{rate:,.0f} per second" if rate else "all from an earlier run"
    yield f"test accuracy   {metrics['test_accuracy']:.2%}"
    yield f"noise images    {metrics['num_samples']:,} ({metrics['sampling']}), {speed}"
    share, others = figures.percent(counts[most] / metrics["num_samples"]), metrics["num_samples"] - counts.sum()
    rest = f"of these classes; {figures.percent(others / metrics['num_samples'])} went to others" if of_some else ""
    yield f"called most     {names[most]} ({share}){', ' * of_some}{rest}"
    yield f"never called    {', '.join(empty) or 'none'}{' of these classes' * of_some}"
    for name, answers in found.feedback.items():
        right, given = templates.called_right(answers, found.classes)
        bare = given - int((found.analysis.maps[name].in_standard_errors.count(axis=(1, 2, 3)) > 0).sum())
        few = f" ({bare} of too few samples for an error)" * (bare > 0)
        yield f"{name + ' maps':15s} {given} of {len(counts)} classes{few}; {right} are called by their own class"
    for name, known in metrics["reliability"].items():
        good = sum(value is not None and value >= figures.RELIABLE for value in known)
        yield f"reliable maps   {good} of {len(known)} {name} maps (split half >= {figures.RELIABLE})"


if __name__ == "__main__":
    launch.main(run, Settings)
