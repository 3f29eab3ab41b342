"""How well do maps of noise classify real images?

Takes the classification images of a trained network, in several noises, as templates: the class whose template matches
an image best is the answer. The network saw the images, the templates are made of noise alone. Beside them stand the
mean training images as templates, and chance.

  python -m experiments.map_classifier                              embedded digits, no download
  python -m experiments.map_classifier --dataset=mnist --noises=matched,uniform,gabor_pca

For each noise, response and variant of the map the rule (is the mean image subtracted, how are templates scaled) is
chosen on the validation images; the test images are classified once, by all classifiers that are reported.

Writes to --out_dir: accuracies.png, confusion.png, templates.npz, metrics.json, config.json and log.jsonl.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags

from experiments import common
from wna_jax import data, figures, maps, noise, responses, statistics, templates
from wna_jax.moments import Moments
from wna_jax.reverse_correlation import reverse_correlate

flags.DEFINE_list(
    "noises", "matched,uniform,gabor_pca", f"whose maps classify, comma-separated: {', '.join(noise.NAMES)}"
)
_RIDGES = (0.01, 0.1, 1.0)
_REFERENCE = "class means"


@dataclass(frozen=True)
class Settings(common.NetworkSettings):
    """The flags of one run, as a value."""

    noises: tuple[str, ...]
    response: tuple[str, ...]
    num_samples: int
    batch_size: int | None
    seed: int


class Candidate(NamedTuple):
    """One kind of templates, and the rule that the validation images chose for it."""

    noise: str
    response: str
    variant: str
    templates: np.ma.MaskedArray
    rule: templates.Rule
    validation_accuracy: float


def run(settings: Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    out_dir = common.open_output(settings)
    with common.reporting(out_dir) as report:
        dataset = common.classes_to_tell(settings, report)
        responses.check_names(settings.response)  # before any training
        network = common.trained_network(settings, dataset, report)
        respond = responses.of_classifier(network.logits_function, settings.response)
        candidates = [_choose(dataset, _REFERENCE, "", name, images) for name, images in _class_means(dataset)]
        counts: dict[str, dict[str, list[int]]] = {}
        for name in settings.noises:
            stimulus = noise.create(name, dataset, Path(settings.checkpoint_dir), settings.retrain, report)
            moments = reverse_correlate(
                stimulus,
                respond,
                settings.num_samples,
                seed=settings.seed,
                batch_size=settings.batch_size,
                sampling="independent",
                state_dir=out_dir / "state" / re.sub(r"[^\w.-]+", "_", name),
                identity={"noise": name, "data": dataset.fingerprint, "network": network.fingerprint},
                report=report,
            )
            counts[name] = {response: moments[response].count.tolist() for response in settings.response}
            covariance = None if stimulus.white else noise.covariance(stimulus)
            for response in settings.response:
                for variant, images in _variants(moments[response], stimulus, covariance):
                    candidates.append(_choose(dataset, name, response, variant, images))
    test = dataset.test
    rows, confusions = [], {}
    for candidate in candidates:
        answers = _classifier(dataset, candidate.templates, candidate.rule).classify(test.images)
        confusion = templates.confusion_matrix(test.labels, answers, dataset.num_classes)
        confusions[candidate.noise, candidate.response, candidate.variant] = confusion
        authors = _classifier(dataset, candidate.templates, templates.AUTHORS).classify(test.images)
        rows.append(_row(candidate, confusion, int((authors == test.labels).sum()), counts, dataset))
    best = {name: _best(rows, name) for name in (_REFERENCE, *settings.noises)}
    common.write_json(
        out_dir / "metrics.json",
        {
            "network_test_accuracy": network.metrics["test_accuracy"],
            "num_samples": settings.num_samples,
            "test_images": len(test.labels),
            "chance": 1 / dataset.num_classes,
            "best_on_validation": best,
            "classifiers": rows,
            "counts": counts,
        },
    )
    common.write_config(out_dir, settings)
    arrays = {"-".join((c.noise, c.response, c.variant)): c.templates.filled(np.nan) for c in candidates}
    common.write_arrays(out_dir / "templates.npz", **arrays)
    _draw(settings, out_dir, dataset, rows, best, confusions)
    _summarise(out_dir, network.metrics["test_accuracy"], best)


def _class_means(dataset: data.Dataset) -> Iterator[tuple[str, np.ma.MaskedArray]]:
    by_class = [dataset.train.images[dataset.train.labels == k] / 255 for k in range(dataset.num_classes)]
    yield "mean", np.ma.masked_array([images.mean(axis=0) for images in by_class])
    yield "RMS", np.ma.masked_array([np.sqrt((images**2).mean(axis=0)) for images in by_class])


def _variants(
    moments: Moments, stimulus: noise.Noise, covariance: np.ndarray | None
) -> Iterator[tuple[str, np.ma.MaskedArray]]:
    """The kinds of maps of one response that can be templates; maps of white noise are white already."""
    centred = maps.classification_images(moments, stimulus)
    yield "mean", maps.mean_images(moments)
    yield "centred", centred.images
    yield "RMS", maps.rms_images(moments)
    yield "z-scored", statistics.z_map(centred)
    if covariance is not None:
        for ridge in _RIDGES:
            yield f"whitened, ridge {ridge:g}", maps.whitened_images(moments, stimulus, covariance, ridge).images


def _classifier(dataset: data.Dataset, images: np.ma.MaskedArray, rule: templates.Rule) -> templates.TemplateClassifier:
    return templates.template_classifier(images, rule, dataset.train.images)


def _choose(dataset: data.Dataset, name: str, response: str, variant: str, images: np.ma.MaskedArray) -> Candidate:
    """The templates with the rule that classifies most validation images right (the first of equals)."""
    images, labels = np.ma.masked_array(images), dataset.validation.labels
    right = {
        rule: float(np.mean(_classifier(dataset, images, rule).classify(dataset.validation.images) == labels))
        for rule in templates.RULES
    }
    rule = max(right, key=right.__getitem__)
    return Candidate(name, response, variant, images, rule, right[rule])


def _row(
    candidate: Candidate, confusion: np.ndarray, right_by_authors: int, counts: dict, dataset: data.Dataset
) -> dict:
    right, total = int(np.trace(confusion)), int(confusion.sum())
    interval = statistics.wilson_interval(right, total)
    absent = np.ma.getmaskarray(candidate.templates).all(axis=(1, 2, 3))
    return {
        "noise": candidate.noise,
        "response": candidate.response,
        "variant": candidate.variant,
        "rule": candidate.rule._asdict(),
        "validation_accuracy": candidate.validation_accuracy,
        "test_accuracy": right / total,
        "interval_95": [float(interval.low), float(interval.high)],
        "authors_rule_test_accuracy": right_by_authors / total,
        "confusion": confusion.tolist(),
        "classes_without_template": [dataset.class_names[k] for k in np.flatnonzero(absent)],
    }


def _best(rows: list[dict], name: str) -> dict:
    """Of one noise, what the validation images chose."""
    row = max((row for row in rows if row["noise"] == name), key=lambda row: row["validation_accuracy"])
    return {key: value for key, value in row.items() if key != "confusion"}


def _draw(
    settings: Settings,
    out_dir: Path,
    dataset: data.Dataset,
    rows: list[dict],
    best: dict[str, dict],
    confusions: dict[tuple[str, str, str], np.ndarray],
) -> None:
    what = f"{settings.model} on {dataset.title}"
    common.save(
        figures.template_accuracies(
            rows,
            1 / dataset.num_classes,
            f"Maps of noise as classifiers: {what}, {settings.num_samples:,} samples of each noise, "
            f"{len(dataset.test.labels):,} test images",
        ),
        out_dir / "accuracies.png",
    )
    shown = {}
    for name, row in best.items():
        accuracy, (low, high) = row["test_accuracy"], row["interval_95"]
        kind = f"{row['response']} maps, {row['variant']}" if row["response"] else row["variant"]
        shown[f"{name}: {kind}\n{accuracy:.1%} ({low:.1%} to {high:.1%})"] = confusions[
            name, row["response"], row["variant"]
        ]
    title = f"Templates from noise on {dataset.title}'s test images: share of each true class"
    common.save(figures.confusions(shown, dataset.class_names, title), out_dir / "confusion.png")


def _summarise(out_dir: Path, network_accuracy: float, best: dict[str, dict]) -> None:
    print(f"network         {network_accuracy:.2%}")
    for name, row in best.items():
        low, high = row["interval_95"]
        kind = f"{row['response']} {row['variant']}".strip()
        print(
            f"{name:15s} {row['test_accuracy']:.2%} ({low:.2%} to {high:.2%}) by {kind} templates, "
            f"{'centred, ' if row['rule']['centred'] else ''}scale {row['rule']['scale']}"
        )
        if row["classes_without_template"]:
            print(f"{'':15s} never answered, for want of a template: {', '.join(row['classes_without_template'])}")
    print(f"look at         {out_dir / 'accuracies.png'}")


if __name__ == "__main__":
    common.main(run, Settings)
