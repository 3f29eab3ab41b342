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

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments import launch, shared
from experiments.settings import NoiseSettings, choice, setting
from wna_jax import correlation, figures, statistics
from wna_jax.networks import units
from wna_jax.runs.progress import in_parts
from wna_jax.studies import interventions, psychometrics

_GAMMAS = np.linspace(0, 1, 21).tolist()
_STRENGTHS = {
    "mean": (0.0, -4.0, -2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0, 4.0),
    "authors": tuple(map(float, range(0, -11, -1))),
}


class Settings(NoiseSettings):
    """The settings of one run."""

    layers: tuple[str, ...] | None = choice(None, "Layers whose units are stimulated. By default all but the last.")
    strengths: tuple[float, ...] | None = choice(
        None,
        "Strengths of the current; below 0 it suppresses. By default eleven from -4 to 4, or 0 to -10 with "
        "--unit=authors.",
        at_least=-1_000_000,
        at_most=1_000_000,
    )
    unit: str = choice("mean", "What a strength of 1 is, see above.", choices=psychometrics.CURRENT_UNITS)
    images_a_class: int = setting(200, "Test images per class, at most.", at_least=1)


class Stimulated(NamedTuple):
    """What a network answered while units of a layer were stimulated, in lists [classes][strengths of the current]."""

    unit: psychometrics.CurrentUnit
    curves: list[list[psychometrics.PsychometricCurve]]
    thresholds: list[list[statistics.Threshold | None]]

    @property
    def share(self) -> np.ndarray:
        """How often the shown class was answered, [classes, strengths, gammas]."""
        return np.array([[curve.share for curve in of_class] for of_class in self.curves])


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Currents into the units of each layer; psychometric curves, and how far their thresholds move."""
    dataset, stimulus, trained = shared.set_up(settings, report)
    network, strengths = trained.network, settings.strengths or _STRENGTHS[settings.unit]
    strengths = tuple(dict.fromkeys((0.0, *strengths)))  # 0 is first: everything is compared with it
    layers = shared.chosen_layers(settings.layers, network, units.layer_names(network)[:-1])
    current_units = {layer: psychometrics.current_unit(settings.unit, layer, dataset.num_classes) for layer in layers}
    images = {k: dataset.test_members(k)[: settings.images_a_class] for k in np.unique(dataset.test.labels).tolist()}
    names, sizes = [dataset.class_names[k] for k in images], list(map(len, images.values()))

    def stimulate(layer: str, unit: psychometrics.CurrentUnit, report: launch.Report) -> Stimulated:
        activations = units.layer_activations(network, layer)
        means = units.mean_activations(activations, *dataset.train, dataset.num_classes, report)
        currents = np.array(strengths, np.float32)[:, None, None] * unit.currents(means.filled(0))
        curves = [
            psychometrics.curves_under_currents(
                network, layer, currents[:, k], stimulus, shown, k, _GAMMAS, seed=settings.seed, report=tell
            )
            for (k, shown), tell in in_parts(report, list(images.items()), "answers")
        ]
        return Stimulated(unit, curves, [[curve.threshold(rising=True) for curve in of_class] for of_class in curves])

    parts = in_parts(report, list(current_units.items()), "activations", "answers")
    found = {layer: stimulate(layer, unit, tell) for (layer, unit), tell in parts}

    def of_each_layer(function: Callable[[Stimulated], Any]) -> dict[str, Any]:
        return {layer: function(of) for layer, of in found.items()}

    def of_each_class(function: Callable[[Any], Any], values: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(names, map(function, values), strict=True))

    def as_json(thresholds: Sequence[statistics.Threshold | None]) -> list[Any]:
        return [threshold and threshold._asdict() for threshold in thresholds]

    metrics: dict[str, Any] = {
        "test_accuracy": trained.test_accuracy,
        "images_a_point": dict(zip(names, sizes, strict=True)),
        "unit": settings.unit,
        "strengths": list(strengths),
        "current": of_each_layer(lambda of: str(of.unit)),
        "gammas": _GAMMAS,
        "thresholds": of_each_layer(lambda of: of_each_class(as_json, of.thresholds)),
        "mean_shift": of_each_layer(lambda of: psychometrics.mean_shifts(of.thresholds)),
        "mean_change": of_each_layer(lambda of: np.abs(of.share - of.share[:, :1]).mean(axis=(0, 2)).tolist()),
        "mean_share_without_noise": of_each_layer(lambda of: of.share[..., -1].mean(axis=0).tolist()),
    }
    arrays: dict[str, Any] = {"classes": list(images), "strengths": strengths, "gammas": _GAMMAS, "images": sizes}
    for layer, of in found.items():  # [classes, gammas, strengths]
        arrays[f"hits_{layer}"] = np.array([np.stack([c.hits for c in of_class], axis=1) for of_class in of.curves])
    what = shared.title_of(settings, dataset)

    def family(curves: Sequence[psychometrics.PsychometricCurve]) -> dict[float, figures.Curve]:
        return {g: figures.Curve.of_counts(*curve) for g, curve in zip(strengths, curves, strict=True)}

    def threshold_curve(thresholds: Sequence[statistics.Threshold | None]) -> figures.Curve:
        order = np.argsort(strengths)
        at, low, high = np.array([thresholds[s] or (np.nan, np.nan, np.nan) for s in order]).T
        return figures.Curve([strengths[s] for s in order], at, statistics.Interval(low, high))

    def draw() -> launch.Drawn:
        families = of_each_layer(lambda of: of_each_class(family, of.curves))
        title = f"Microstimulation of {what}: test images in {settings.noise} noise, by class, up to "
        title += f"{settings.images_a_class} images per point, with 95% intervals"
        note = "Current in each unit: " + "; ".join(f"{layer} {of.unit}" for layer, of in found.items())
        labels = "weight γ", "called so", "strength of the current"
        yield "psychometric.png", figures.families(families, *labels, title, note)
        panels = {f"{layer}: {of.unit}": of_each_class(threshold_curve, of.thresholds) for layer, of in found.items()}
        title = f"Thresholds of {what} under microstimulation, by class. A class has none if it is the answer to noise "
        title += "alone in half of the cases or more, or to images without noise in fewer."
        axes = "strength of the current", "threshold: γ of one half"
        yield "thresholds.png", figures.curves(panels, *axes, title)
        (drawn,) = correlation.draw_samples(stimulus, 1, seed=settings.seed)
        rows = {}
        for name, of_class in zip(names, images.values(), strict=True):
            image, gammas = jnp.asarray(of_class[0]), _GAMMAS[::2]
            stimuli = [np.asarray(interventions.blend(drawn, image, jnp.float32(gamma))) for gamma in gammas]
            rows[name] = [figures.Panel(of, f"γ = {gamma:.1f}") for of, gamma in zip(stimuli, gammas, strict=True)]
        yield "stimuli.png", figures.panels(rows, f"One stimulus of each class in {settings.noise} noise")

    summary = [f"test accuracy   {trained.test_accuracy:.2%}"]
    summary.append(f"{'strength':24s}" + "".join(f"{strength:8g}" for strength in strengths))
    for layer, shifts in metrics["mean_shift"].items():
        lines = {
            "threshold shift": [f"{shift[0]:+.3f}" if shift else "-" for shift in shifts],
            "of classes": [f"{shift[1] if shift else 0}" for shift in shifts],
            "mean change": [f"{change:.3f}" for change in metrics["mean_change"][layer]],
            "right at γ = 1": [f"{share:.3f}" for share in metrics["mean_share_without_noise"][layer]],
        }
        summary += [f"{f'{layer}: {key}':24s}" + "".join(f"{of:>8s}" for of in values) for key, values in lines.items()]
    return launch.Result(metrics, summary, draw, {"curves.npz": arrays})


if __name__ == "__main__":
    launch.main(run, Settings)
