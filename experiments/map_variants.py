"""Other ways to make a map from the same noise: weighted or filtered by confidence, root mean squares, three levels.

Shows white noise to a trained network once, and draws for each class the variants of its bias map that arXiv 1912.12106
has: the mean, the mean minus that of all noise, the mean weighted by confidence, the mean of confident decisions only,
the root mean square, and the mean in three levels. Each is stretched to [0, 1] and fed back to the network.

  python -m experiments.map_variants                                   embedded digits, no download
  python -m experiments.map_variants --dataset=mnist --noise=uniform   the paper's noise

Writes to --out_dir: map_variants.png, maps.npz, metrics.json, config.json, log.jsonl and state/ (to go on from).
"""

import numpy as np

from experiments import launch, shared
from experiments.settings import SamplingSettings, setting
from wna_jax import figures, maps, responses, reverse_correlate, templates


class Settings(SamplingSettings):
    """The settings of one run."""

    confidence: float = setting(0.3, "Decisions of a higher probability are confident.", at_least=0, at_most=1)


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Noise through the network to the variants of its maps, fed back."""
    names = ["decision", "confidence", f"confident:{settings.confidence:g}"]
    responses.check_names(names)  # before any training
    dataset, stimulus, trained = shared.set_up(settings, report)
    options = shared.loop_options(settings, dataset, trained.network, report, responses=names)
    moments = reverse_correlate(stimulus, responses.of_classifier(trained.network, names), **options)
    decision, confidence, confident = (moments[name] for name in names)
    variants = {
        "mean": maps.mean_images(decision),
        "centred": maps.classification_images(decision, stimulus).images,
        "weighted by confidence": maps.mean_images(confidence),
        f"confidence > {settings.confidence:g}": maps.mean_images(confident),
        "root mean square": maps.rms_images(decision),
        "three levels": maps.three_levels(maps.min_max(maps.mean_images(decision))),
    }
    feedback = {name: templates.feed_back(trained.network, images, noise=stimulus) for name, images in variants.items()}
    called = {name: templates.called_right(answers) for name, answers in feedback.items()}
    kept = int(confident.count.sum())
    metrics = {
        "num_samples": settings.num_samples,
        "counts": decision.count.tolist(),
        "confident_counts": confident.count.tolist(),
        "confident": kept,
        "called_by_their_own_class": called,
        "test_accuracy": trained.test_accuracy,
    }

    def draw() -> launch.Drawn:
        title = (
            f"Ways to make a map, {shared.title_of(settings, dataset)} (test accuracy {trained.test_accuracy:.2%}): "
        )
        title += f"{settings.num_samples:,} samples of {settings.noise} noise, {kept:,} of them with confidence above "
        title += f"{settings.confidence:g}. Below: what the network calls the map"
        shown = np.stack([maps.min_max(images).filled(1) for images in variants.values()])
        captions = [templates.captions(answers, dataset.class_names) for answers in feedback.values()]
        yield "map_variants.png", figures.gallery(shown, list(variants), title, captions, dataset.class_names)

    arrays: dict[str, np.ndarray] = {}
    for name, images in variants.items():
        arrays |= maps.named(f"{name.replace(' ', '_')}_map", images)
    summary = [f"{name:25s}{own} of {n} maps are called by their own class" for name, (own, n) in called.items()]
    summary.append(f"confident       {kept:,} of {settings.num_samples:,}")
    return launch.Result(metrics, summary, draw, {"maps.npz": arrays})


if __name__ == "__main__":
    launch.main(run, Settings)
