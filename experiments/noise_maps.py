"""What does a trained network see in noise?

Loads or trains a network, shows it white noise, and averages the noise by the network's response: the classification
image (bias map) of each class, with its count, its standard error, and what the network calls the map itself.

  python -m experiments.noise_maps                                    embedded digits, no download
  python -m experiments.noise_maps --dataset=mnist --noise=uniform    the paper's main experiment (arXiv 1912.12106)

Writes to --out_dir: classification_images.png, significance.png, convergence.png, noise_histogram.png,
noise_examples.png, class_gallery.png, maps.npz, metrics.json, config.json, log.jsonl and state/ (to go on from).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import launch, shared
from experiments.launch import Result
from experiments.settings import SamplingSettings, setting
from wna_jax import correlation, data, figures, maps, noise, responses, statistics, templates
from wna_jax.correlation import FieldSums, Moments
from wna_jax.correlation import fields as sampling
from wna_jax.maps import ClassificationImages
from wna_jax.networks import Network
from wna_jax.runs.files import or_none
from wna_jax.runs.progress import Report, Stopwatch, silent

_EXAMPLES = 10


@dataclass(frozen=True, kw_only=True)
class Settings(SamplingSettings):
    """The settings of one run."""

    response: tuple[str, ...] = setting(
        ("decision", "probability"),
        "What is averaged: decision, probability or probability:SHARPNESS, confident:THRESHOLD, confidence, logit.",
        names_folder=True,
    )
    permutations: int = setting(
        199, "Null maps that clusters are compared with; the smallest p is 1 in one more.", at_least=19
    )
    gradient_samples: int = setting(
        1000, "Samples for the gradient maps against which convergence is seen; 0 for none.", at_least=0
    )


class Analysis(NamedTuple):
    """What one run found, by response, for K classes."""

    moments: dict[str, Moments]
    images: dict[str, ClassificationImages]
    feedback: dict[str, list[templates.Feedback | None]]
    reliability: dict[str, statistics.SplitHalf]
    findings: dict[str, statistics.Findings]
    convergence: dict[str, tuple[str, statistics.Convergence]]
    """By what the curve is seen against."""


def run(settings: Settings, report: Report = silent) -> Result:
    """Noise through the network to maps, their tests and figures."""
    dataset = shared.load_classes(settings, report)
    responses.check_names(settings.response)  # before any training
    stimulus = shared.create_noise(settings, dataset, report)
    names = tuple(dict.fromkeys(("decision", *settings.response)))  # decisions are always counted
    trained = shared.trained_network(settings, dataset, report)
    watch = Stopwatch(report)
    respond = responses.of_classifier(trained.network, names)
    parts = correlation.reverse_correlate_in_parts(
        stimulus,
        respond,
        settings.num_samples,
        seed=settings.seed,
        batch_size=settings.batch_size,
        sampling=settings.sampling,  # type: ignore[arg-type]
        state_dir=settings.folder / "state",
        identity=shared.identity(settings, dataset, trained.network, responses=list(names)),
        report=watch,
    )
    gradients = _gradients(settings, stimulus, trained.network, report)
    found = _analyse(settings, stimulus, trained.network, respond, parts, gradients)
    metrics = _metrics(settings, dataset, trained, found, watch)
    return Result(
        metrics,
        list(_summary(settings, dataset, found, metrics)),
        _figures(settings, dataset, stimulus, trained, found),
        {"maps.npz": _arrays(found)},
    )


def _analyse(
    settings: Settings,
    stimulus: noise.Noise,
    network: Network,
    respond: responses.Classifier,
    parts: correlation.Parts,
    gradients: ClassificationImages | None,
) -> Analysis:
    moments = {name: parts.first[name] + parts.second[name] for name in respond.names}
    mapped = {name: maps.regression_images if name == "logit" else maps.classification_images for name in moments}
    images = {name: mapped[name](moments[name], stimulus) for name in moments}
    overlaps: dict[str, Any] = dict.fromkeys(moments)
    if moments["decision"].field_sums is not None:
        overlaps = sampling.overlap(stimulus, respond, seed=(settings.seed + 2**30) % 2**32)
    reliability = {name: statistics.split_half(parts.first[name], parts.second[name], stimulus) for name in moments}
    return Analysis(
        moments,
        images,
        {name: templates.feed_back(network, images[name].images) for name in moments},
        reliability,
        {
            name: statistics.findings(
                images[name], permutations=settings.permutations, seed=settings.seed, overlap=overlaps[name]
            )
            for name in moments
        },
        _convergence(settings, stimulus, parts, gradients, reliability),
    )


def _gradients(
    settings: Settings, stimulus: noise.Noise, network: Network, report: Report
) -> ClassificationImages | None:
    """The mean gradient of each probability: what its map tends to in white noise, known from few samples."""
    if not settings.gradient_samples or "probability" not in settings.response or not stimulus.white:
        return None
    moments = correlation.reverse_correlate(
        stimulus,
        responses.gradient_of(responses.of_response(network, "probability")),
        settings.gradient_samples,
        seed=(settings.seed + 2**31) % 2**32,  # other samples than those of the maps
        batch_size=min(100, settings.gradient_samples),
        report=lambda progress: report(progress._replace(job="gradients")),
    )
    return maps.gradient_images(moments)


def _convergence(
    settings: Settings,
    stimulus: noise.Noise,
    parts: correlation.Parts,
    gradients: ClassificationImages | None,
    reliability: Mapping[str, statistics.SplitHalf],
) -> dict[str, tuple[str, statistics.Convergence]]:
    """Maps of more and more samples of the first half, against the second half and against the gradient."""
    curves = {}
    for name in settings.response if parts.course else ():
        cumulative = [*(point[name] for point in parts.course), parts.first[name]]
        n0, held_out = reliability[name].n0, parts.second[name]
        if held_out.num_samples:
            reference = maps.regression_images(held_out, stimulus).images
            known = 1 / (1 + n0 / held_out.num_samples)
            against = f"{name} maps against the other half of the samples"
            curves[against] = name, statistics.convergence(cumulative, stimulus, reference, n0, known)
        if name == "probability" and gradients is not None:
            known = statistics.known_noise_reliability(gradients)
            against = f"{name} maps against the mean gradient of {settings.gradient_samples:,} samples"
            curves[against] = name, statistics.convergence(cumulative, stimulus, gradients.images, n0, known)
    return curves


def _metrics(
    settings: Settings, dataset: data.Dataset, trained: shared.TrainedNetwork, found: Analysis, watch: Stopwatch
) -> dict[str, Any]:
    moments, counts = found.moments, found.moments["decision"].count
    return {
        "test_accuracy": trained.test_accuracy,
        "num_samples": settings.num_samples,
        "classes": list(dataset.class_names),
        "counts": counts.tolist(),
        "empty_classes": np.flatnonzero(counts == 0).tolist(),
        "mean_weights": {name: (m.weight_sum / m.num_samples).tolist() for name, m in moments.items()},
        "feedback": {name: templates.as_json(answers) for name, answers in found.feedback.items()},
        "sampling": "independent" if moments["decision"].field_sums is None else "field",
        "share_standard_errors": or_none(maps.share_standard_error(moments["decision"])),
        "reliability": {name: or_none(half.reliability) for name, half in found.reliability.items()},
        "n0": {name: or_none(half.n0) for name, half in found.reliability.items()},
        "significant_pixels": {
            name: {
                test: None if inside is None else inside.sum(axis=(1, 2, 3)).tolist()
                for test, inside in findings.significant.items()
            }
            for name, findings in found.findings.items()
        },
        "info_val": {
            name: None if findings.info_val is None else or_none(findings.info_val)
            for name, findings in found.findings.items()
        },
        "samples_per_second": watch.rate if watch.done > settings.num_samples / 2 else None,  # else resumed or extended
        "noise_seconds": watch.seconds,
        "network_was_loaded": trained.was_loaded,
        "training": trained.metrics,
    }


def _arrays(found: Analysis) -> dict[str, Any]:
    """Moments for every class, and a map for every class that has one: "decision_map_3"."""
    arrays: dict[str, Any] = {}
    for name, m in found.moments.items():
        whole = ("num_samples", "num_draws", "total_sum", "total_square_sum")
        each = ("count", "weight_sum", "weight_square_sum", "draw_square_sum", "sum", "square_sum")
        arrays |= {part: getattr(m, part) for part in whole} | {f"{name}_{part}": getattr(m, part) for part in each}
        if m.field_sums is not None:
            arrays |= {f"{name}_field_{part.name}": getattr(m.field_sums, part.name) for part in fields(FieldSums)}
        images = found.images[name]
        arrays |= maps.named(f"{name}_map", images.images)
        has_error = images.standard_error.count(axis=(1, 2, 3)) > 0
        errors = np.ma.masked_array(images.standard_error.filled(np.inf), mask=False)
        errors[~has_error] = np.ma.masked
        arrays |= maps.named(f"{name}_standard_error", errors)
    return arrays


def _figures(
    settings: Settings,
    dataset: data.Dataset,
    stimulus: noise.Noise,
    trained: shared.TrainedNetwork,
    found: Analysis,
) -> dict[str, Any]:
    decision = found.moments["decision"]
    what = f"{settings.model} on {dataset.title} (test accuracy {trained.test_accuracy:.2%})"
    shape = "images" if decision.field_sums is None else "overlapping windows"
    dose = f"{settings.num_samples:,} {shape} of {settings.noise} noise"
    shown = {name: found.images[name] for name in settings.response}
    findings = {name: found.findings[name] for name in settings.response}

    def classification_images() -> Figure:
        significant = {
            name: statistics.significant_pixels(findings[name].z, num_maps=dataset.num_classes) for name in shown
        }
        title = f"Classification images of {what}: {dose}"
        return figures.classification_images(
            shown, found.feedback, found.reliability, significant, dataset.class_names, dataset.class_means, title
        )

    def convergence() -> Figure:
        n0 = {name: found.reliability[name].n0 for name in shown}
        title = f"Convergence of the maps of {what}: {dose}"
        return figures.convergence(found.convergence, n0, dataset.class_names, title)

    def histogram() -> Figure:
        of_classes = found.moments.get("probability")
        p = None if of_classes is None else of_classes.weight_sum / settings.num_samples
        errors = maps.share_standard_error(decision)
        return figures.shares(decision.count, errors, p, dataset.class_names, f"What {what} answers to {dose}")

    def examples() -> Figure:
        samples = np.asarray(correlation.draw_samples(stimulus, _EXAMPLES, seed=settings.seed))
        answers = templates.feed_back(trained.network, np.ma.masked_array(samples), stretch=False)
        captions = [answer.text(dataset.class_names) for answer in answers if answer]
        return figures.gallery(
            samples[None], [""], f"{settings.noise} noise, and what the network calls it", [captions]
        )

    def gallery() -> Figure:
        members = [dataset.members(k) / 255 for k in range(dataset.num_classes)]
        count = min(8, *map(len, members))
        rows = [
            np.concatenate([mean[None], own[:count]]) for mean, own in zip(dataset.class_means, members, strict=True)
        ]
        title = f"{dataset.title}: mean and first training images of each class"
        return figures.gallery(np.stack(rows), dataset.class_names, title)

    title = f"Significance in the maps of {what}: {dose}"
    return {
        "classification_images.png": classification_images,
        "significance.png": lambda: figures.significance(findings, dataset.class_names, title),
        **({"convergence.png": convergence} if found.convergence else {}),
        "noise_histogram.png": histogram,
        "noise_examples.png": examples,
        "class_gallery.png": gallery,
    }


def _summary(settings: Settings, dataset: data.Dataset, found: Analysis, metrics: Mapping[str, Any]) -> Iterator[str]:
    """The last lines on the terminal: what was found, and where it is."""
    counts = np.array(metrics["counts"])
    most, rate = int(counts.argmax()), metrics["samples_per_second"]
    empty = [dataset.class_names[k] for k in metrics["empty_classes"]]
    speed = f"{rate:,.0f} per second" if rate else "all from an earlier run"
    yield f"test accuracy   {metrics['test_accuracy']:.2%}"
    yield f"noise images    {counts.sum():,} ({metrics['sampling']}), {speed}"
    yield f"called most     {dataset.class_names[most]} ({counts[most] / counts.sum():.1%})"
    yield f"never called    {', '.join(empty) if empty else 'none: every class has a decision map'}"
    for name, answers in found.feedback.items():
        right, given = templates.called_right(answers)
        yield f"{name + ' maps':15s} {given} of {len(counts)} classes; {right} are called by their own class"
    for name, known in metrics["reliability"].items():
        good = sum(value is not None and value >= figures.RELIABLE for value in known)
        yield f"reliable maps   {good} of {len(known)} {name} maps (split half >= {figures.RELIABLE})"
    yield f"look at         {settings.folder / 'classification_images.png'}"


if __name__ == "__main__":
    launch.main(run, Settings)
