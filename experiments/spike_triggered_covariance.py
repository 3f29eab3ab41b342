"""Which features of its receptive field does a unit square, rather than add? Spike-triggered covariances.

A unit's average shows one direction in the space of stimuli. Where it also answers to a feature and to its negative, or
is silenced by both, the noise that drives it varies more, or less, in the direction of that feature: eigenvalues of the
spike-triggered covariance above (excitatory) or below (suppressive) those of mere noise, after the average's direction
is taken out. The noise has to be Gaussian.

  python -m experiments.spike_triggered_covariance --dataset=mnist --layer=conv2

Writes to --out_dir: spectra.png, features.png, features.npz, metrics.json, config.json and log.jsonl; state/ lets an
interrupted run resume.
"""

import numpy as np

from experiments import launch, shared
from experiments.settings import LoopSettings, choice, setting
from wna_jax import figures
from wna_jax.studies import spike_triggered

_SHOWN = 4  # features of a kind in the figure
_IN_FILE = ("eigenvalues", "features", "excitatory", "suppressive")


class Settings(LoopSettings):
    """The settings of one run."""

    layer: str = choice("conv2", "The layer whose units to look at.")
    units: tuple[int, ...] | None = choice(
        None, "The numbers of the units, comma-separated. By default the 12 that fire most."
    )
    alpha: float = setting(0.05, "Error rate of the test of a unit's eigenvalues.", at_least=0.001, at_most=0.5)


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """The significant features of the chosen units of a layer."""
    dataset, stimulus, trained = shared.set_up(settings, report)
    network = trained.network
    (layer,) = shared.chosen_layers([settings.layer], network)
    options = shared.loop_options(settings, dataset, network, report, layer=layer)
    options |= {"chosen": settings.units, "alpha": settings.alpha}
    found = spike_triggered.look_for_features(network, layer, stimulus, **options)
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
    what = f"{layer} of {shared.title_of(settings, dataset)}: {settings.num_samples:,} images of {settings.noise} noise"

    def panel(image: np.ndarray, heading: str) -> figures.Panel:
        return figures.Panel(np.ma.masked_array(image / np.abs(image).max())[found.view.seen], heading, True)

    def draw() -> launch.Drawn:
        if not found.covariances:
            return
        z = dict(zip(found.units, found.averages.in_standard_errors, strict=True))
        spectra = {f"unit {unit}, fires {rates[unit]:.1%}": of for unit, of in found.covariances.items()}
        note = "In units of the noise's variance, the average's direction taken out. The band: extreme eigenvalues of "
        note += "as many samples of mere noise."
        title = f"Eigenvalues of the spike-triggered covariance, {what}"
        yield "spectra.png", figures.spectra(spectra, title, note)
        rows: dict[str, list[figures.Panel | None]] = {}
        for unit, of in found.covariances.items():
            row: list[figures.Panel | None] = [panel(z[unit], "average")]
            for kind, indices in (("excitatory", of.excitatory), ("suppressive", of.suppressive)):
                shown = [panel(of.features[i], f"{kind} {of.eigenvalues[i]:.2f}") for i in indices[:_SHOWN]]
                row += [*shown, *[None] * (_SHOWN - len(shown))]
            if any(row[1:]):
                rows[f"unit {unit}"] = row
        none = ", ".join(str(unit) for unit in found.covariances if f"unit {unit}" not in rows)
        rows = rows or {"averages": [panel(z[unit], f"unit {unit}") for unit in found.covariances]}
        note = f"Average and the {_SHOWN} most extreme significant features of each kind with their eigenvalues, each "
        note += "on a scale of its own. The sign of a feature is arbitrary. Each unit is tested at "
        note += f"{settings.alpha:g}. No significant feature: {none or 'none'}."
        scales = dict.fromkeys(rows, "of the largest")
        yield "features.png", figures.panels(rows, f"Features of units of {what}", note, units=scales)

    summary = []
    for unit, of in found.covariances.items():
        kinds = f"{len(of.excitatory)} excitatory, {len(of.suppressive)} suppressive features"
        ends = f"{of.eigenvalues[0]:.3f} to {of.eigenvalues[-1]:.3f}, noise {of.low:.3f} to {of.high:.3f}"
        known = f"{of.effective_samples:,.0f} effective samples"
        summary.append(f"unit {unit:<10d} {kinds}; eigenvalues {ends} ({known})")
    summary += [f"unit {unit:<10d} {why}" for unit, why in found.not_tested.items()]
    return launch.Result(metrics, summary, draw, {"features.npz": arrays})


if __name__ == "__main__":
    launch.main(run, Settings)
