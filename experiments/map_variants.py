"""Other ways to make a map from the same noise: weighted or filtered by confidence, root mean squares, three levels.

Shows a trained network white noise once, and draws for each class the variants of its bias map that arXiv 1912.12106
has: the mean, the mean minus that of all noise, the mean weighted by confidence, the mean of confident decisions
alone, the root mean square, and the mean in three levels. Each is stretched to [0, 1] and fed back to the network.

  python -m experiments.map_variants                                   embedded digits, no download
  python -m experiments.map_variants --dataset=mnist --noise=uniform   the paper's noise

Writes to --out_dir: map_variants.png, maps.npz, metrics.json, config.json and log.jsonl.
"""

from dataclasses import dataclass

import numpy as np
from absl import flags

from experiments import common
from wna_jax import figures, maps, noise, responses, reverse_correlation, templates

flags.DEFINE_float(
    "confidence", 0.3, "a decision counts as confident above this probability", lower_bound=0, upper_bound=1
)


@dataclass(frozen=True)
class Settings(common.NetworkSettings):
    """The flags of one run, as a value."""

    noise: str
    confidence: float
    sampling: reverse_correlation.Sampling
    num_samples: int
    batch_size: int | None
    seed: int


def run(settings: Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    out_dir = common.open_output(settings)
    confident = f"confident:{settings.confidence:g}"
    with common.reporting(out_dir) as report:
        dataset = common.classes_to_tell(settings, report)
        stimulus = noise.create(settings.noise, dataset)
        network = common.trained_network(settings, dataset, report)
        moments = reverse_correlation.reverse_correlate(
            stimulus,
            responses.of_classifier(network.logits_function, ("decision", "confidence", confident)),
            settings.num_samples,
            seed=settings.seed,
            batch_size=settings.batch_size,
            sampling=settings.sampling,
            report=report,
        )
    decision = moments["decision"]
    variants = {
        "mean": maps.mean_images(decision),
        "centred": maps.classification_images(decision, stimulus).images,
        "weighted by confidence": maps.mean_images(moments["confidence"]),
        f"confidence > {settings.confidence:g}": maps.mean_images(moments[confident]),
        "root mean square": maps.rms_images(decision),
        "three levels": maps.three_levels(maps.min_max(maps.mean_images(decision))),
    }
    feedback = {name: templates.feed_back(network.logits_function, images) for name, images in variants.items()}
    kept = int(moments[confident].count.sum())
    what = f"{settings.model} on {dataset.title} (test accuracy {network.metrics['test_accuracy']:.2%})"
    dose = f"{settings.num_samples:,} samples of {settings.noise} noise, {kept:,} of them with confidence above"
    captions = [
        [_answer(answers[k], k, dataset.class_names) for k in range(dataset.num_classes)]
        for answers in feedback.values()
    ]
    figure = figures.gallery(
        np.stack([maps.min_max(images).filled(1) for images in variants.values()]),
        list(variants),
        f"Ways to make a map, {what}: {dose} {settings.confidence:g}. Below: what the network calls the map",
        captions,
        dataset.class_names,
    )
    common.save(figure, out_dir / "map_variants.png")
    arrays = {
        f"{name.replace(' ', '_')}_map_{k}": image.filled()
        for name, images in variants.items()
        for k, image in enumerate(images)
        if image.count()
    }
    common.write_arrays(out_dir / "maps.npz", **arrays)
    metrics = {
        "num_samples": settings.num_samples,
        "counts": decision.count.tolist(),
        "confident_counts": moments[confident].count.tolist(),
        "confident": kept,
        "called_by_their_own_class": {
            name: [sum(a.predicted == k for k, a in enumerate(answers) if a), sum(a is not None for a in answers)]
            for name, answers in feedback.items()
        },
        "test_accuracy": network.metrics["test_accuracy"],
    }
    common.write_json(out_dir / "metrics.json", metrics)
    common.write_config(out_dir, settings)
    for name, (right, present) in metrics["called_by_their_own_class"].items():
        print(f"{name:25s}{right} of {present} maps are called by their own class")
    print(f"confident       {kept:,} of {settings.num_samples:,}")
    print(f"look at         {out_dir / 'map_variants.png'}")


def _answer(answer: templates.Feedback | None, k: int, class_names: tuple[str, ...]) -> str:
    if answer is None:
        return "empty"
    return f"{'✓' if answer.predicted == k else '✗'} {class_names[answer.predicted]} {answer.confidence:.2f}"


if __name__ == "__main__":
    common.main(run, Settings)
