"""What does each unit of a layer see? Spike-triggered averages in white noise and in natural images.

Noise in the size of a unit's receptive field, which is found by asking the network, is averaged by the unit's
activation after ReLU. In a layer without padding every position of the feature map is a sample, in one pass for all
units. Told are the receptive field of the layer, each unit's firing rate (the share of samples with an activation above
0), the reliability of its average, and for the first layer the correlation of average and learned weights. Natural
images (windows of training images) are averaged likewise; as their pixels depend on each other, the average is shown
as it is and with the images' covariance taken out.

  python -m experiments.spike_triggered_average --dataset=mnist
  python -m experiments.spike_triggered_average --dataset=mnist --layers=conv1 --noise=uniform

Writes to --out_dir, for each layer: LAYER_average.png, LAYER_weights.png (the first), LAYER_natural.png and LAYER.npz;
and metrics.json, config.json and log.jsonl; state/ lets an interrupted run go on.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from experiments import common
from wna_jax import data, figures, maps, noise, receptive_fields, reverse_correlation, statistics, units
from wna_jax.errors import InputError
from wna_jax.progress import Report, Stopwatch

flags.DEFINE_integer("natural_samples", 200_000, "how many windows of training images; 0: none", lower_bound=0)
flags.DEFINE_float("ridge", 0.01, "for taking out the covariance of natural images, as a share of a pixel's variance")

_COLUMNS = 10
_SHOWN = 60
_SHOWN_NATURAL = 20
_RARE = 0.001
"""Firing rate below which a unit is listed as rarely firing."""


@dataclass(frozen=True)
class Settings(common.NetworkSettings):
    """The flags of one run, as a value."""

    layers: tuple[str, ...] | None
    noise: str
    sampling: reverse_correlation.Sampling
    num_samples: int
    """For each layer."""
    natural_samples: int
    ridge: float
    batch_size: int | None
    seed: int


class Layer(NamedTuple):
    """What was found out about the units of one layer."""

    field: receptive_fields.ReceptiveField
    averages: maps.ClassificationImages
    """In noise, of what a unit sees."""
    z: np.ma.MaskedArray
    reliability: np.ma.MaskedArray
    rates: np.ndarray
    """Share of the samples with an activation, [units]."""
    weights: np.ndarray | None
    """[units, H, W, C] of a first layer of convolutions."""
    natural: maps.ClassificationImages | None
    whitened: maps.ClassificationImages | None
    samples_per_second: float | None
    sampling: str


def run(settings: Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    if not 0 <= settings.ridge < np.inf:
        raise InputError(f"ridge is {settings.ridge}: expected a number of at least 0, such as 0.01")
    out_dir = common.open_output(settings)
    with common.reporting(out_dir) as report:
        dataset = common.classes_to_tell(settings, report)
        network = common.trained_network(settings, dataset, report)
        found = {
            name: _look_at(settings, name, dataset, network, out_dir, report)
            for name in common.chosen_layers(settings.layers, network, units.spatial_layers)
        }
    metrics = {
        "test_accuracy": network.metrics["test_accuracy"],
        "num_samples": settings.num_samples,
        "layers": {name: _metrics_of(layer) for name, layer in found.items()},
    }
    common.write_json(out_dir / "metrics.json", metrics)
    common.write_config(out_dir, settings)
    for name, layer in found.items():
        _write_arrays(out_dir / f"{common.as_file_name(name)}.npz", layer)
        _draw(settings, out_dir, dataset, name, layer)
        _summarise(name, layer)
    print(f"look at         {out_dir / f'{common.as_file_name(next(iter(found)))}_average.png'}")


def _look_at(
    settings: Settings, name: str, dataset: data.Dataset, network: common.Network, out_dir: Path, report: Report
) -> Layer:
    activations = units.layer_activations(network.module, network.parameters, name)
    view = receptive_fields.units_of(activations, dataset.image_shape)
    size = view.noise_shape[:2]
    white = noise.create(settings.noise, dataset)
    white = white if view.noise_shape == white.shape else white.resized(size)
    stopwatch = Stopwatch(report)
    parts = reverse_correlation.reverse_correlate_in_parts(
        white,
        view.respond,
        settings.num_samples,
        seed=settings.seed,
        batch_size=settings.batch_size,
        sampling=settings.sampling,
        state_dir=out_dir / "state" / common.as_file_name(name),
        identity={"network": network.fingerprint, "data": dataset.fingerprint, "layer": name},
        report=stopwatch,
    )
    moments = parts.first + parts.second
    averages = view.crop(maps.classification_images(moments, white))
    natural, whitened = None, None
    if settings.natural_samples:
        windows = noise.natural(dataset, size)
        of_windows = reverse_correlation.reverse_correlate(
            windows,
            view.respond,
            settings.natural_samples,
            seed=settings.seed,
            batch_size=settings.batch_size,
            sampling="independent",
            report=report,
        )
        natural = view.crop(maps.classification_images(of_windows, windows))
        covariance = noise.covariance(windows)
        whitened = view.crop(maps.whitened_images(of_windows, windows, covariance, settings.ridge))
    return Layer(
        view.field,
        averages,
        statistics.z_map(averages),
        statistics.split_half(parts.first, parts.second, white).reliability,
        moments.count / moments.num_samples,
        _first_weights(network, name, dataset.image_shape),
        natural,
        whitened,
        stopwatch.rate,
        "independent" if moments.field_sums is None else "field",
    )


def _first_weights(network: common.Network, name: str, image_shape: tuple[int, int, int]) -> np.ndarray | None:
    """Kernels [units, H, W, C] of the first layer, if it is a convolution; what they weigh are pixels."""
    first = units.layer_names(network.module, network.parameters, image_shape)[0]
    kernel = np.asarray(network.parameters.get(name, {}).get("kernel", ()))
    return np.moveaxis(kernel, -1, 0) if name == first and kernel.ndim == 4 else None


def _correlations(layer: Layer) -> np.ma.MaskedArray:
    """Pearson's r of each unit's average with its weights; masked for units that never fire."""
    assert layer.weights is not None
    return statistics.map_correlation(layer.averages.images, np.ma.masked_array(layer.weights))


def _metrics_of(layer: Layer) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "receptive_field": layer.field._asdict(),
        "sampling": layer.sampling,
        "samples_per_second": layer.samples_per_second,
        "firing_rates": layer.rates.tolist(),
        "dead_units": np.flatnonzero(layer.rates == 0).tolist(),
        "rarely_firing_units": np.flatnonzero((layer.rates > 0) & (layer.rates < _RARE)).tolist(),
        "reliability": layer.reliability.tolist(),
        "significant_pixels": _significant(layer).sum(axis=(1, 2, 3)).tolist(),
    }
    if layer.weights is not None:
        metrics["correlation_with_weights"] = _correlations(layer).tolist()
    return metrics


def _significant(layer: Layer) -> np.ndarray:
    return statistics.significant_pixels(layer.z, num_maps=len(layer.z))


def _write_arrays(path: Path, layer: Layer) -> None:
    """Averages and errors of the units that fired (`units`), and what natural images gave."""
    fired = np.flatnonzero(layer.rates)
    arrays: dict[str, Any] = {"units": fired, "firing_rates": layer.rates}
    averages = {"": layer.averages, "natural_": layer.natural, "natural_whitened_": layer.whitened}
    for kind, of_kind in averages.items():
        if of_kind is not None:
            arrays[f"{kind}average"] = of_kind.images[fired].filled(np.nan)
            arrays[f"{kind}standard_error"] = of_kind.standard_error[fired].filled(np.nan)
    common.write_arrays(path, **arrays)


def _draw(settings: Settings, out_dir: Path, dataset: data.Dataset, name: str, layer: Layer) -> None:
    order = np.argsort(-layer.rates, kind="stable")
    what = f"{name} of {settings.model} on {dataset.title}"
    (height, width), count = layer.field.size, len(layer.rates)
    dead = np.count_nonzero(layer.rates == 0)
    significant = np.any(_significant(layer), axis=-1)
    average = {
        f"{label} by\nfiring rate": [
            figures.Panel(layer.z[unit], _heading(layer, unit), True, significant[unit], _reliability(layer, unit))
            for unit in some
        ]
        for label, some in _lines(order[:_SHOWN])
    }
    common.save(
        figures.panels(
            average,
            f"Spike-triggered averages of {what}: {settings.num_samples:,} samples of {settings.noise} noise, "
            f"receptive field {height}x{width}",
            f"{count} units, of which {dead} never fire. Above each: unit and the share of samples at which it fires; "
            "below: reliability (split half). Red: brightness there drives the unit. Outlined: p < .05 over all units.",
        ),
        out_dir / f"{common.as_file_name(name)}_average.png",
    )
    if layer.weights is not None:
        r = _correlations(layer)
        rows: dict[str, list[figures.Panel]] = {}
        scales: dict[str, str] = {}
        for label, some in _lines(np.arange(count)):
            rows[f"weights\n{label}"] = [figures.Panel(layer.weights[unit], f"unit {unit}", True) for unit in some]
            rows[f"average\n{label}"] = [
                figures.Panel(layer.averages.images[unit], _heading(layer, unit), True, caption=_correlation(r[unit]))
                for unit in some
            ]
            scales |= {f"weights\n{label}": "weight", f"average\n{label}": "intensity"}
        title = f"Learned weights and spike-triggered averages of {what}, with their correlation"
        common.save(figures.panels(rows, title, units=scales), out_dir / f"{common.as_file_name(name)}_weights.png")
    if layer.natural is not None and layer.whitened is not None:
        rows = {}
        of_images, whitened = (statistics.z_map(of) for of in (layer.natural, layer.whitened))
        for label, some in _lines(order[:_SHOWN_NATURAL]):
            rows[f"noise\n{label}"] = [figures.Panel(layer.z[unit], f"unit {unit}", True) for unit in some]
            rows[f"images\n{label}"] = [figures.Panel(of_images[unit], "", True) for unit in some]
            rows[f"covariance\nremoved {label}"] = [figures.Panel(whitened[unit], "", True) for unit in some]
        common.save(
            figures.panels(
                rows,
                f"Averages of {what} in noise and over {settings.natural_samples:,} windows of training images",
                "The units that fire most in noise. Neighbouring pixels of images are alike, which smears the average; "
                f"below it with their covariance removed (ridge {settings.ridge:g}).",
            ),
            out_dir / f"{common.as_file_name(name)}_natural.png",
        )


def _lines(chosen: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Units cut into lines of a figure, with their ranks."""
    return [
        (f"{i + 1} to {min(i + _COLUMNS, len(chosen))}", chosen[i : i + _COLUMNS])
        for i in range(0, len(chosen), _COLUMNS)
    ]


