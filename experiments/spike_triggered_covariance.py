"""Which features of its receptive field does a unit square, rather than add? Spike-triggered covariances.

A unit's average shows one direction in the space of stimuli. Where it also answers to a feature and to its negative, or
is silenced by both, the noise that drives it varies more, or less, in the direction of that feature: eigenvalues of the
spike-triggered covariance above (excitatory) or below (suppressive) those of mere noise, after the average's direction
is taken out. The noise has to be Gaussian.

  python -m experiments.spike_triggered_covariance --dataset=mnist --layer=conv2

Writes to --out_dir: spectra.png, features.png, features.npz, metrics.json, config.json and log.jsonl; state/ lets an
interrupted run resume.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from experiments import launch, shared
from experiments.launch import Result
from experiments.settings import LoopSettings, setting
from wna_jax import figures, statistics
from wna_jax.figures import Panel
from wna_jax.runs.progress import Report, silent
from wna_jax.studies import spike_triggered
from wna_jax.studies.spike_triggered import Features

_SHOWN = 4
"""Features of a kind in the figure."""
_IN_FILE = ("eigenvalues", "features", "excitatory", "suppressive")


@dataclass(frozen=True, kw_only=True)
class Settings(LoopSettings):
    """The settings of one run."""

    layer: str = setting("conv2", "The layer whose units to look at.", names_folder=True)
    units: tuple[int, ...] | None = setting(
        None, "The numbers of the units, comma-separated. By default the 12 that fire most.", names_folder=True
    )
    alpha: float = setting(0.05, "Error rate of the test of a unit's eigenvalues.", at_least=0.001, at_most=0.5)


def run(settings: Settings, report: Report = silent) -> Result:
    """The significant features of the chosen units of a layer."""
    dataset = shared.load_classes(settings, report)
    trained = shared.trained_network(settings, dataset, report)
    (layer,) = shared.chosen_layers([settings.layer], trained.network)
    found = spike_triggered.look_for_features(
        trained.network,
        layer,
        shared.create_noise(settings, dataset, report),
        settings.num_samples,
        chosen=settings.units,
        alpha=settings.alpha,
        seed=settings.seed,
        identity=shared.identity(settings, dataset, trained.network, layer=layer),
        batch_size=settings.batch_size,
        state_dir=settings.folder / "state",
        report=report,
    )
    rates = dict(zip(found.units, (found.averages.count / settings.num_samples).tolist(), strict=True))
    averages = dict(zip(found.units, found.averages.images, strict=True))
    arrays: dict[str, np.ndarray] = {}
    for unit, of in found.covariances.items():
        arrays[f"average_{unit}"] = averages[unit].filled(np.nan)
        arrays |= {f"{name}_{unit}": getattr(of, name) for name in _IN_FILE}
    metrics = {
        "test_accuracy": trained.test_accuracy,
        "receptive_field": found.view.field._asdict(),
        "num_samples": settings.num_samples,
        "not_tested": found.not_tested,
        "units": {
            str(unit): {
                "firing_rate": rates[unit],
                "effective_samples": of.effective_samples,
                "excitatory": of.eigenvalues[of.excitatory].tolist(),
                "suppressive": of.eigenvalues[of.suppressive].tolist(),
                "null_band": [of.low, of.high],
            }
            for unit, of in found.covariances.items()
        },
    }
    drawn = _figures(settings, dataset.title, found, rates) if found.covariances else {}
    return Result(metrics, list(_summary(settings, found)), drawn, {"features.npz": arrays})


def _figures(
    settings: Settings, title: str, found: Features, rates: Mapping[int, float]
) -> dict[str, Callable[[], Figure]]:
    what = f"{settings.layer} of {settings.model} on {title}: {settings.num_samples:,} images of {settings.noise} noise"
    z = dict(zip(found.units, statistics.z_map(found.averages), strict=True))

    def spectra() -> Figure:
        return figures.spectra(
            {f"unit {unit}, fires {rates[unit]:.1%}": of for unit, of in found.covariances.items()},
            f"Eigenvalues of the spike-triggered covariance, {what}",
            "In units of the noise's variance, the average's direction taken out. The band: extreme eigenvalues of as "
            "many samples of mere noise.",
        )

    def panel(image: np.ndarray, heading: str) -> Panel:
        return Panel(np.ma.masked_array(image / np.abs(image).max())[found.view.seen], heading, True)

    def features() -> Figure:
        rows: dict[str, list[Panel | None]] = {}
        for unit, of in found.covariances.items():
            row: list[Panel | None] = [panel(z[unit], "average")]
            for kind, indices in (("excitatory", of.excitatory), ("suppressive", of.suppressive)):
                shown = [panel(of.features[i], f"{kind} {of.eigenvalues[i]:.2f}") for i in indices[:_SHOWN]]
                row += [*shown, *[None] * (_SHOWN - len(shown))]
            if any(row[1:]):
                rows[f"unit {unit}"] = row
        none = ", ".join(str(unit) for unit in found.covariances if f"unit {unit}" not in rows)
        rows = rows or {"averages": [panel(z[unit], f"unit {unit}") for unit in found.covariances]}
        note = (
            f"Average and the {_SHOWN} most extreme significant features of each kind with their eigenvalues, each on "
            f"a scale of its own. The sign of a feature is arbitrary. Each unit is tested at {settings.alpha:g}. "
            f"No significant feature: {none or 'none'}."
        )
        scales = dict.fromkeys(rows, "of the largest")
        return figures.panels(rows, f"Features of units of {what}", note, units=scales)

    return {"spectra.png": spectra, "features.png": features}


def _summary(settings: Settings, found: Features) -> Iterator[str]:
    for unit, of in found.covariances.items():
        yield (
            f"unit {unit:<10d} {len(of.excitatory)} excitatory, {len(of.suppressive)} suppressive features; "
            f"eigenvalues {of.eigenvalues[0]:.3f} to {of.eigenvalues[-1]:.3f}, noise {of.low:.3f} to {of.high:.3f} "
            f"({of.effective_samples:,.0f} effective samples)"
        )
    for unit, why in found.not_tested.items():
        yield f"unit {unit:<10d} {why}"
    if found.covariances:
        yield f"look at         {settings.folder / 'spectra.png'}"


if __name__ == "__main__":
    launch.main(run, Settings)
