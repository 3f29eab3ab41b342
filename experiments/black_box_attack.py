"""Can a network be made to answer c by mixing in what it sees in noise, without its gradient?

Images A are mixed with a pattern P_c of a target class c, x' = (1 - g) A + g P_c (or otherwise: --mix), and the share
of x' that the network calls c is averaged over the targets. A are noise images or test images. P_c, stretched to
[0, 1], is one of

  decision      the class's decision map (bias map) in that noise; a class that no noise is called has none
  probability   its probability map
  mean          its mean training image: what somebody with the training data would use
  authors_png   the probability map, squeezed as arXiv 1912.12106's notebooks read their maps back from a saved picture,
                colours averaged: all values lie between .40 and .76

  python -m experiments.black_box_attack --dataset=mnist --noise=uniform

Writes to --out_dir: success.png, examples.png, metrics.json, config.json, log.jsonl and state/ (to go on from).
"""

import itertools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments import launch, shared
from experiments.settings import LoopSettings, choice, setting
from wna_jax import correlation, data, figures, maps, noise, responses
from wna_jax.posterior import posterior_maps, why_none
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import in_parts
from wna_jax.studies import interventions

_PATTERNS = ("decision", "probability", "prior", "mean", "authors_png")
_STRENGTHS = [i / 10 for i in range(11)]
_FORMULAS = {"blend": "(1 − g) A + g P", "add": "A + g P", "multiply": "A (1 + g P)"}
_PUBLISHED = {  # arXiv 1912.12106's notebooks, MNIST, blend
    "noise images": {
        "authors_png": (0.1, 0.1127, 0.1274, 0.1492, 0.1738, 0.2075, 0.2708, 0.4286, 0.6663, 0.7427, 0.9),
        "mean": (0.1, 0.127, 0.1792, 0.3127, 0.6175, 0.8416, 0.9859, 0.99997, 1, 1, 1),
    },
    "test images": {
        "authors_png": (0.1, 0.10007, 0.1002, 0.1004, 0.101, 0.102, 0.1049, 0.1226, 0.2142, 0.5868, 0.9),
        "mean": (0.1, 0.1006, 0.1026, 0.1095, 0.149, 0.2797, 0.534, 0.8304, 0.9937, 1, 1),
    },
}


