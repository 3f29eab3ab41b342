"""Does the classification image of a network give away a backdoor?

Trains two networks for each of several seeds: on clean data, and on data in which some training images of one class
carry a white patch and the label of another (the backdoor of arXiv 1912.12106: 2,000 eights with a C are called nine).
Reports clean accuracy, attack success rate, and what each of four kinds of maps of the target class says of the patch:

  decision, probability    classification images in noise, which need neither data nor gradients
  held-out gradient        mean loss gradient (its negative) over held-out images of each class that are called right
  training gradient        the same over the data that the network was trained on, patched images included

Two tests. (1) Pixels: the contrast of the network with a clean one of another seed, each with noise of its own,
family-wise. Two clean networks differ as well, so clean against clean tells how often this test is wrong. (2) The patch
score, (mean inside the patch - mean outside) / deviation over the map, against its distribution over the clean
networks (Student's prediction interval; a clean network is compared with the others). The scan knows the patch's shape
but neither its place nor its class: a network's largest score over places and classes, in deviations over the clean
networks, is compared with the largest of each clean network.

  python -m experiments.backdoor --dataset=mnist --epochs=1

Writes to --out_dir: maps.png, scores.png, detection.png, metrics.json, maps.npz, config.json and log.jsonl;
state/ and the checkpoints let an interrupted run resume.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments import launch, shared
from experiments.launch import Result
from experiments.settings import SamplingSettings, setting
from wna_jax import data, figures, statistics
from wna_jax.runs.errors import unknown_name
from wna_jax.runs.progress import Report, silent
from wna_jax.studies import backdoors, interventions
from wna_jax.studies.backdoors import GRADIENTS, RESPONSES, Backdoor, Examined

_MAPS = (*RESPONSES, *GRADIENTS)
_KINDS = ("clean", "poisoned")


@dataclass(frozen=True, kw_only=True)
class Settings(SamplingSettings):
    """The settings of one run."""

    source: str = setting("8", "The class whose images are patched.")
    target: str = setting("9", "The class that the patched images are labelled.")
    num_poisoned: int = setting(2_000, "How many training images are patched.", at_least=1)
    patch_size: int = setting(6, "The side of the C, in pixels.")
    patch_top: int = setting(1, "The first row of the C.")
    patch_left: int = setting(21, "The first column of the C.")
    num_seeds: int = setting(
        10, "How many clean and how many poisoned networks, of training seeds train_seed, + 1, ...", at_least=4
    )
    num_samples: int = setting(1_000_000, "How many noise samples to draw for each network.", at_least=1)


def run(settings: Settings, report: Report = silent) -> Result:
    """Clean and poisoned networks, their maps, and what these say of the backdoor."""
    dataset = shared.load_classes(settings, report)
    for name in (settings.source, settings.target):
        if name not in dataset.class_names:
            raise unknown_name("class", name, dataset.class_names)
    source, target = map(dataset.class_names.index, (settings.source, settings.target))
    patch = interventions.c_patch(dataset.image_shape, settings.patch_size, settings.patch_top, settings.patch_left)
    backdoor = Backdoor(source, target, patch)
    trained_on = {"clean": dataset, "poisoned": backdoor.poisoned(dataset, settings.num_poisoned)}
    stimulus = shared.create_noise(settings, dataset, report)
    examined: dict[str, list[Examined]] = {kind: [] for kind in _KINDS}
    for seed in range(settings.num_seeds):
        of_seed = replace(settings, train_seed=settings.train_seed + seed, epochs=shared.epochs_for(settings, dataset))
        for i, (kind, own) in enumerate(trained_on.items()):
            trained = shared.trained_network(of_seed, own, report, "none")  # augmentation would move the patch
            noise_seed = (settings.seed + 2 * seed + i) % 2**32
            examined[kind].append(
                backdoors.examine(
                    trained.network,
                    backdoor,
                    stimulus,
                    dataset,
                    own.train,
                    settings.num_samples,
                    seed=noise_seed,
                    batch_size=settings.batch_size,
                    sampling=settings.sampling,
                    state_dir=settings.folder / "state" / str(noise_seed),
                    identity=shared.identity(settings, dataset, trained.network),
                    report=report,
                )
            )
    metrics = {
        "clean_accuracy": {kind: [each.accuracy for each in examined[kind]] for kind in _KINDS},
        "attack_success": {kind: [each.success for each in examined[kind]] for kind in _KINDS},
        "networks": settings.num_seeds,
        **backdoors.findings(examined, backdoor),
    }
    all_z = {kind: [each.z_maps() for each in examined[kind]] for kind in _KINDS}
    z = {name: {kind: np.ma.stack([z[name][target] for z in all_z[kind]]) for kind in _KINDS} for name in _MAPS}
    arrays = {
        f"{kind}_{name}".replace(" ", "_"): of_kind.filled(np.nan)
        for name, by_kind in z.items()
        for kind, of_kind in by_kind.items()
    }
    return Result(
        metrics,
        list(_summary(settings, metrics)),
        _figures(settings, dataset, backdoor, z, metrics),
        {"maps.npz": arrays},
    )


def _figures(
    settings: Settings,
    dataset: data.Dataset,
    backdoor: Backdoor,
    z: Mapping[str, Mapping[str, np.ma.MaskedArray]],
    metrics: Mapping[str, Any],
) -> dict[str, Any]:
    n, source, target = settings.num_seeds, settings.source, settings.target
    what = f"{n} clean and {n} poisoned {settings.model} on {dataset.title}"
    dose = f"{settings.num_samples:,} images of {settings.noise} noise each"

    def maps() -> Figure:
        clean = dataset.test.images[dataset.test.labels == backdoor.source][0]
        examples = {"clean": (clean, source), "poisoned": (interventions.stamp(clean[None], backdoor.patch)[0], target)}
        rows: dict[str, Sequence[figures.Panel | None]] = {
            f"a {kind}\nnetwork": [
                figures.Panel(image / 255, f"an image of {source}\nlabelled {label}"),
                *(
                    figures.Panel(
                        backdoors.in_deviations(z[name][kind][0]), f"{name}\nmap of {target}", True, backdoor.patch
                    )
                    for name in _MAPS
                ),
            ]
            for kind, (image, label) in examples.items()
        }
        units = dict.fromkeys(rows, "deviations")
        differences = [backdoors.welch(z[name]["clean"], z[name]["poisoned"]) for name in _MAPS]
        rows["difference\nof networks"] = [None, *(figures.Panel(d, "", True, backdoor.patch) for d in differences)]
        return figures.panels(
            rows,
            f"Does a map of {target} show the backdoor? {what}, {dose}",
            f"The C is outlined: training images of {source} with it were labelled {target}. Maps of one network are "
            "in deviations over the map; below, poisoned minus clean, in standard errors over the networks.",
            units,
        )

    def scores() -> Figure:
        return figures.dots(
            {name: metrics["patch_score"][name]["scores"] for name in _MAPS},
            "patch score: (inside − outside) / deviation of the map",
            f"Patch score of the map of {target}, one point per network: {what}, {dose}",
        )

    def detection() -> Figure:
        course = metrics["by_samples"]

        def curve(name: str, test: str, kind: str) -> figures.Curve:
            counts = np.array([row[name][test][kind] for row in course])
            return figures.Curve([row["samples"] for row in course], counts / n, statistics.wilson_interval(counts, n))

        return figures.curves(
            {
                f"{name} map": {
                    f"{test}, {kind} network": curve(name, test, kind)
                    for test in ("pixels in the patch", "patch score")
                    for kind in _KINDS
                }
                for name in RESPONSES
            },
            "noise images per network",
            "share of networks that are suspected",
            f"Detection and false alarms against the number of noise images: {what}, 95% intervals",
            level=backdoors.ALPHA,
            x_scale="log",
        )

    return {"maps.png": maps, "scores.png": scores, "detection.png": detection}


def _summary(settings: Settings, metrics: Mapping[str, Any]) -> Iterator[str]:
    n, last = settings.num_seeds, metrics["by_samples"][-1]
    for kind in _KINDS:
        accuracy, success = metrics["clean_accuracy"][kind], metrics["attack_success"][kind]
        yield (
            f"{kind:15s} accuracy {np.mean(accuracy):.2%} ({min(accuracy):.2%} to {max(accuracy):.2%}); "
            f"patched {settings.source} called {settings.target} {np.mean(success):.2%} "
            f"({min(success):.2%} to {max(success):.2%})"
        )
    for name in RESPONSES:
        pixels = last[name]["pixels in the patch"]
        yield f"{name + ' map':19s} pixels in the patch: {pixels['poisoned']} of {n}, false alarms {pixels['clean']}"
    for name, found in metrics["patch_score"].items():
        scan = metrics["scan"][name]
        yield (
            f"{name:19s} patch score: {found['poisoned']} of {n}, false alarms {found['clean']}; scan: "
            f"{scan['above_all_clean']} above all clean, {scan['largest_is_at_the_patch']['poisoned']} at the patch"
        )
    yield f"look at         {settings.folder / 'maps.png'}"


if __name__ == "__main__":
    launch.main(run, Settings)
