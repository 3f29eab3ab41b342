"""Which features of its receptive field does a unit square, rather than add? Spike-triggered covariances.

A unit's average shows one direction in the space of stimuli. Where it also answers to a feature and to its negative, or
is silenced by both, the noise that drives it varies more, or less, in the direction of that feature: eigenvalues of the
spike-triggered covariance above (excitatory) or below (suppressive) those of mere noise, after the average's direction
is taken out. Eigenvalues are tested one after another, the most extreme first. The noise has to be Gaussian.

  python -m experiments.spike_triggered_covariance --dataset=mnist --layer=conv2

Writes to --out_dir: spectra.png, features.png, features.npz, metrics.json, config.json and log.jsonl; state/ lets an
interrupted run go on.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments import common
from wna_jax import figures, maps, noise, receptive_fields, reverse_correlation, units
from wna_jax.errors import InputError
from wna_jax.receptive_fields import Covariance
from wna_jax.reverse_correlation import draw_samples

flags.DEFINE_string("layer", "conv2", "whose units to look at")
flags.DEFINE_list("units", None, "their numbers, comma-separated (by default the 12 that fire most)")
flags.DEFINE_float("alpha", 0.05, "error rate of the test of a unit's eigenvalues", lower_bound=0.001, upper_bound=0.5)

_BY_DEFAULT = 12
_LOOK = 20_000
"""Samples from which firing rates are told before units are chosen."""
_MOST_PIXELS = 1024
_SHOWN = 4
"""Features of a kind in the figure."""


@dataclass(frozen=True)
class Settings(common.NetworkSettings):
    """The flags of one run, as a value."""

    layer: str
    units: tuple[str, ...] | None
    noise: str
    num_samples: int
    alpha: float
    batch_size: int | None
    seed: int


def run(settings: Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    out_dir = common.open_output(settings)
    with common.reporting(out_dir) as report:
        dataset = common.classes_to_tell(settings, report)
        network = common.trained_network(settings, dataset, report)
        (layer,) = common.chosen_layers([settings.layer], network)
        activations = units.layer_activations(network.module, network.parameters, layer)
        view = receptive_fields.units_of(activations, dataset.image_shape)
        pixels = int(np.prod(view.noise_shape))
        if pixels > _MOST_PIXELS:
            raise InputError(
                f"units of {settings.layer} are shown noise of {pixels} pixels, whose covariance has {pixels**2:,} "
                f"entries: expected at most {_MOST_PIXELS} pixels, as in a layer further down"
            )
        white = noise.create(settings.noise, dataset)
        white = white if view.noise_shape == white.shape else white.resized(view.noise_shape[:2])
        asked = _numbers(settings.units, jax.eval_shape(lambda: view.respond(draw_samples(white, 1))).shape[-1])
        look = reverse_correlation.reverse_correlate(
            white, view.respond, _LOOK, seed=settings.seed, sampling="independent"
        )
        rates = look.count / look.num_samples
        chosen = np.argsort(-rates, kind="stable")[:_BY_DEFAULT].tolist() if asked is None else asked

        def respond(images: jax.Array) -> jax.Array:
            return view.respond(images)[..., np.array(chosen)]

        moments = reverse_correlation.reverse_correlate(
            white,
            receptive_fields.with_products(respond, white),
            settings.num_samples,
            seed=settings.seed,
            batch_size=settings.batch_size,
            sampling="independent",
            state_dir=out_dir / "state",
            identity={"network": network.fingerprint, "layer": settings.layer, "units": chosen},
            report=report,
        )
    averages = maps.classification_images(moments["average"], white)
    found, untold = {}, {}
    for i, unit in enumerate(chosen):
        try:
            found[unit] = receptive_fields.spike_triggered_covariance(
                moments, i, white, alpha=settings.alpha, seed=settings.seed
            )
        except InputError as error:  # never fired, or too few samples
            untold[unit] = str(error).replace(f"unit {i} ", "", 1)
    z = dict(zip(chosen, averages.images / averages.standard_error, strict=True))
    metrics = {
        "test_accuracy": network.metrics["test_accuracy"],
        "receptive_field": view.field._asdict(),
        "num_samples": settings.num_samples,
        "not_tested": untold,
        "units": {
            str(unit): {
                "firing_rate": float(averages.count[i] / settings.num_samples),
                "effective_samples": found[unit].effective_samples,
                "excitatory": found[unit].eigenvalues[found[unit].excitatory].tolist(),
                "suppressive": found[unit].eigenvalues[found[unit].suppressive].tolist(),
                "null_band": [found[unit].low, found[unit].high],
            }
            for i, unit in enumerate(chosen)
            if unit in found
        },
    }
    common.write_json(out_dir / "metrics.json", metrics)
    common.write_config(out_dir, settings)
    _write_arrays(out_dir / "features.npz", found, {unit: averages.images[i] for i, unit in enumerate(chosen)})
    if found:
        _draw(settings, out_dir, dataset.title, view, found, z, rates)
    for unit, of in found.items():
        print(
            f"unit {unit:<10d} {len(of.excitatory)} excitatory, {len(of.suppressive)} suppressive features; "
            f"eigenvalues {of.eigenvalues[0]:.3f} to {of.eigenvalues[-1]:.3f}, noise {of.low:.3f} to {of.high:.3f} "
            f"({of.effective_samples:,.0f} effective samples)"
        )
    for unit, why in untold.items():
        print(f"unit {unit:<10d} {why}")
    if not found:
        return
    print(f"look at         {out_dir / 'spectra.png'}")


def _numbers(asked: tuple[str, ...] | None, count: int) -> list[int] | None:
    """The units that were asked for, of so many."""
    if asked is None:
        return None
    if not asked or not all(text.isdecimal() and int(text) < count for text in asked):
        raise InputError(f"units is {','.join(asked)!r}: expected numbers from 0 to {count - 1}, such as 0,3")
    return list(dict.fromkeys(map(int, asked)))


def _write_arrays(path: Path, found: dict[int, Covariance], averages: dict[int, np.ndarray]) -> None:
    arrays: dict[str, Any] = {}
    for unit, of in found.items():
        arrays[f"average_{unit}"] = np.ma.filled(averages[unit], np.nan)
        arrays |= {f"eigenvalues_{unit}": of.eigenvalues, f"features_{unit}": of.features}
        arrays |= {f"excitatory_{unit}": of.excitatory, f"suppressive_{unit}": of.suppressive}
    common.write_arrays(path, **arrays)


def _draw(
    settings: Settings,
    out_dir: Path,
    title: str,
    view: receptive_fields.View,
    found: dict[int, Covariance],
    z: dict[int, np.ndarray],
    rates: np.ndarray,
) -> None:
    what = f"{settings.layer} of {settings.model} on {title}: {settings.num_samples:,} images of {settings.noise} noise"
    common.save(
        figures.spectra(
            {f"unit {unit}, fires {rates[unit]:.1%}": of for unit, of in found.items()},
            f"Eigenvalues of the spike-triggered covariance, {what}",
            "In units of the noise's variance, the average's direction taken out. The band: extreme eigenvalues of as "
            "many samples of mere noise.",
        ),
        out_dir / "spectra.png",
    )
    rows: dict[str, list[figures.Panel | None]] = {}
    for unit, of in found.items():
        if not len(of.excitatory) + len(of.suppressive):
            continue
        panels: list[figures.Panel | None] = [_panel(z[unit] / np.abs(z[unit]).max(), view, "average")]
        for kind, indices in (("excitatory", of.excitatory), ("suppressive", of.suppressive)):
            shown = [_panel(_scaled(of.features[i]), view, f"{kind} {of.eigenvalues[i]:.2f}") for i in indices[:_SHOWN]]
            panels += [*shown, *[None] * (_SHOWN - len(shown))]
        rows[f"unit {unit}"] = panels
    none = ", ".join(str(unit) for unit in found if f"unit {unit}" not in rows)
    if not rows:
        rows["averages"] = [_panel(z[unit] / np.abs(z[unit]).max(), view, f"unit {unit}") for unit in found]
    note = (
        f"Average and the {_SHOWN} most extreme significant features of each kind with their eigenvalues, each on a "
        f"scale of its own. The sign of a feature is arbitrary. Each unit is tested at {settings.alpha:g}. "
        f"No significant feature: {none or 'none'}."
    )
    scales = dict.fromkeys(rows, "of the largest")
    common.save(figures.panels(rows, f"Features of units of {what}", note, units=scales), out_dir / "features.png")


def _scaled(feature: np.ndarray) -> np.ndarray:
    return feature / np.abs(feature).max()


def _panel(image: np.ndarray, view: receptive_fields.View, heading: str) -> figures.Panel:
    return figures.Panel(np.ma.masked_array(image)[view.seen], heading, True)


if __name__ == "__main__":
    common.main(run, Settings)
