"""What does a trained network see in noise?

Loads or trains a network, shows it white noise, and averages the noise by the network's response: the classification
image (bias map) of each class, with its count, its standard error, and what the network calls the map itself.

  python -m experiments.noise_maps                                    embedded digits, no download
  python -m experiments.noise_maps --dataset=mnist --noise=uniform    the paper's main experiment (arXiv 1912.12106)

Writes to --out_dir: classification_images.png, noise_histogram.png, noise_examples.png, class_gallery.png, maps.npz,
metrics.json, config.json and log.jsonl.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import common
from wna_jax import data, figures, maps, noise, progress, responses, reverse_correlation, statistics, templates

_EXAMPLES = 10


def run(settings: common.Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    out_dir = common.open_output(settings)
    with common.reporting(out_dir) as report:
        dataset = common.classes_to_tell(settings, report)
        stimulus = noise.create(settings.noise, dataset)
        responses.check_names(settings.response)  # before the training
        names = tuple(dict.fromkeys(("decision", *settings.response)))  # decisions are always counted
        network = common.trained_network(settings, dataset, report)
        watch = progress.Stopwatch(report)
        parts = reverse_correlation.reverse_correlate_in_parts(
            stimulus,
            responses.of_classifier(network.logits_function, names),
            settings.num_samples,
            seed=settings.seed,
            batch_size=settings.batch_size,
            sampling=settings.sampling,
            state_dir=out_dir / "state",
            identity={"noise": settings.noise, "data": dataset.fingerprint, "network": network.fingerprint},
            report=watch,
        )
    if jax.process_index() > 0:
        return  # every process has the same moments; the first one writes

    moments = {name: parts.first[name] + parts.second[name] for name in names}
    mapped = {name: maps.regression_images if name == "logit" else maps.classification_images for name in names}
    images = {name: mapped[name](moments[name], stimulus) for name in names}
    feedback = {name: templates.feed_back(network.logits_function, images[name].images) for name in names}
    reliability = {name: statistics.split_half(parts.first[name], parts.second[name], stimulus) for name in names}
    metrics = _metrics(settings, dataset, network, moments, feedback, reliability, watch)
    _write_maps(out_dir / "maps.npz", moments, images)
    common.write_json(out_dir / "metrics.json", metrics)
    common.write_config(out_dir, settings)
    _draw(settings, out_dir, dataset, stimulus, network, moments, images, feedback, reliability)
    _summarise(out_dir, dataset, metrics)


def _metrics(
    settings: common.Settings,
    dataset: data.Dataset,
    network: common.Network,
    moments: dict[str, reverse_correlation.Moments],
    feedback: dict[str, list[templates.Feedback | None]],
    reliability: dict[str, statistics.SplitHalf],
    watch: progress.Stopwatch,
) -> dict[str, Any]:
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
            for name, answers in feedback.items()
        },
        "sampling": "independent" if moments["decision"].num_draws == settings.num_samples else "field",
        "share_standard_errors": _or_none(maps.share_standard_error(moments["decision"])),
        "reliability": {name: _or_none(half.reliability) for name, half in reliability.items()},
        "samples_per_second": watch.rate if watch.done > settings.num_samples / 2 else None,  # else resumed or extended
        "noise_seconds": watch.seconds,
        "network_was_loaded": network.was_loaded,
        "training": network.metrics,
    }


def _or_none(values_k: np.ma.MaskedArray) -> list[float | None]:
    return [None if value is np.ma.masked else float(f"{value:.4g}") for value in values_k]


def _write_maps(
    path: Path, moments: dict[str, reverse_correlation.Moments], images: dict[str, maps.ClassificationImages]
) -> None:
    """Moments for every class, and a map for every class that has one: "decision_map_3". An empty class has no key."""
    arrays: dict[str, Any] = {}
    for name, m in moments.items():
        arrays |= {
            "num_samples": m.num_samples,
            "num_draws": m.num_draws,
            "total_sum": m.total_sum,
            "total_square_sum": m.total_square_sum,
        }
        for field in ("count", "weight_sum", "weight_square_sum", "draw_square_sum", "sum", "square_sum"):
            arrays[f"{name}_{field}"] = getattr(m, field)
        for k, image in enumerate(images[name].images):
            if image.count():
                arrays[f"{name}_map_{k}"] = image.filled()
                arrays[f"{name}_standard_error_{k}"] = images[name].standard_error[k].filled()
    with common.replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def _draw(
    settings: common.Settings,
    out_dir: Path,
    dataset: data.Dataset,
    stimulus: noise.Noise,
    network: common.Network,
    moments: dict[str, reverse_correlation.Moments],
    images: dict[str, maps.ClassificationImages],
    feedback: dict[str, list[templates.Feedback | None]],
    reliability: dict[str, statistics.SplitHalf],
) -> None:
    what = f"{settings.model} on {dataset.name} (test accuracy {network.metrics['test_accuracy']:.2%})"
    independent = moments["decision"].num_draws == settings.num_samples
    dose = f"{settings.num_samples:,} {'images' if independent else 'overlapping windows'} of {settings.noise} noise"
    by_class = [dataset.train.images[dataset.train.labels == k] for k in range(dataset.num_classes)]
    means = np.stack([members.mean(axis=0) / 255 for members in by_class])
    shown = {name: images[name] for name in settings.response}
    title = f"Classification images of {what}: {dose}"
    significant = {  # a test for independent samples alone
        name: statistics.significant_pixels(statistics.z_map(shown[name]), num_maps=dataset.num_classes)
        for name in shown
        if independent
    }
    common.save(
        figures.classification_images(shown, feedback, reliability, significant, dataset.class_names, means, title),
        out_dir / "classification_images.png",
    )

    p = moments["probability"].weight_sum / settings.num_samples if "probability" in moments else None
    histogram = figures.shares(moments["decision"].count, p, dataset.class_names, f"What {what} answers to {dose}")
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
        figures.gallery(rows, dataset.class_names, f"{dataset.name}: mean and first training images of each class"),
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
