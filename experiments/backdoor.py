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

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from experiments import launch, shared
from experiments.settings import SamplingSettings, setting
from wna_jax import figures, statistics
from wna_jax.runs.errors import unknown_name
from wna_jax.runs.progress import in_parts
from wna_jax.studies import backdoors, interventions
from wna_jax.studies.backdoors import GRADIENTS, RESPONSES

_MAPS, _KINDS = (*RESPONSES, *GRADIENTS), ("clean", "poisoned")
_TESTS = ("pixels in the patch", "patch score")


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


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Clean and poisoned networks, their maps, and what these say of the backdoor."""
    dataset = shared.load_classes(settings, report)
    for name in (settings.source, settings.target):
        if name not in dataset.class_names:
            raise unknown_name("class", name, dataset.class_names)
    source, target = map(dataset.class_names.index, (settings.source, settings.target))
    patch = interventions.c_patch(dataset.image_shape, settings.patch_size, settings.patch_top, settings.patch_left)
    backdoor = backdoors.Backdoor(source, target, patch)
    trained_on = {"clean": dataset, "poisoned": backdoor.poisoned(dataset, settings.num_poisoned)}
    stimulus = shared.create_noise(settings, dataset, report)
    examined: dict[str, list[backdoors.Examined]] = {kind: [] for kind in _KINDS}
    jobs = f"training {settings.model}", "noise"
    for seed, told in in_parts(report, range(settings.num_seeds), *jobs):
        of_seed = replace(settings, train_seed=settings.train_seed + seed, epochs=shared.epochs_for(settings, dataset))
        for (i, (kind, own)), tell in in_parts(told, list(enumerate(trained_on.items())), *jobs):
            network = shared.trained_network(of_seed, own, tell, "none").network  # augmentation would move the patch
            noise_seed = (settings.seed + 2 * seed + i) % 2**32
            options = shared.loop_options(replace(settings, seed=noise_seed), dataset, network, tell, str(noise_seed))
            examined[kind].append(backdoors.examine(network, backdoor, stimulus, dataset, own.train, **options))
    metrics = {
        "clean_accuracy": {kind: [each.accuracy for each in examined[kind]] for kind in _KINDS},
        "attack_success": {kind: [each.success for each in examined[kind]] for kind in _KINDS},
        "networks": settings.num_seeds,
        **backdoors.findings(examined, backdoor),
    }
    all_z = {kind: [each.z_maps() for each in examined[kind]] for kind in _KINDS}
    z = {name: {kind: np.ma.stack([z[name][target] for z in all_z[kind]]) for kind in _KINDS} for name in _MAPS}
    arrays = {f"{kind}_{name}".replace(" ", "_"): z[name][kind].filled(np.nan) for name in _MAPS for kind in _KINDS}
    n = settings.num_seeds
    what = f"{n} clean and {n} poisoned {shared.title_of(settings, dataset)}"
    dose = f"{settings.num_samples:,} images of {settings.noise} noise each"

    def panel(image: np.ndarray, heading: str = "") -> figures.Panel:
        return figures.Panel(image, heading, True, patch)

    def curve(name: str, test: str, kind: str) -> figures.Curve:
        course = metrics["by_samples"]
        counts = np.array([row[name][test][kind] for row in course])
        return figures.Curve([row["samples"] for row in course], counts / n, statistics.wilson_interval(counts, n))

    def draw() -> launch.Drawn:
        clean = dataset.test.images[dataset.test.labels == source][0]
        stamped = interventions.stamp(clean[None], patch)[0]
        rows: dict[str, Sequence[figures.Panel | None]] = {}
        for kind, image, label in (("clean", clean, settings.source), ("poisoned", stamped, settings.target)):
            shown = figures.Panel(image / 255, f"an image of {settings.source}\nlabelled {label}")
            own = {name: backdoors.in_deviations(z[name][kind][0]) for name in _MAPS}
            of_maps = [panel(of, f"{name}\nmap of {settings.target}") for name, of in own.items()]
            rows[f"a {kind}\nnetwork"] = [shown, *of_maps]
        units = dict.fromkeys(rows, "deviations")
        differences = [backdoors.welch(z[name]["clean"], z[name]["poisoned"]) for name in _MAPS]
        rows["difference\nof networks"] = [None, *map(panel, differences)]
        title = f"Does a map of {settings.target} show the backdoor? {what}, {dose}"
        note = f"The C is outlined: training images of {settings.source} with it were labelled {settings.target}. Maps "
        note += "of one network are in deviations over the map; below, poisoned minus clean, in standard errors over "
        note += "the networks."
        yield "maps.png", figures.panels(rows, title, note, units)
        scores = {name: metrics["patch_score"][name]["scores"] for name in _MAPS}
        title = f"Patch score of the map of {settings.target}, one point per network: {what}, {dose}"
        axis = "patch score: (inside − outside) / deviation of the map"
        yield "scores.png", figures.dots(scores, axis, title)
        lines = {f"{test}, {kind} network": (test, kind) for test in _TESTS for kind in _KINDS}
        curves = {f"{name} map": {line: curve(name, *of) for line, of in lines.items()} for name in RESPONSES}
        title = f"Detection and false alarms against the number of noise images: {what}, 95% intervals"
        axes = "noise images per network", "share of networks that are suspected"
        yield "detection.png", figures.curves(curves, *axes, title, level=backdoors.ALPHA, x_scale="log")

    summary = []
    for kind in _KINDS:
        accuracy, success = (
            f"{np.mean(shares):.2%} ({min(shares):.2%} to {max(shares):.2%})"
            for shares in (metrics["clean_accuracy"][kind], metrics["attack_success"][kind])
        )
        summary.append(f"{kind:15s} accuracy {accuracy}; patched {settings.source} called {settings.target} {success}")
    for name in RESPONSES:
        pixels = metrics["by_samples"][-1][name]["pixels in the patch"]
        counts = f"{pixels['poisoned']} of {n}, false alarms {pixels['clean']}"
        summary.append(f"{name + ' map':19s} pixels in the patch: {counts}")
    for name, found in metrics["patch_score"].items():
        scan = metrics["scan"][name]
        counts = f"{found['poisoned']} of {n}, false alarms {found['clean']}; scan: {scan['above_all_clean']}"
        at_the_patch = f"{scan['largest_is_at_the_patch']['poisoned']} at the patch"
        summary.append(f"{name:19s} patch score: {counts} above all clean, {at_the_patch}")
    return launch.Result(metrics, summary, draw, {"maps.npz": arrays})


if __name__ == "__main__":
    launch.main(run, Settings)
