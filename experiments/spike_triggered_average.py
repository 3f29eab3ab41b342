"""What does each unit of a layer see? Spike-triggered averages in white noise and in natural images.

Noise in the size of a unit's receptive field, which is found by asking the network, is averaged by the unit's
activation after ReLU. In a layer without padding every position of the feature map is a sample, in one pass for all
units. Reports the receptive field of the layer, each unit's firing rate (the share of samples with an activation above
0), the reliability of its average, and for the first layer the correlation of average and learned weights. Natural
images (windows of training images) are averaged likewise; as their pixels depend on each other, the average is shown
as it is and with the images' covariance taken out.

  python -m experiments.spike_triggered_average --dataset=mnist
  python -m experiments.spike_triggered_average --dataset=mnist --layers=conv1 --noise=uniform

Writes to --out_dir, for each layer: LAYER_average.png, LAYER_weights.png (the first), LAYER_natural.png and LAYER.npz;
and metrics.json, config.json and log.jsonl; state/ lets an interrupted run resume.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments import launch, shared
from experiments.settings import AugmentationSettings, SamplingSettings, choice, setting
from wna_jax import figures
from wna_jax.networks import units
from wna_jax.runs.files import as_file_name
from wna_jax.runs.progress import in_parts
from wna_jax.studies import spike_triggered

_COLUMNS, _SHOWN, _SHOWN_NATURAL = 10, 60, 20


class Settings(AugmentationSettings, SamplingSettings):
    """The settings of one run."""

    TAKES_OWN_NETWORKS = True

    layers: tuple[str, ...] | None = choice(
        None, "The layers whose units to look at. By default all that have feature maps."
    )
    num_samples: int = setting(1_000_000, "How many noise samples to draw for each layer.", at_least=1)
    natural_samples: int = setting(200_000, "How many windows of training images to average; 0 for none.", at_least=0)
    ridge: float = setting(
        0.01, "The ridge for taking out natural images' covariance, as a share of a pixel's variance.", at_least=0
    )


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """The averages of the units of all layers, in noise and in natural images."""
    dataset, stimulus, trained = shared.set_up(settings, report)
    network, shape = trained.layered, dataset.image_shape
    usual = () if settings.layers else units.spatial_layers(network, shape)
    names = shared.chosen_layers(settings.layers, network, usual, image_shape=shape)
    layers: dict[str, spike_triggered.Layer] = {}
    for name, tell in in_parts(report, names, "noise", "natural images"):
        options = shared.loop_options(settings, dataset, network, tell, as_file_name(name), layer=name)
        options["natural_images"] = dataset if settings.natural_samples else None
        options |= {"natural_samples": settings.natural_samples, "ridge": settings.ridge}
        layers[name] = spike_triggered.look_at(network, name, stimulus, image_shape=shape, **options)
    metrics = {
        "test_accuracy": trained.test_accuracy,
        "num_samples": settings.num_samples,
        "layers": {name: _metrics(layer) for name, layer in layers.items()},
    }

    def draw() -> launch.Drawn:
        for name, layer in layers.items():
            what = f"{name} of {shared.title_of(settings, dataset)}"
            yield from _draw(settings, as_file_name(name), what, layer)

    summary = [line for name, layer in layers.items() for line in _summary(name, layer)]
    arrays = {f"{as_file_name(name)}.npz": _arrays(layer) for name, layer in layers.items()}
    return launch.Result(metrics, summary, draw, arrays)


def _metrics(layer: spike_triggered.Layer) -> dict[str, Any]:
    return {
        "receptive_field": layer.field._asdict(),
        "sampling": layer.sampling,
        "samples_per_second": layer.samples_per_second,
        "firing_rates": layer.rates.tolist(),
        "dead_units": layer.dead.tolist(),
        "rarely_firing_units": layer.rare.tolist(),
        "reliability": layer.reliability.tolist(),
        "significant_pixels": layer.significant.sum(axis=(1, 2, 3)).tolist(),
        **({} if layer.weights is None else {"correlation_with_weights": layer.correlation.tolist()}),
    }


def _arrays(layer: spike_triggered.Layer) -> dict[str, Any]:
    """Averages and errors of the units that fired (`units`)."""
    fired = np.flatnonzero(layer.rates)
    arrays: dict[str, Any] = {"units": fired, "firing_rates": layer.rates}
    kinds = {"": layer.averages, "natural_": layer.natural, "natural_whitened_": layer.whitened}
    for kind, averages in kinds.items():
        if averages is not None:
            arrays[f"{kind}average"] = averages.images[fired].filled(np.nan)
            arrays[f"{kind}standard_error"] = averages.standard_error[fired].filled(np.nan)
    return arrays


def _draw(settings: Settings, file: str, what: str, layer: spike_triggered.Layer) -> launch.Drawn:
    z, by_rate = layer.averages.in_standard_errors, np.argsort(-layer.rates, kind="stable")

    def heading(unit: int) -> str:
        rate = layer.rates[unit]
        return f"{unit}: {100 * rate:.{1 if rate >= 0.01 else 3}f}%" if rate else f"{unit}: never"

    def reliability(unit: int) -> str:
        value, fires = layer.reliability[unit], layer.rates[unit] > 0
        return "too few samples" if fires and not z[unit].count() else "" if np.ma.is_masked(value) else f"{value:.3f}"

    def plain(images: np.ndarray, some: np.ndarray, name: str = "") -> list[figures.Panel]:
        return [figures.Panel(images[u], name and f"{name} {u}", True) for u in some]

    (height, width), outlined, rows = layer.field.size, np.any(layer.significant, axis=-1), {}
    posterior, place = layer.posterior(by_rate[:_SHOWN]), 0
    for label, some in _lines(by_rate[:_SHOWN]):
        row = [figures.Panel(z[u], heading(u), True, outlined[u], reliability(u)) for u in some]
        rows[f"{label} by\nfiring rate"] = row
        if posterior is not None:
            smooth = posterior.images[place : place + len(some)] / layer.averages.standard_error[some]
            rows[f"{label}, with\na prior"] = [figures.Panel(image, "", True) for image in smooth]
            place += len(some)
    title = f"Spike-triggered averages of {what}: {settings.num_samples:,} samples of {settings.noise} noise, "
    title += f"receptive field {height}x{width}"
    note = f"{len(z)} units, of which {len(layer.dead)} never fire. Above each: unit and the share of samples at "
    note += "which it fires; below: reliability (split half). Red: brightness there drives the unit. Outlined: p < .05 "
    note += "over all units."
    if posterior is not None:
        note += " With a prior: the most probable averages if they are as smooth and local as these data say."
    yield f"{file}_average.png", figures.panels(rows, title, note)
    if layer.weights is not None:
        rows, averages = {}, layer.averages.images
        captions = ["" if r is np.ma.masked else f"r = {r:.4f}" for r in layer.correlation]
        for label, some in _lines(np.arange(len(z))):
            rows[f"weights\n{label}"] = plain(layer.weights, some, "unit")
            rows[f"average\n{label}"] = [figures.Panel(averages[u], heading(u), True, None, captions[u]) for u in some]
        scales = {row: "weight" if row.startswith("weights") else "intensity" for row in rows}
        title = f"Learned weights and spike-triggered averages of {what}, with their correlation"
        yield f"{file}_weights.png", figures.panels(rows, title, units=scales)
    if layer.natural is not None and layer.whitened is not None:
        rows, of_images, whitened = {}, layer.natural.in_standard_errors, layer.whitened.in_standard_errors
        for label, some in _lines(by_rate[:_SHOWN_NATURAL]):
            rows[f"noise\n{label}"] = plain(z, some, "unit")
            rows[f"images\n{label}"] = plain(of_images, some)
            rows[f"covariance\nremoved {label}"] = plain(whitened, some)
        title = f"Averages of {what} in noise and over {settings.natural_samples:,} windows of training images"
        note = "The units that fire most in noise. Neighbouring pixels of images are alike, which smears the average; "
        note += f"below it with their covariance removed (ridge {settings.ridge:g})."
        yield f"{file}_natural.png", figures.panels(rows, title, note)


def _lines(chosen: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Units cut into lines of a figure, with their ranks."""
    starts = range(0, len(chosen), _COLUMNS)
    return [(f"{i + 1} to {min(i + _COLUMNS, len(chosen))}", chosen[i : i + _COLUMNS]) for i in starts]


def _summary(name: str, layer: spike_triggered.Layer) -> Iterator[str]:
    field, rates, r = layer.field, layer.rates, layer.correlation
    speed = "" if layer.samples_per_second is None else f", {layer.samples_per_second:,.0f} samples per second"
    reliable = np.count_nonzero(layer.reliability.filled(0) >= figures.RELIABLE)
    size = "x".join(map(str, field.size))
    yield name
    yield f"  receptive field {size} pixels, jump {field.jump[0]}, first at {field.start[0]}, {field.units}"
    yield f"  firing rates    {rates.min():.3g} to {rates.max():.3g} ({layer.sampling}{speed})"
    yield f"  never fire      {len(layer.dead)} of {len(rates)}: {', '.join(map(str, layer.dead)) or 'none'}"
    yield f"  rarely fire     {', '.join(f'{unit} ({rates[unit]:.2g})' for unit in layer.rare) or 'none'}"
    yield f"  reliable        {reliable} of {len(rates) - len(layer.dead)} averages (split half >= {figures.RELIABLE})"
    if r.count():
        yield f"  weights         r from {r.min():.4f} to {r.max():.4f} with the averages of {r.count()} firing units"


if __name__ == "__main__":
    launch.main(run, Settings)
