"""What does a trained network see in noise?

Loads or trains a network, shows it white noise, and averages the noise by the network's response: the classification
image (bias map) of each class, with its count, its standard error, and what the network calls the map itself.

  python -m experiments.noise_maps                                    embedded digits, no download
  python -m experiments.noise_maps --dataset=mnist --noise=uniform    the paper's main experiment (arXiv 1912.12106)

Writes to --out_dir: classification_images.png, significance.png, convergence.png, noise_histogram.png,
noise_examples.png, class_gallery.png, maps.npz, metrics.json, config.json, log.jsonl and state/ (to go on from).
"""

from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import common
from wna_jax import (
    data,
    figures,
    maps,
    noise,
    progress,
    responses,
    reverse_correlation,
    sampling,
    statistics,
    templates,
)
from wna_jax.maps import ClassificationImages
from wna_jax.moments import FieldSums, Moments

_EXAMPLES = 10


class Analysis(NamedTuple):
    """What one run found; all by response, and for K classes."""

    moments: dict[str, Moments]
    images: dict[str, ClassificationImages]
    feedback: dict[str, list[templates.Feedback | None]]
    reliability: dict[str, statistics.SplitHalf]
    findings: dict[str, statistics.Findings]
    convergence: dict[str, tuple[str, statistics.Convergence]]
    """By what the curve is seen against."""


def run(settings: common.Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    out_dir = common.open_output(settings)
    with common.reporting(out_dir) as report:
        dataset = common.classes_to_tell(settings, report)
        responses.check_names(settings.response)  # before any training
        stimulus = noise.create(settings.noise, dataset, Path(settings.checkpoint_dir), settings.retrain, report)
        names = tuple(dict.fromkeys(("decision", *settings.response)))  # decisions are always counted
        network = common.trained_network(settings, dataset, report)
        watch = progress.Stopwatch(report)
        respond = responses.of_classifier(network.logits_function, names)
        parts = reverse_correlation.reverse_correlate_in_parts(
            stimulus,
            respond,
            settings.num_samples,
            seed=settings.seed,
            batch_size=settings.batch_size,
            sampling=settings.sampling,
            state_dir=out_dir / "state",
            identity={"noise": settings.noise, "data": dataset.fingerprint, "network": network.fingerprint},
            report=watch,
        )
        gradients = _gradients(settings, stimulus, network, report)
    if jax.process_index() > 0:
        return  # every process has the same moments; the first one writes

    moments = {name: parts.first[name] + parts.second[name] for name in names}
    mapped = {name: maps.regression_images if name == "logit" else maps.classification_images for name in names}
    images = {name: mapped[name](moments[name], stimulus) for name in names}
    overlaps = dict.fromkeys(names)
    if moments["decision"].field_sums is not None:
        overlaps = sampling.overlap(stimulus, respond, seed=(settings.seed + 2**30) % 2**32)
    reliability = {name: statistics.split_half(parts.first[name], parts.second[name], stimulus) for name in names}
    found = Analysis(
        moments=moments,
        images=images,
        feedback={name: templates.feed_back(network.logits_function, images[name].images) for name in names},
        reliability=reliability,
        findings={
            name: statistics.findings(
                images[name], permutations=settings.permutations, seed=settings.seed, overlap=overlaps[name]
            )
            for name in names
        },
        convergence=_convergence(settings, stimulus, parts, gradients, reliability),
    )
    metrics = _metrics(settings, dataset, network, found, watch)
    _write_maps(out_dir / "maps.npz", found)
    common.write_json(out_dir / "metrics.json", metrics)
    common.write_config(out_dir, settings)
    _draw(settings, out_dir, dataset, stimulus, network, found)
    _summarise(out_dir, dataset, metrics)


def _gradients(
    settings: common.Settings, stimulus: noise.Noise, network: common.Network, report: progress.Report
) -> ClassificationImages | None:
    """The mean gradient of each probability: what its map tends to in white noise, known from few samples."""
    if not settings.gradient_samples or "probability" not in settings.response or not stimulus.white:
        return None
    gradient = responses.gradient_of(lambda images: responses.probability(network.logits_function(images)))
    return maps.gradient_images(
        reverse_correlation.reverse_correlate(
            stimulus,
            gradient,
            settings.gradient_samples,
            seed=(settings.seed + 2**31) % 2**32,  # other samples than those of the maps
            batch_size=min(100, settings.gradient_samples),
            report=lambda progress: report(progress._replace(job="gradients")),
        )
    )


def _convergence(
    settings: common.Settings,
    stimulus: noise.Noise,
    parts: reverse_correlation.Parts,
    gradients: ClassificationImages | None,
    reliability: dict[str, statistics.SplitHalf],
) -> dict[str, tuple[str, statistics.Convergence]]:
    """Maps of more and more samples of the first half, against the second half and against the gradient."""
    if not parts.course:
        return {}
    curves = {}
    for name in settings.response:
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
    settings: common.Settings,
    dataset: data.Dataset,
    network: common.Network,
    found: Analysis,
    watch: progress.Stopwatch,
) -> dict[str, Any]:
    moments = found.moments
    counts = moments["decision"].count
    return {
        "test_accuracy": network.metrics["test_accuracy"],
        "num_samples": settings.num_samples,
        "classes": list(dataset.class_names),
        "counts": counts.tolist(),
        "empty_classes": np.flatnonzero(counts == 0).tolist(),
        "mean_weights": {name: (m.weight_sum / m.num_samples).tolist() for name, m in moments.items()},
        "feedback": {
            name: [answer and answer._asdict() | {"correct": answer.predicted == k} for k, answer in enumerate(answers)]
            for name, answers in found.feedback.items()
        },
        "sampling": "independent" if moments["decision"].field_sums is None else "field",
        "share_standard_errors": _or_none(maps.share_standard_error(moments["decision"])),
        "reliability": {name: _or_none(half.reliability) for name, half in found.reliability.items()},
        "n0": {name: _or_none(half.n0) for name, half in found.reliability.items()},
        "significant_pixels": {
            name: {
                test: None if inside is None else inside.sum(axis=(1, 2, 3)).tolist()
                for test, inside in findings.significant.items()
            }
            for name, findings in found.findings.items()
        },
        "info_val": {
            name: None if findings.info_val is None else _or_none(findings.info_val)
            for name, findings in found.findings.items()
        },
        "samples_per_second": watch.rate if watch.done > settings.num_samples / 2 else None,  # else resumed or extended
        "noise_seconds": watch.seconds,
        "network_was_loaded": network.was_loaded,
        "training": network.metrics,
    }


