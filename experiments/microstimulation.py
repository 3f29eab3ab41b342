"""What does the network see when the units of one layer are stimulated, or suppressed?

A current is injected into all units of a layer, in proportion to each unit's mean activation to training images of a
class, and the network is shown test images of that class in noise, t = g s + (1 - g) z. Reports, for every strength of
the current, the psychometric curve (how often the class is answered, against the signal's weight g) and the threshold
(the g at which it is answered in one half of the cases). As in arXiv 1912.12106; in monkeys Afraz, Kiani & Esteky 2006,
Nature 442:692.

  python -m experiments.microstimulation --dataset=mnist
  python -m experiments.microstimulation --dataset=mnist --unit=authors --noise=uniform
  python -m experiments.microstimulation --dataset=mnist:2,8 --model=pair_cnn --strengths=0,0.5,1,2,3

With --unit=mean the current is strength x mean activation: at -1 a unit loses what images of the class give it on
average. With --unit=authors it is what the authors' notebooks apply, which differs from layer to layer: strength x
mean / (largest mean of the layer), times .1 in conv1 and 1 in conv2, but strength x .01 x mean in fc1; ten times as
much for two classes.

Writes to --out_dir: psychometric.png, thresholds.png, stimuli.png, curves.npz, metrics.json, config.json, log.jsonl.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import launch, shared
from experiments.launch import Result
from experiments.settings import NoiseSettings, setting
from wna_jax import correlation, figures, noise
from wna_jax.networks import units
from wna_jax.runs.progress import Report, silent
from wna_jax.statistics import Interval, Threshold
from wna_jax.studies import interventions, psychometrics
from wna_jax.studies.psychometrics import CurrentUnit, PsychometricCurve

_GAMMAS = np.linspace(0, 1, 21).tolist()
_STRENGTHS = {
    "mean": (0.0, -4.0, -2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0, 4.0),
    "authors": tuple(map(float, range(0, -11, -1))),
}


@dataclass(frozen=True, kw_only=True)
class Settings(NoiseSettings):
    """The settings of one run."""

    layers: tuple[str, ...] | None = setting(
        None, "Layers whose units are stimulated. By default all but the last.", names_folder=True
    )
    strengths: tuple[float, ...] | None = setting(
        None,
        "Strengths of the current; below 0 it suppresses. By default eleven from -4 to 4, or 0 to -10 with "
        "--unit=authors.",
        at_least=-1_000_000,
        at_most=1_000_000,
        names_folder=True,
    )
    unit: str = setting(
        "mean", "What a strength of 1 is, see above.", choices=psychometrics.CURRENT_UNITS, names_folder=True
    )
    images_a_class: int = setting(200, "Test images per class, at most.", at_least=1)


class Stimulated(NamedTuple):
    """What a network answered while the units of one layer were stimulated."""

    unit: CurrentUnit
    curves: list[list[PsychometricCurve]]
    """How often the shown class was answered, [classes][strengths]."""
    thresholds: list[list[Threshold | None]]
    """Likewise."""

    @property
    def share(self) -> np.ndarray:
        """How often the shown class was answered, [classes, strengths, gammas]."""
        return np.array([[curve.share for curve in of_class] for of_class in self.curves])


def run(settings: Settings, report: Report = silent) -> Result:
    """Currents into the units of each layer; psychometric curves, and how far their thresholds move."""
    dataset = shared.load_classes(settings, report)
    trained = shared.trained_network(settings, dataset, report)
    network, strengths = trained.network, settings.strengths or _STRENGTHS[settings.unit]
    strengths = tuple(dict.fromkeys((0.0, *strengths)))  # 0 is first: everything is compared with it
    layers = shared.chosen_layers(settings.layers, network, lambda network: units.layer_names(network)[:-1])
    current_units = {layer: psychometrics.current_unit(settings.unit, layer, dataset.num_classes) for layer in layers}
    background = shared.create_noise(settings, dataset, report)
    images = {k: dataset.test_members(k)[: settings.images_a_class] for k in np.unique(dataset.test.labels).tolist()}

    def stimulate(layer: str, unit: CurrentUnit) -> Stimulated:
        activations = units.layer_activations(network, layer)
        means = units.mean_activations(activations, *dataset.train, dataset.num_classes, report)
        currents = np.array(strengths, np.float32)[:, None, None] * unit.currents(means.filled(0))
        curves = [
            psychometrics.curves_under_currents(
                network, layer, currents[:, k], background, shown, k, _GAMMAS, seed=settings.seed, report=report
            )
            for k, shown in images.items()
        ]
        return Stimulated(unit, curves, [[curve.threshold(rising=True) for curve in of_class] for of_class in curves])

    found = {layer: stimulate(layer, unit) for layer, unit in current_units.items()}
    names = [dataset.class_names[k] for k in images]
    metrics = {
        "test_accuracy": trained.test_accuracy,
        "images_a_point": dict(zip(names, map(len, images.values()), strict=True)),
        "unit": settings.unit,
        "strengths": list(strengths),
        "current": {layer: str(of.unit) for layer, of in found.items()},
        "gammas": _GAMMAS,
        "thresholds": {
            layer: {
                name: [threshold and threshold._asdict() for threshold in of_class]
                for name, of_class in zip(names, of.thresholds, strict=True)
            }
            for layer, of in found.items()
        },
        "mean_shift": {layer: psychometrics.mean_shifts(of.thresholds) for layer, of in found.items()},
        "mean_change": {
            layer: np.abs(of.share - of.share[:, :1]).mean(axis=(0, 2)).tolist() for layer, of in found.items()
        },
        "mean_share_without_noise": {layer: of.share[..., -1].mean(axis=0).tolist() for layer, of in found.items()},
    }
    arrays: dict[str, Any] = {"classes": list(images), "strengths": strengths, "gammas": _GAMMAS}
    arrays["images"] = list(map(len, images.values()))
    for layer, of in found.items():  # [classes, gammas, strengths]
        arrays[f"hits_{layer}"] = np.array([np.stack([c.hits for c in of_class], axis=1) for of_class in of.curves])
    what = f"{settings.model} on {dataset.title}"
    return Result(
        metrics,
        list(_summary(settings, metrics)),
        {
            "psychometric.png": lambda: _draw_curves(settings, what, names, strengths, found),
            "thresholds.png": lambda: _draw_thresholds(what, names, strengths, found),
            "stimuli.png": lambda: _draw_stimuli(settings, names, background, list(images.values())),
        },
        {"curves.npz": arrays},
    )


def _draw_curves(
    settings: Settings, what: str, names: Sequence[str], strengths: Sequence[float], found: Mapping[str, Stimulated]
) -> Figure:
    def family(curves: Sequence[PsychometricCurve]) -> dict[float, figures.Curve]:
        return {g: figures.Curve.of_counts(*curve) for g, curve in zip(strengths, curves, strict=True)}

    return figures.families(
        {layer: dict(zip(names, map(family, of.curves), strict=True)) for layer, of in found.items()},
        "weight γ",
        "called so",
        "strength of the current",
        f"Microstimulation of {what}: test images in {settings.noise} noise, by class, up to "
        f"{settings.images_a_class} images per point, with 95% intervals",
        "Current in each unit: " + "; ".join(f"{layer} {of.unit}" for layer, of in found.items()),
    )


def _draw_thresholds(
    what: str, names: Sequence[str], strengths: Sequence[float], found: Mapping[str, Stimulated]
) -> Figure:
    order = np.argsort(strengths)

    def curve(thresholds: Sequence[Threshold | None]) -> figures.Curve:
        at, low, high = np.array([thresholds[s] or (np.nan, np.nan, np.nan) for s in order]).T
        return figures.Curve([strengths[s] for s in order], at, Interval(low, high))

    return figures.curves(
        {
            f"{layer}: {of.unit}": dict(zip(names, map(curve, of.thresholds), strict=True))
            for layer, of in found.items()
        },
        "strength of the current",
        "threshold: γ of one half",
        f"Thresholds of {what} under microstimulation, by class. A class has none if it is the answer to noise alone "
        "in half of the cases or more, or to images without noise in fewer.",
    )


def _draw_stimuli(
    settings: Settings, names: Sequence[str], background: noise.Noise, images: Sequence[np.ndarray]
) -> Figure:
    (drawn,) = correlation.draw_samples(background, 1, seed=settings.seed)

    def row(image: np.ndarray) -> list[figures.Panel]:
        stimuli = {gamma: interventions.blend(drawn, jnp.asarray(image), jnp.float32(gamma)) for gamma in _GAMMAS[::2]}
        return [figures.Panel(np.asarray(stimulus), f"γ = {gamma:.1f}") for gamma, stimulus in stimuli.items()]

    rows = {name: row(of_class[0]) for name, of_class in zip(names, images, strict=True)}
    return figures.panels(rows, f"One stimulus of each class in {settings.noise} noise")


def _summary(settings: Settings, metrics: Mapping[str, Any]) -> Iterator[str]:
    yield f"test accuracy   {metrics['test_accuracy']:.2%}"
    yield f"{'strength':24s}" + "".join(f"{strength:8g}" for strength in metrics["strengths"])
    for layer, shifts in metrics["mean_shift"].items():
        lines = {
            "threshold shift": [f"{shift[0]:+.3f}" if shift else "-" for shift in shifts],
            "of classes": [f"{shift[1] if shift else 0}" for shift in shifts],
            "mean change": [f"{change:.3f}" for change in metrics["mean_change"][layer]],
            "right at γ = 1": [f"{share:.3f}" for share in metrics["mean_share_without_noise"][layer]],
        }
        for what, values in lines.items():
            yield f"{layer + ': ' + what:24s}" + "".join(f"{value:>8s}" for value in values)
    yield f"look at         {settings.folder / 'psychometric.png'}"


if __name__ == "__main__":
    launch.main(run, Settings)