class Settings(LoopSettings):
    """The settings of one run."""

    TAKES_OWN_NETWORKS = True

    pattern: tuple[str, ...] = choice(
        ("decision", "probability", "mean", "authors_png"),
        "What is mixed in: decision or probability maps, prior (probability maps with a smoothness prior, which need "
        "fewer samples), mean (training images), authors_png (the colours of a figure).",
        choices=_PATTERNS,
    )
    mix: str = choice(
        "blend",
        "How it is mixed in: blend (1-g)A+gP, add A+gP or multiply A(1+gP). The last two are clipped to [0, 1].",
        choices=tuple(interventions.MIXES),
    )
    num_images: int = setting(10_000, "Noise images and, at most, test images that are attacked.", at_least=1)
    num_samples: int = setting(1_000_000, "How many noise samples to draw for the maps.", at_least=1)


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Noise through the network to maps, which are mixed into images to make the network answer their class."""
    dataset, stimulus, trained = shared.set_up(settings, report)
    network, names = trained.network, dataset.class_names
    options = shared.loop_options(settings, dataset, network, report)
    moments = correlation.reverse_correlate(stimulus, responses.of_classifier(network), **options)
    every_kind = patterns(moments, stimulus, dataset)
    chosen = {kind: every_kind[kind] for kind in dict.fromkeys(settings.pattern)}
    if not any(chosen.values()):
        raise InputError(f"no class has a map of the pattern {', '.join(chosen)}: add --pattern=probability")
    other_seed = (settings.seed + 1) % 2**32  # the attacked images are none of those that the maps are made of
    attacked = {
        "noise images": np.asarray(correlation.draw_samples(stimulus, settings.num_images, seed=other_seed)),
        "test images": dataset.test_images[: settings.num_images],
    }
    mix = interventions.MIXES[settings.mix]

    attacks = [(s, kind, target) for s in attacked for kind, by_target in chosen.items() for target in by_target]
    found: dict[str, dict[str, list[np.ndarray]]] = {source: {} for source in attacked}
    for (source, kind, target), tell in in_parts(report, attacks, "answers"):
        images, change = attacked[source], interventions.mixed_with(chosen[kind][target], mix)
        wanted = np.full(len(images), target, np.int32)
        hits = interventions.hits(network, change, _STRENGTHS, images, wanted, tell)
        found[source].setdefault(kind, []).append(hits / len(images))
    shares = {source: {kind: np.stack(of) for kind, of in by_kind.items()} for source, by_kind in found.items()}
    without = {kind: [name for k, name in enumerate(names) if k not in of] for kind, of in chosen.items()}

    def as_json(kind: str, share: np.ndarray) -> dict[str, Any]:
        by_target = {names[k]: own.tolist() for k, own in zip(chosen[kind], share, strict=True)}
        return {"mean": share.mean(axis=0).tolist(), "by_target": by_target}

    metrics = {
        "test_accuracy": trained.test_accuracy,
        "num_samples": settings.num_samples,
        "counts": moments["decision"].count.tolist(),
        "strengths": _STRENGTHS,
        "images": {source: len(images) for source, images in attacked.items()},
        "classes_without_pattern": without,
        "success": {
            source: {kind: as_json(kind, share) for kind, share in of_source.items()}
            for source, of_source in shares.items()
        },
    }

    def draw() -> launch.Drawn:
        is_papers = (dataset.name, settings.mix, settings.noise) == ("mnist", "blend", "uniform")
        panels = {}
        for source, of_source in shares.items():
            n, curves = len(attacked[source]), {}
            for kind, share in of_source.items():
                is_complete = len(share) == len(names)
                published = _PUBLISHED[source].get(kind) if is_papers and is_complete else None
                name = kind if is_complete else f"{kind}, {len(share)} of {len(names)} targets"
                # All targets share the images: an image's mean over targets varies no more than a single answer would.
                curves[name] = figures.Curve.of_counts(_STRENGTHS, n * share.mean(axis=0), n, published)
            panels[f"{source} (n = {n:,})"] = curves
        title = f"Attack on {shared.title_of(settings, dataset)} by {_FORMULAS[settings.mix]}: maps of "
        title += f"{settings.num_samples:,} images of {settings.noise} noise"
        axes = "weight g of the pattern", "called the target, mean over targets"
        yield "success.png", figures.curves(panels, *axes, title, level=1 / len(names))
        # one image of each source, with the patterns of one class, if possible one that all kinds have
        targets = [set(by_target) for by_target in chosen.values()]
        target = min(set.intersection(*targets) or set.union(*targets))
        first = {source: first_to_attack(network, images, target) for source, images in attacked.items()}
        rows, captions = {}, []
        for source, kind in itertools.product(attacked, (kind for kind in chosen if target in chosen[kind])):
            change = interventions.mixed_with(chosen[kind][target], mix)
            steps = jnp.stack([change(jnp.asarray(first[source]), jnp.float32(g)) for g in _STRENGTHS])
            answers = [names[k] for k in network(steps).argmax(axis=-1)]
            captions.append([f"g = {g:g}: {answer}" for g, answer in zip(_STRENGTHS, answers, strict=True)])
            rows[f"{source[:-1]},\n{kind}"] = np.asarray(steps)
        title = f"One image and the patterns of {names[target]}, and what {shared.title_of(settings, dataset)} calls it"
        yield "examples.png", figures.gallery(np.stack(list(rows.values())), list(rows), title, captions)

    summary = [f"test accuracy   {trained.test_accuracy:.2%}"]
    for kind, lacking in without.items():
        if lacking:
            summary.append(f"left out        {kind}: no map of {', '.join(lacking)}")
    summary.append(f"{'success at g':31s}" + "".join(f"{g:7.1f}" for g in _STRENGTHS))
    for source, of_source in shares.items():
        for kind, of_kind in of_source.items():
            values = "".join(f"{value:7.3f}" for value in of_kind.mean(axis=0))
            summary.append(f"{source + ', ' + kind:31s}{values}")
    return launch.Result(metrics, summary, draw)


def patterns(
    moments: Mapping[str, correlation.Moments], stimulus: noise.Noise, dataset: data.Dataset
) -> dict[str, dict[int, np.ndarray]]:
    """The patterns [H, W, C] of each kind by target class; a class without a map has none."""
    images = {kind: maps.classification_images(moments[kind], stimulus).images for kind in ("decision", "probability")}
    found = {kind: _stretched(of_kind, stimulus) for kind, of_kind in images.items()}
    plain = maps.classification_images(moments["probability"], stimulus)
    found["prior"] = {} if why_none(plain) else _stretched(posterior_maps(plain).images, stimulus)
    found["mean"] = _stretched(np.ma.masked_array(dataset.class_means))
    squeezed = {k: figures.colour_mapped(image).astype(np.float32) for k, image in found["probability"].items()}
    return found | {"authors_png": squeezed}


def _stretched(images: np.ma.MaskedArray, stimulus: noise.Noise | None = None) -> dict[int, np.ndarray]:
    """Each class's map stretched to [0, 1], in the size in which its noise is shown."""
    there = {k: image.filled().astype(np.float32) for k, image in enumerate(maps.min_max(images)) if image.count()}
    return {k: stimulus.shown(image[None])[0] if stimulus else image for k, image in there.items()}


def first_to_attack(
    network: interventions.LogitsFunction, images: np.ndarray, target: int, among: int = 100
) -> np.ndarray:
    """The first image that is not called the target already; of many that all are, the first one."""
    others = np.asarray(network(jnp.asarray(images[:among])).argmax(axis=-1)) != target
    return images[others.argmax()]


if __name__ == "__main__":
    launch.main(run, Settings)