def _or_none(values_k: np.ma.MaskedArray) -> list[float | None]:
    return [None if value is np.ma.masked else float(f"{value:.4g}") for value in values_k]


def _write_maps(path: Path, found: Analysis) -> None:
    """Moments for every class, and a map for every class that has one: "decision_map_3". An empty class has no key."""
    arrays: dict[str, Any] = {}
    for name, m in found.moments.items():
        arrays |= {
            "num_samples": m.num_samples,
            "num_draws": m.num_draws,
            "total_sum": m.total_sum,
            "total_square_sum": m.total_square_sum,
        }
        for field in ("count", "weight_sum", "weight_square_sum", "draw_square_sum", "sum", "square_sum"):
            arrays[f"{name}_{field}"] = getattr(m, field)
        if m.field_sums is not None:
            arrays |= {f"{name}_field_{field.name}": getattr(m.field_sums, field.name) for field in fields(FieldSums)}
        for k, image in enumerate(found.images[name].images):
            if image.count():
                arrays[f"{name}_map_{k}"] = image.filled()
                if found.images[name].standard_error[k].count():
                    arrays[f"{name}_standard_error_{k}"] = found.images[name].standard_error[k].filled(np.inf)
    common.write_arrays(path, **arrays)


def _draw(
    settings: common.Settings,
    out_dir: Path,
    dataset: data.Dataset,
    stimulus: noise.Noise,
    network: common.Network,
    found: Analysis,
) -> None:
    moments = found.moments
    what = f"{settings.model} on {dataset.title} (test accuracy {network.metrics['test_accuracy']:.2%})"
    independent = moments["decision"].field_sums is None
    dose = f"{settings.num_samples:,} {'images' if independent else 'overlapping windows'} of {settings.noise} noise"
    by_class = [dataset.train.images[dataset.train.labels == k] for k in range(dataset.num_classes)]
    means = np.stack([members.mean(axis=0) / 255 for members in by_class])
    shown = {name: found.images[name] for name in settings.response}
    findings = {name: found.findings[name] for name in settings.response}
    title = f"Classification images of {what}: {dose}"
    significant = {
        name: statistics.significant_pixels(findings[name].z, num_maps=dataset.num_classes) for name in shown
    }
    common.save(
        figures.classification_images(
            shown, found.feedback, found.reliability, significant, dataset.class_names, means, title
        ),
        out_dir / "classification_images.png",
    )
    title = f"Significance in the maps of {what}: {dose}"
    common.save(figures.significance(findings, dataset.class_names, title), out_dir / "significance.png")
    if found.convergence:
        n0 = {name: found.reliability[name].n0 for name in shown}
        title = f"Convergence of the maps of {what}: {dose}"
        common.save(figures.convergence(found.convergence, n0, dataset.class_names, title), out_dir / "convergence.png")

    p = moments["probability"].weight_sum / settings.num_samples if "probability" in moments else None
    histogram = figures.shares(
        moments["decision"].count,
        maps.share_standard_error(moments["decision"]),
        p,
        dataset.class_names,
        f"What {what} answers to {dose}",
    )
    common.save(histogram, out_dir / "noise_histogram.png")

    samples = reverse_correlation.draw_samples(stimulus, _EXAMPLES, seed=settings.seed)
    answers = jax.nn.softmax(network.logits_function(samples))
    captions = [f"{dataset.class_names[int(p.argmax())]} {float(p.max()):.2f}" for p in answers]
    examples = figures.gallery(
        np.asarray(samples)[None], [""], f"{settings.noise} noise, and what the network calls it", [captions]
    )
    common.save(examples, out_dir / "noise_examples.png")

    count = min(8, *map(len, by_class))
    rows = np.stack(
        [np.concatenate([mean[None], members[:count] / 255]) for mean, members in zip(means, by_class, strict=True)]
    )
    common.save(
        figures.gallery(rows, dataset.class_names, f"{dataset.title}: mean and first training images of each class"),
        out_dir / "class_gallery.png",
    )