def _heading(layer: Layer, unit: int) -> str:
    rate = layer.rates[unit]
    return f"{unit}: {100 * rate:.{1 if rate >= 0.01 else 3}f}%" if rate else f"{unit}: never"


def _reliability(layer: Layer, unit: int) -> str:
    value = layer.reliability[unit]
    if layer.rates[unit] and not np.ma.count(layer.z[unit]):
        return "too few samples"
    return "" if value is np.ma.masked else f"{value:.3f}"


def _correlation(r: Any) -> str:
    return "" if r is np.ma.masked else f"r = {r:.4f}"


def _summarise(name: str, layer: Layer) -> None:
    field, dead = layer.field, np.flatnonzero(layer.rates == 0)
    rare = np.flatnonzero((layer.rates > 0) & (layer.rates < _RARE))
    height, width = field.size
    print(f"{name}")
    print(f"  receptive field {height}x{width} pixels, jump {field.jump[0]}, first at {field.start[0]}, {field.units}")
    rate = "" if layer.samples_per_second is None else f", {layer.samples_per_second:,.0f} samples a second"
    print(f"  firing rates    {layer.rates.min():.3g} to {layer.rates.max():.3g} ({layer.sampling}{rate})")
    print(f"  never fire      {len(dead)} of {len(layer.rates)}: {', '.join(map(str, dead)) or 'none'}")
    print(f"  rarely fire     {', '.join(f'{u} ({layer.rates[u]:.2g})' for u in rare) or 'none'}")
    reliable = layer.reliability.filled(0) >= figures.RELIABLE
    print(f"  reliable        {reliable.sum()} of {len(layer.rates) - len(dead)} averages (split half >= .9)")
    if layer.weights is not None:
        r = _correlations(layer)
        if r.count():
            print(
                f"  weights         r from {r.min():.4f} to {r.max():.4f} with the averages of {r.count()} firing units"
            )


if __name__ == "__main__":
    common.main(run, Settings)
