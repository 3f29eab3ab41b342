"""What does a trained network see in noise?

Loads or trains a network, shows it white noise, and averages the noise by the network's response: the classification
image (bias map) of each class, with its count, its standard error, and what the network calls the map itself.

  python -m experiments.noise_maps                                    embedded digits, no download
  python -m experiments.noise_maps --dataset=mnist --noise=uniform    the paper's main experiment (arXiv 1912.12106)
  python -m experiments.noise_maps --model=my_file.py:create --dataset=none --noise=uniform    a network of your own

Writes to --out_dir: report.html (all on one page), classification_images.png, significance.png, convergence.png,
noise_histogram.png, noise_examples.png, class_gallery.png, maps.npz, metrics.json, config.json, log.jsonl and state/
(to go on from).
"""

import dataclasses
from functools import partial
from typing import Any

import numpy as np

from experiments import launch, shared
from experiments.settings import AugmentationSettings, SamplingSettings, choice, setting
from wna_jax import analyse, data, figures, noise, responses, statistics
from wna_jax.analysis import FILE, Analysis
from wna_jax.runs import compilation
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Stopwatch


class Settings(AugmentationSettings, SamplingSettings):
    """The settings of one run."""

    TAKES_OWN_NETWORKS = True

    response: tuple[str, ...] = choice(
        ("decision", "probability"),
        "What is averaged: decision, probability or probability:SHARPNESS, confident:THRESHOLD, confidence, logit.",
    )
    permutations: int = setting(
        199, "Null maps that clusters are compared with; the smallest p is 1 in one more.", at_least=19
    )
    roi: tuple[int, ...] | None = setting(
        None,
        "A region of interest, as ROW,COLUMN,HEIGHT,WIDTH in pixels from the upper left corner: tests, infoVal and "
        "reliability are about it alone. Choose it before looking at the maps; the sums do not depend on it.",
        at_least=0,
    )
    gradient_samples: int = setting(
        1000, "Samples for the gradient maps against which convergence is seen; 0 for none.", at_least=0
    )
    classes: tuple[str, ...] | None = choice(
        None,
        "The classes whose maps are made, by name, where memory does not allow for all. The network still decides "
        "among all.",
    )
    image_shape: tuple[int, ...] | None = choice(
        None,
        "Height, width and channels of images, with --dataset=none and a network of your own that does not say them.",
        at_least=1,
    )
    convergence: bool = setting(
        True, "Keep the sums on the way, to see how maps converge. Without, a run takes a quarter of the memory."
    )


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Noise through the network to maps, their tests and figures."""
    responses.check_names(settings.response)  # before any training
    dataset, stimulus, trained = shared.set_up(settings, report, partial(_chosen, settings))
    roi, classes = _chosen(settings, dataset, stimulus)
    names = list(dict.fromkeys(("decision", *settings.response)))  # decisions are always counted
    watch, has_data = Stopwatch(report, "noise"), dataset.name != shared.NO_DATA
    accuracy = f"{trained.test_accuracy:.2%}" if has_data else "not known, without data"
    has_gradient = "probability" in settings.response and not compilation.is_on_host(trained.network)
    said = {name: value for name, value in dataclasses.asdict(settings).items() if name != "out_dir"}
    analysis = analyse(
        trained.network,
        stimulus,
        outputs=trained.outputs,
        dataset=dataset if has_data else None,
        class_names=dataset.class_names,
        response=names,
        classes=classes if settings.classes else None,
        name=shared.title_of(settings, dataset) + f" (test accuracy {accuracy})" * has_data,
        roi=roi,
        permutations=settings.permutations,
        convergence=settings.convergence,
        gradient_samples=settings.gradient_samples if has_gradient else 0,
        settings=said,
        **shared.loop_options(settings, dataset, trained.network, watch, responses=names),
    )
    rate = watch.rate if watch.done > settings.num_samples / 2 else None  # else resumed or extended
    metrics = {
        "test_accuracy": trained.test_accuracy,
        **analysis.metrics(),
        "samples_per_second": rate,
        "noise_seconds": watch.seconds,
        "network_was_loaded": trained.was_loaded,
        "training": trained.metrics,
    }
    drawn, *found = analysis.summary().splitlines()
    speed = f"{rate:,.0f} per second" if rate else "all from an earlier run"
    summary = [f"test accuracy   {accuracy}", f"{drawn}, {speed}", *found]
    draw = partial(_draw, settings, dataset, stimulus, trained.network, analysis)
    return launch.Result(metrics, summary, draw, {FILE: analysis.arrays()}, analysis=analysis)


def _region(settings: Settings, stimulus: noise.Noise) -> np.ndarray | None:
    """The region of interest, bool [H, W]."""
    if settings.roi is None:
        return None
    if len(settings.roi) != 4:
        given = f"roi is {','.join(map(str, settings.roi))}"
        raise InputError(f"{given}: expected ROW,COLUMN,HEIGHT,WIDTH, such as --roi=8,8,12,12")
    row, column, height, width = settings.roi
    return statistics.rectangle(stimulus.shape, row, column, height, width)


def _chosen(settings: Settings, dataset: data.Dataset, stimulus: noise.Noise) -> tuple[np.ndarray | None, list[int]]:
    """The region of interest, bool [H, W], and the classes that maps are of."""
    classes = [dataset.label_of(name) for name in settings.classes or dataset.class_names]
    if len(set(classes)) < len(classes):
        raise InputError(f"classes is {','.join(settings.classes or ())}: name each class once")
    return _region(settings, stimulus), classes


def _draw(
    settings: Settings, dataset: data.Dataset, stimulus: noise.Noise, network: Any, analysis: Analysis
) -> launch.Drawn:
    yield "classification_images.png", analysis.figure("maps", settings.response)
    yield "significance.png", analysis.figure("significance", settings.response)
    if analysis.convergence:
        yield "convergence.png", analysis.figure("convergence", settings.response)
    yield "noise_histogram.png", analysis.figure("shares", settings.response)
    title = f"{settings.noise} noise, and what the network calls it"
    yield "noise_examples.png", shared.noise_examples(stimulus, network, dataset, settings.seed, title)
    if dataset.name == shared.NO_DATA:
        return
    few, how = analysis.chosen(settings.response[0])
    members = {k: dataset.members(k) for k in few.values()}
    count = min(8, *map(len, members.values()))
    pictures = [np.stack([dataset.class_means[k], *own[:count] / 255]) for k, own in members.items()]
    title = f"{dataset.title}: mean and first training images of each class{how}"
    yield (
        "class_gallery.png",
        figures.gallery(np.stack(pictures), [dataset.class_names[k] for k in few.values()], title),
    )


if __name__ == "__main__":
    launch.main(run, Settings)