def _summarise(out_dir: Path, dataset: data.Dataset, metrics: dict[str, Any]) -> None:
    """The last lines on the terminal: what was found, and where it is."""
    counts = np.array(metrics["counts"])
    most = int(counts.argmax())
    empty = [dataset.class_names[k] for k in metrics["empty_classes"]]
    print(f"test accuracy   {metrics['test_accuracy']:.2%}")
    speed = (
        f"{metrics['samples_per_second']:,.0f} a second" if metrics["samples_per_second"] else "all from an earlier run"
    )
    print(f"noise images    {counts.sum():,} ({metrics['sampling']}), {speed}")
    print(f"called most     {dataset.class_names[most]} ({counts[most] / counts.sum():.1%})")
    print(f"never called    {', '.join(empty) if empty else 'none: every class has a decision map'}")
    for name, answers in metrics["feedback"].items():
        given = [answer for answer in answers if answer]
        right = sum(answer["correct"] for answer in given)
        print(f"{name + ' maps':15s} {len(given)} of {len(counts)} classes; {right} are called by their own class")
    for name, values in metrics["reliability"].items():
        good = sum(value is not None and value >= figures.RELIABLE for value in values)
        print(f"reliable maps   {good} of {len(values)} {name} maps (split half >= {figures.RELIABLE})")
    print(f"look at         {out_dir / 'classification_images.png'}")


if __name__ == "__main__":
    common.main(run)
