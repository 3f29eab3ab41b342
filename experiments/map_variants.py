"""Other ways to make a map from the same noise: weighted or filtered by confidence, root mean squares, three levels.

Shows white noise to a trained network once, and draws for each class the variants of its bias map that arXiv 1912.12106
has: the mean, the mean minus that of all noise, the mean weighted by confidence, the mean of confident decisions only,
the root mean square, and the mean in three levels. Each is stretched to [0, 1] and fed back to the network.

  python -m experiments.map_variants                                   embedded digits, no download
  python -m experiments.map_variants --dataset=mnist --noise=uniform   the paper's noise

Writes to --out_dir: map_variants.png, maps.npz, metrics.json, config.json, log.jsonl and state/ (to go on from).
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from experiments import launch, shared
from experiments.launch import Result
from experiments.settings import SamplingSettings, setting
from wna_jax import figures, maps, responses, templates
from wna_jax.correlation import reverse_correlate
from wna_jax.runs.progress import Report, silent


@dataclass(frozen=True, kw_only=True)
class Settings(SamplingSettings):
    """The settings of one run."""

    confidence: float = setting(0.3, "Decisions of a higher probability are confident.", at_least=0, at_most=1)


def run(settings: Settings, report: Report = silent) -> Result:
    """Noise through the network to the variants of its maps, fed back."""
    names = ["decision", "confidence", f"confident:{settings.confidence:g}"]
    responses.check_names(names)  # before any training
    dataset = shared.load_classes(settings, report)
    stimulus = shared.create_noise(settings, dataset, report)
    trained = shared.trained_network(settings, dataset, report)
    moments = reverse_correlate(
        stimulus,
        responses.of_classifier(trained.network, names),
        settings.num_samples,
        seed=settings.seed,
        batch_size=settings.batch_size,
        sampling=settings.sampling,
        state_dir=settings.folder / "state",
        identity=shared.identity(settings, dataset, trained.network, responses=names),
        report=report,
    )
    decision, confidence, confident = (moments[name] for name in names)
    variants = {
        "mean": maps.mean_images(decision),
        "centred": maps.classification_images(decision, stimulus).images,
        "weighted by confidence": maps.mean_images(confidence),
        f"confidence > {settings.confidence:g}": maps.mean_images(confident),
        "root mean square": maps.rms_images(decision),
        "three levels": maps.three_levels(maps.min_max(maps.mean_images(decision))),
    }
    feedback = {name: templates.feed_back(trained.network, images) for name, images in variants.items()}
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
    title = (
        f"Ways to make a map, {settings.model} on {dataset.title} (test accuracy {trained.test_accuracy:.2%}): "
        f"{settings.num_samples:,} samples of {settings.noise} noise, {kept:,} of them with confidence above "
        f"{settings.confidence:g}. Below: what the network calls the map"
    )

    def gallery() -> Figure:
        shown = np.stack([maps.min_max(images).filled(1) for images in variants.values()])
        captions = [templates.captions(answers, dataset.class_names) for answers in feedback.values()]
        return figures.gallery(shown, list(variants), title, captions, dataset.class_names)

    arrays: dict[str, np.ndarray] = {}
    for name, images in variants.items():
        arrays |= maps.named(f"{name.replace(' ', '_')}_map", images)
    summary = [
        *(
            f"{name:25s}{right} of {count} maps are called by their own class"
            for name, (right, count) in called.items()
        ),
        f"confident       {kept:,} of {settings.num_samples:,}",
        f"look at         {settings.folder / 'map_variants.png'}",
    ]
    return Result(metrics, summary, {"map_variants.png": gallery}, {"maps.npz": arrays})


if __name__ == "__main__":
    launch.main(run, Settings)
