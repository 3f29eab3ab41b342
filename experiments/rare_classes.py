"""What does a network look for in classes that it hardly ever sees in noise, and how rare are they?

Of plain noise most classes may get no sample. Here images of noise walk towards such a class step by step, and remain
samples of the noise (subset simulation, `wna_jax.studies.rare_classes`): decision maps with errors, and the share of
plain noise that is called the class, below one in 10^10 too. Beside them the maps of plain noise.

  python -m experiments.rare_classes --dataset=mnist --noise=uniform
  python -m experiments.rare_classes --dataset=mnist --noise=gaussian:0.5,0.289 --classes=2,7

Writes to --out_dir: rare_classes.png, maps.npz, metrics.json, config.json, log.jsonl and state/ (to go on from).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments import launch, shared
from experiments.settings import SamplingSettings, choice, setting
from wna_jax import figures, maps, statistics
from wna_jax.correlation import reverse_correlate_in_parts
from wna_jax.data import Dataset
from wna_jax.noise import Noise
from wna_jax.responses import as_logits, of_network
from wna_jax.runs.errors import InputError
from wna_jax.runs.files import or_none
from wna_jax.studies import rare_classes
from wna_jax.studies.rare_classes import RareClass

_TOLD = 0.2  # the reliability of a map below which its corrected correlation is not told
_NAMES = ("decision", "probability")


class Settings(SamplingSettings):
    """The settings of one run."""

    TAKES_OWN_NETWORKS = True

    num_samples: int = setting(300_000, "Samples of plain noise, beside which the maps are shown.", at_least=2)
    classes: tuple[str, ...] | None = choice(
        None, "The classes that are sought, by name. By default those with a share of plain noise below --rarer_than."
    )
    rarer_than: float = setting(0.01, "The share below which a class is sought.", at_least=0, at_most=1)
    populations: int = choice(20, "Independent populations of noise images, which tell the errors.", at_least=3)
    chains: int = choice(50, "Noise images of a population; more for shares of smaller error.", at_least=20)
    steps: int = choice(200, "Steps of each image within the class; more for maps of smaller error.", at_least=1)


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Plain noise, then each rare class, to maps and shares."""

    def check(dataset: Dataset, stimulus: Noise) -> list[int]:
        rare_classes.check_noise(stimulus)
        chosen = settings.classes or ()
        if len(set(chosen)) < len(chosen):
            raise InputError(f"classes is {','.join(chosen)}: name each class once")
        return [dataset.label_of(name) for name in chosen]

    dataset, stimulus, trained = shared.set_up(settings, report, check)
    respond = of_network(trained.network, _NAMES, outputs=trained.outputs)
    options = shared.loop_options(settings, dataset, trained.network, report, "plain")
    plain = reverse_correlate_in_parts(stimulus, respond, course=False, **options)
    decision, probability = (plain.first[name] + plain.second[name] for name in _NAMES)
    plain_maps = {
        name: maps.classification_images(of, stimulus) for name, of in zip(_NAMES, (decision, probability), strict=True)
    }
    halves = {name: statistics.split_half(plain.first[name], plain.second[name], stimulus) for name in _NAMES}
    share, share_error = plain_maps["decision"].share, maps.share_standard_error(decision)
    sought = check(dataset, stimulus) or np.flatnonzero(share < settings.rarer_than).tolist()
    found: list[RareClass | None] = [None] * dataset.num_classes
    size = {"num_populations": settings.populations, "num_chains": settings.chains, "num_steps": settings.steps}
    seen = rare_classes.seek(
        as_logits(trained.network, trained.outputs),
        stimulus,
        sought,
        **size,
        seed=settings.seed,
        state_dir=settings.folder / "state" / "classes",
        identity={"data": dataset.fingerprint},
        report=report,
    )
    for k, one in zip(sought, seen, strict=True):
        found[k] = one
    rare_maps, rare_halves = rare_classes.maps_of(found, stimulus), rare_classes.split_half(found, stimulus)
    alike = {
        name: statistics.disattenuate(
            statistics.map_correlation(rare_maps.images, plain_maps[name].images),
            np.ma.masked_less(rare_halves.reliability, _TOLD),
            np.ma.masked_less(halves[name].reliability, _TOLD),
        )
        for name in _NAMES
    }
    told: dict[str, Any] = {}
    for k in sought:
        one, n0 = found[k], halves["decision"].n0[k]
        told[dataset.class_names[k]] = {
            "plain_count": int(decision.count[k]),
            "plain_share": float(share[k]),
            "plain_share_standard_error": or_none(share_error[k]),
            "reached": one is not None,
        }
        if one is not None:
            told[dataset.class_names[k]] |= {
                "share": one.share,
                "share_interval_95": list(one.share_interval),
                "levels": int(one.levels),
                "images": int(one.images),
                "effective_samples": one.effective_samples,
                "times_the_samples_of_plain_noise": one.effective_samples / (one.share * int(one.images)),
                "reliability": or_none(rare_halves.reliability[k]),
                "reliability_of_as_much_plain_noise": or_none(1 / (1 + n0 / int(one.images))),
                **{f"correlation_with_plain_{name}_map": or_none(of[k]) for name, of in alike.items()},
            }
    metrics = {"test_accuracy": trained.test_accuracy, "num_samples": settings.num_samples, "classes": told}

    def draw() -> launch.Drawn:
        shown = {"decision": plain_maps["decision"], "decision: sought": rare_maps}
        reliability = {"decision": halves["decision"], "decision: sought": rare_halves}
        shown["probability"], reliability["probability"] = plain_maps["probability"], halves["probability"]
        means = dataset.class_means if dataset.name != shared.NO_DATA else None
        title = (
            f"Rare classes, {shared.title_of(settings, dataset)}: {settings.num_samples:,} samples of {settings.noise} "
            "noise (decision and probability maps), and decision maps of classes that noise images were walked to "
            "(sought: with the effective samples, and the share of plain noise)"
        )
        yield (
            "rare_classes.png",
            figures.classification_images(
                shown, {}, reliability, {}, dataset.class_names, means, title, None, {k: k for k in sought} or None
            ),
        )

    arrays = maps.named("rare_map", rare_maps.images) | maps.named("rare_standard_error", rare_maps.standard_error)
    return launch.Result(metrics, _lines(told), draw, {"maps.npz": arrays})


def _lines(told: dict[str, Any]) -> Sequence[str]:
    lines = []
    for name, of in told.items():
        line = f"{name:12s}{of['plain_count']:>8,} of plain noise"
        if of["reached"]:
            (low, high), reliability = of["share_interval_95"], of["reliability"]
            line += f"; sought: share {of['share']:.2g} ({low:.2g} to {high:.2g}), "
            line += f"{of['effective_samples']:,.0f} effective samples of {of['images']:,} images"
            line += f", reliability {reliability:.2f}" if reliability is not None else ""
        lines.append(
            line if of["reached"] else f"{line}; not reached, its share is below 1e-42 or its logits do not vary"
        )
    return lines


if __name__ == "__main__":
    launch.main(run, Settings)
