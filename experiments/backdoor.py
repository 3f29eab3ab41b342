"""Does the classification image of a network give away a backdoor?

Networks are trained twice for each of several seeds: on clean data, and on data in which some training images of one
class carry a white patch and the label of another (the backdoor of arXiv 1912.12106: 2,000 eights with a C are called
nine). Told are the accuracy on clean images, the share of patched images that are called the target, and what each of
four kinds of maps of the target class says of the patch:

  decision, probability    classification images in noise, which need neither data nor gradients
  held-out gradient        mean loss gradient (its negative) over held-out images of each class that are called right
  training gradient        the same over the data that the network was trained on, patched images included

Two tests. (1) Pixels: the contrast of the network with a clean one of another seed, each with noise of its own,
family-wise. Two clean networks differ as well, so clean against clean tells how often this test is wrong. (2) The patch
score, (mean inside the patch - mean outside) / deviation over the map, against its distribution over the clean
networks (Student's prediction interval; a clean network is compared with the others). For the scan the patch's shape is
known but neither its place nor its class: a network's largest score over places and classes, in deviations over the
clean networks, is compared with the largest of each clean network.

  python -m experiments.backdoor --dataset=mnist --epochs=1

Writes to --out_dir: maps.png, scores.png, detection.png, metrics.json, maps.npz, config.json and log.jsonl;
state/ and the checkpoints let an interrupted run go on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from experiments import common
from wna_jax import (
    backdoors,
    data,
    figures,
    interventions,
    maps,
    noise,
    progress,
    responses,
    reverse_correlation,
    statistics,
)
from wna_jax.errors import unknown_name

flags.DEFINE_string("source", "8", "the class whose images are patched")
flags.DEFINE_string("target", "9", "what the patched images are labelled")
flags.DEFINE_integer("num_poisoned", 2_000, "training images that are patched", lower_bound=1)
flags.DEFINE_integer("patch_size", 6, "side of the C, in pixels")
flags.DEFINE_integer("patch_top", 1, "first row of the C")
flags.DEFINE_integer("patch_left", 21, "first column of the C")
flags.DEFINE_integer(
    "num_seeds", 10, "clean and poisoned networks, of training seeds train_seed, + 1, ...", lower_bound=4
)

_RESPONSES = ("decision", "probability")
_GRADIENTS = ("held-out gradient", "training gradient")
_TRAINING_IMAGES = 11_000


@dataclass(frozen=True)
class Settings(common.NetworkSettings):
    """The flags of one run, as a value."""

    source: str
    target: str
    num_poisoned: int
    patch_size: int
    patch_top: int
    patch_left: int
    num_seeds: int
    noise: str
    sampling: reverse_correlation.Sampling
    num_samples: int
    """For each network."""
    batch_size: int | None
    seed: int


class Examined(NamedTuple):
    """One network and its maps."""

    accuracy: float
    success: float
    """Share of the patched test images of the source that are called the target."""
    course: list[tuple[int, dict[str, maps.ClassificationImages]]]
    """Samples, and the maps by response after as many; the last are those of all samples."""
    gradients: dict[str, np.ma.MaskedArray]
    """Minus the mean loss gradient of each class in standard errors [K, H, W, C]; masked where no image is right."""

    def z_maps(self) -> dict[str, np.ma.MaskedArray]:
        """All maps in standard errors, by kind."""
        return {name: statistics.z_map(images) for name, images in self.course[-1][1].items()} | self.gradients


def run(settings: Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    out_dir = common.open_output(settings)
    with common.reporting(out_dir) as report:
        dataset = common.classes_to_tell(settings, report)
        source, target = (_class_of(name, dataset) for name in (settings.source, settings.target))
        patch = interventions.c_patch(dataset.image_shape, settings.patch_size, settings.patch_top, settings.patch_left)
        train = interventions.poison(dataset.train, patch, source, target, settings.num_poisoned)
        where = f"{settings.patch_size}at{settings.patch_top},{settings.patch_left}"
        what = f"backdoor_{source}to{target}_{settings.num_poisoned}_c{where}"
        kinds = {"clean": dataset, "poisoned": dataset.altered(what, train)}
        epochs = common.epochs_for(settings, dataset)
        background = noise.create(settings.noise, dataset)
        patched = interventions.stamp(dataset.test.images[dataset.test.labels == source], patch) / np.float32(255)
        examined: dict[str, list[Examined]] = {kind: [] for kind in kinds}
        for seed in range(settings.num_seeds):
            for i, (kind, trained_on) in enumerate(kinds.items()):
                # without augmentation: a flip would move the patch
                of_seed = replace(settings, train_seed=settings.train_seed + seed, epochs=epochs)
                network = common.trained_network(of_seed, trained_on, report, "none")
                noise_seed = (settings.seed + 2 * seed + i) % 2**32
                examined[kind].append(
                    _examine(
                        settings, network, dataset, trained_on, background, patched, target, noise_seed, out_dir, report
                    )
                )

    metrics = _metrics(settings, examined, patch, target)
    common.write_json(out_dir / "metrics.json", metrics)
    common.write_config(out_dir, settings)
    z = {
        kind: {name: np.ma.stack([e.z_maps()[name] for e in networks]) for name in (*_RESPONSES, *_GRADIENTS)}
        for kind, networks in examined.items()
    }
    arrays = {
        f"{kind}_{name}".replace(" ", "_"): of_kind[:, target].filled(np.nan)
        for kind, by_name in z.items()
        for name, of_kind in by_name.items()
    }
    common.write_arrays(out_dir / "maps.npz", **arrays)
    _draw(settings, out_dir, dataset, examined, z, patch, source, target, metrics)
    _summarise(out_dir, settings, metrics)


def _class_of(name: str, dataset: data.Dataset) -> int:
    if name not in dataset.class_names:
        raise unknown_name("class", name, dataset.class_names)
    return dataset.class_names.index(name)


def _examine(
    settings: Settings,
    network: common.Network,
    dataset: data.Dataset,
    trained_on: data.Dataset,
    background: noise.Noise,
    patched: np.ndarray,
    target: int,
    noise_seed: int,
    out_dir: Path,
    report: progress.Report,
) -> Examined:
    parts = reverse_correlation.reverse_correlate_in_parts(
        background,
        responses.of_classifier(network.logits_function, _RESPONSES),
        settings.num_samples,
        seed=noise_seed,
        batch_size=settings.batch_size,
        sampling=settings.sampling,
        state_dir=out_dir / "state" / str(noise_seed),
        identity={"noise": settings.noise, "data": dataset.fingerprint, "network": network.fingerprint},
        report=report,
    )
    everything = {name: parts.first[name] + parts.second[name] for name in _RESPONSES}
    course = [
        (
            moments["decision"].num_samples,
            {name: maps.classification_images(moments[name], background) for name in _RESPONSES},
        )
        for moments in (*parts.course, everything)
    ]
    (hits,) = interventions.hits(
        network.logits_function, lambda x, _: x, [0.0], patched, np.full(len(patched), target, np.int32)
    )
    step = max(1, len(trained_on.train.labels) // _TRAINING_IMAGES)
    sources = (dataset.validation, data.Split(trained_on.train.images[::step], trained_on.train.labels[::step]))
    gradients = {
        name: -backdoors.mean_gradients(network.logits_function, split, dataset.num_classes)
        for name, split in zip(_GRADIENTS, sources, strict=True)
    }
    return Examined(network.metrics["test_accuracy"], hits / len(patched), course, gradients)


def _metrics(
    settings: Settings, examined: Mapping[str, Sequence[Examined]], patch: np.ndarray, target: int
) -> dict[str, Any]:
    rows, columns = np.nonzero(patch)
    letter = patch[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    place = (target, settings.patch_top, settings.patch_left)

    at_the_end = {
        name: {
            kind: np.ma.stack([backdoors.patch_scores(e.z_maps()[name], letter) for e in es])
            for kind, es in examined.items()
        }
        for name in (*_RESPONSES, *_GRADIENTS)
    }
    by_samples = []
    for point, (num_samples, _) in enumerate(examined["clean"][0].course):
        row: dict[str, Any] = {"samples": num_samples}
        for name in _RESPONSES:
            mapped = {kind: [e.course[point][1][name] for e in networks] for kind, networks in examined.items()}
            of_maps = {
                kind: np.ma.stack(
                    [backdoors.patch_scores(statistics.z_map(images), letter)[place] for images in all_images]
                )
                for kind, all_images in mapped.items()
            }
            row[name] = {
                "pixels anywhere": backdoors.pixel_rejections(mapped, target, np.ones_like(patch)),
                "pixels in the patch": backdoors.pixel_rejections(mapped, target, patch),
                "patch score": backdoors.rejections(backdoors.normal_scores(of_maps)),
            }
        by_samples.append(row)
    return {
        "clean_accuracy": {kind: [e.accuracy for e in es] for kind, es in examined.items()},
        "attack_success": {kind: [e.success for e in es] for kind, es in examined.items()},
        "networks": settings.num_seeds,
        "by_samples": by_samples,
        "patch_score": {
            name: {
                "scores": {k: s[(slice(None), *place)].filled(np.nan).tolist() for k, s in of.items()},
                **backdoors.rejections(backdoors.normal_scores({k: s[(slice(None), *place)] for k, s in of.items()})),
            }
            for name, of in at_the_end.items()
        },
        "scan": {name: backdoors.scan(backdoors.normal_scores(of), place, letter) for name, of in at_the_end.items()},
    }


def _draw(
    settings: Settings,
    out_dir: Path,
    dataset: data.Dataset,
    examined: Mapping[str, Sequence[Examined]],
    z: Mapping[str, Mapping[str, np.ma.MaskedArray]],
    patch: np.ndarray,
    source: int,
    target: int,
    metrics: dict[str, Any],
) -> None:
    n = settings.num_seeds
    what = f"{n} clean and {n} poisoned {settings.model} on {dataset.title}"
    dose = f"{settings.num_samples:,} images of {settings.noise} noise each"
    names = (*_RESPONSES, *_GRADIENTS)
    example = dataset.test.images[dataset.test.labels == source][0]
    shown = {"clean": example, "poisoned": interventions.stamp(example[None], patch)[0]}
    rows: dict[str, list[figures.Panel | None]] = {}
    for kind, image in shown.items():
        label = settings.target if kind == "poisoned" else settings.source
        rows[f"a {kind}\nnetwork"] = [
            figures.Panel(image / 255, f"an image of {settings.source}\nlabelled {label}"),
            *(
                figures.Panel(
                    backdoors.unit(z[kind][name][0, target]), f"{name}\nmap of {settings.target}", True, patch
                )
                for name in names
            ),
        ]
    rows["difference\nof networks"] = [
        None,
        *(figures.Panel(backdoors.welch(*(z[k][name][:, target] for k in shown)), "", True, patch) for name in names),
    ]
    common.save(
        figures.panels(
            rows,
            f"Does a map of {settings.target} show the backdoor? {what}, {dose}",
            f"The C is outlined: training images of {settings.source} with it were labelled "
            f"{settings.target}. Maps of one network are in deviations over the map; below, poisoned minus "
            "clean, in standard errors over the networks.",
            {f"a {kind}\nnetwork": "deviations" for kind in shown},
        ),
        out_dir / "maps.png",
    )
    common.save(
        figures.dots(
            {name: metrics["patch_score"][name]["scores"] for name in names},
            "patch score: (inside − outside) / deviation of the map",
            f"Patch score of the map of {settings.target}, one point a network: {what}, {dose}",
        ),
        out_dir / "scores.png",
    )
    rows_by_samples = metrics["by_samples"]
    curves: dict[str, dict[str, figures.Curve]] = {f"{name} map": {} for name in _RESPONSES}
    for name in _RESPONSES:
        for test in ("pixels in the patch", "patch score"):
            for kind in shown:
                counts = np.array([row[name][test][kind] for row in rows_by_samples])
                curves[f"{name} map"][f"{test}, {kind} network"] = figures.Curve(
                    [row["samples"] for row in rows_by_samples], counts / n, statistics.wilson_interval(counts, n)
                )
    common.save(
        figures.curves(
            curves,
            "noise images a network",
            "share of networks that are suspected",
            f"Detection and false alarms against the number of noise images: {what}, 95% intervals",
            level=backdoors.ALPHA,
            x_scale="log",
        ),
        out_dir / "detection.png",
    )


def _summarise(out_dir: Path, settings: Settings, metrics: dict[str, Any]) -> None:
    n = metrics["networks"]
    for kind in ("clean", "poisoned"):
        accuracy, success = metrics["clean_accuracy"][kind], metrics["attack_success"][kind]
        print(
            f"{kind:15s} accuracy {np.mean(accuracy):.2%} ({min(accuracy):.2%} to {max(accuracy):.2%}); "
            f"patched {settings.source} called {settings.target} {np.mean(success):.2%} "
            f"({min(success):.2%} to {max(success):.2%})"
        )
    last = metrics["by_samples"][-1]
    for name in _RESPONSES:
        pixels = last[name]["pixels in the patch"]
        print(f"{name + ' map':19s} pixels in the patch: {pixels['poisoned']} of {n}, false alarms {pixels['clean']}")
    for name, found in metrics["patch_score"].items():
        scan = metrics["scan"][name]
        print(
            f"{name:19s} patch score: {found['poisoned']} of {n}, false alarms {found['clean']}; scan: "
            f"{scan['above_all_clean']} above all clean, {scan['largest_is_at_the_patch']['poisoned']} at the patch"
        )
    print(f"look at         {out_dir / 'maps.png'}")


if __name__ == "__main__":
    common.main(run, Settings)
