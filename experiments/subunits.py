"""Which rectified features drive a unit together? The subunits of the units of a layer.

A unit's response to Gaussian noise is fitted by a sum of a few rectified features, its subunits, within its receptive
field. Their number is decided on samples that the fit has not seen. Above the first layer each subunit is compared with
the learned filters of the first: the share of it that 4 of them, placed anywhere, explain, beside that of the same
filters mirrored, which are as smooth but not the network's. Where the layer weighs the first one's (pooled) maps, the
places at which the filters match a subunit are correlated with the weights of its unit there, and of all other units.

  python -m experiments.subunits --dataset=mnist --layer=conv2

Writes to --out_dir: subunits.png, subunits.npz, metrics.json, config.json and log.jsonl.
"""

from typing import Any

import numpy as np

from experiments import launch, shared
from experiments.settings import NoiseSettings, choice, setting
from wna_jax import figures
from wna_jax.networks import units
from wna_jax.studies import subunits

_FILTERS = 4
_MIRRORS = ((1,), (2,), (1, 2))


class Settings(NoiseSettings):
    """The settings of one run."""

    layer: str = choice("conv2", "The layer whose units to look at.")
    units: tuple[int, ...] | None = choice(
        None, "The numbers of the units, comma-separated. By default the 6 that fire most."
    )
    num_samples: int = setting(50_000, "How many noise samples to draw; all are held in memory.", at_least=500)
    most: int = choice(5, "The largest number of subunits to try.", at_least=1, at_most=20)
    least_gain: float = choice(
        0.01, "The least share of held-out variance that more subunits have to explain.", at_least=0, at_most=0.5
    )


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """The subunits of the chosen units of a layer."""
    dataset, stimulus, trained = shared.set_up(settings, report)
    network, shape = trained.network, dataset.image_shape
    (layer,) = shared.chosen_layers([settings.layer], network)
    limits: dict[str, Any] = {"most": settings.most, "least_gain": settings.least_gain, "seed": settings.seed}
    found = subunits.look_for(
        network, layer, stimulus, settings.num_samples, chosen=settings.units, report=report, **limits
    )
    first = units.layer_names(network, shape)[0]
    filters = None if layer == first else units.first_kernels(network, first)
    weights = network.parameters.get(layer, {}).get("kernel") if filters is not None else None
    compared = {} if filters is None else {unit: _compared(found, unit, filters, weights) for unit in found.subunits}
    metrics = {
        "test_accuracy": trained.test_accuracy,
        "receptive_field": found.view.field._asdict(),
        "num_samples": settings.num_samples,
        "not_fitted": found.not_fitted,
        "units": {
            str(unit): {
                "firing_rate": found.rates[unit],
                "subunits": len(of.kernels),
                "weights": of.weights.tolist(),
                "offsets": of.offsets.tolist(),
                "baseline": of.baseline,
                "explained": of.explained.tolist(),
                "errors": of.errors.tolist(),
                **({"explained_by_first_filters": compared[unit]} if compared else {}),
            }
            for unit, of in found.subunits.items()
        },
    }
    arrays: dict[str, np.ndarray] = {}
    for unit, of in found.subunits.items():
        arrays |= {f"average_{unit}": found.averages[unit], f"kernels_{unit}": of.kernels}
        arrays |= {f"{name}_{unit}": getattr(of, name) for name in ("offsets", "explained", "errors")}
    what = f"{layer} of {shared.title_of(settings, dataset)}: {settings.num_samples:,} images of {settings.noise} noise"

    def draw() -> launch.Drawn:
        if found.subunits:
            yield "subunits.png", figures.subunits(found, f"Subunits of units of {what}")

    summary = []
    for unit, of in found.subunits.items():
        m, explained = len(of.kernels), of.explained
        gain = f"{explained[m]:.3f} of held-out variance" + (f", one {explained[1]:.3f} ± {of.errors[1]:.3f}" * (m > 1))
        weights = f" (weights {', '.join(f'{w:.2f}' for w in of.weights)})" if m else ""
        summary.append(f"unit {unit:<10d} {m or 'no'} subunit{'s' * (m != 1)}{weights}: {gain}")
    summary += [f"unit {unit:<10d} {why}" for unit, why in found.not_fitted.items()]
    pairs = [(np.mean(of["subunits"]), np.mean(of["subunits_mirrored"])) for of in compared.values() if of["subunits"]]
    if len(pairs) > 1:
        (mean, control), gains = np.mean(pairs, axis=0), np.subtract(*np.transpose(pairs))
        error, more = gains.std(ddof=1) / np.sqrt(len(pairs)), f"{gains.mean():.3f}"
        metrics["explained_by_first_filters"] = {"own": mean, "mirrored": control, "difference_error": error}
        both = f"{_FILTERS} filters of {first} explain {mean:.2f} of a subunit, mirrored ones {control:.2f}"
        summary.append(f"{both} (difference {more} ± {error:.3f}, standard error over {len(pairs)} units)")
    if of_weights := [pair for of in compared.values() for pair in of.get("weights", [])]:
        best, (low, high) = sum(rank == 1 for _, rank in of_weights), (f(r for r, _ in of_weights) for f in (min, max))
        summary.append(
            f"r of a subunit's matches to filters of {first} with its unit's weights {low:.2f} to {high:.2f}, with no "
            f"other unit's weights larger for {best} of {len(of_weights)}"
        )
    return launch.Result(metrics, summary, draw, {"subunits.npz": arrays})


def _compared(found: subunits.Found, unit: int, filters: np.ndarray, weights: Any) -> dict[str, Any]:
    """What a few filters, and the mean over mirrored ones, explain of each subunit of a unit and of its average.

    And "weights": per subunit the correlation of matches with the unit's weights, and its rank among all units'.
    """

    def explained(kernel: np.ndarray) -> tuple[float, float]:
        sets = [filters, *(np.flip(filters, axes) for axes in _MIRRORS)]
        own, *mirrored = (float(subunits.explained_by_filters(kernel, some, _FILTERS)[-1]) for some in sets)
        return own, float(np.mean(mirrored))

    kernels = [kernel[found.view.seen] for kernel in found.subunits[unit].kernels]
    pairs, average = list(map(explained, kernels)), explained(found.averages[unit][found.view.seen])
    ranks: list[tuple[float, int]] = []
    for kernel in kernels:
        r = None if np.ndim(weights) != 4 else subunits.weight_correlation(kernel, filters, np.asarray(weights))
        ranks += [] if r is None else [(float(r[unit]), 1 + int(np.count_nonzero(r > r[unit])))]
    return {
        "filters": _FILTERS,
        "subunits": [own for own, _ in pairs],
        "subunits_mirrored": [mirrored for _, mirrored in pairs],
        "average": average[0],
        "average_mirrored": average[1],
        **({"weights": ranks} if ranks else {}),
    }


if __name__ == "__main__":
    launch.main(run, Settings)
