"""Can a network be made to answer c by mixing in what it sees in noise, without its gradient?

Images A are mixed with a pattern P_c of a target class c, x' = (1 - g) A + g P_c (or otherwise: --mix), and the share
of x' that the network calls c is averaged over the targets. A are noise images or test images. P_c, stretched to
[0, 1], is

  decision      the class's decision map (bias map) in that noise; a class that no noise is called has none
  probability   its probability map
  mean          its mean training image: what somebody with the training data would use
  authors_png   the probability map, squeezed as arXiv 1912.12106's notebooks read their maps back from a saved picture,
                colours averaged: all values lie between .40 and .76

  python -m experiments.black_box_attack --dataset=mnist --noise=uniform

Writes to --out_dir: success.png, examples.png, metrics.json, config.json and log.jsonl; state/ lets an interrupted run
go on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import common
from wna_jax import data, figures, interventions, maps, noise, responses, reverse_correlation, statistics
from wna_jax.errors import InputError, unknown_name

_PATTERNS = ("decision", "probability", "mean", "authors_png")
flags.DEFINE_list("pattern", ",".join(_PATTERNS), f"what is mixed in, comma-separated: {', '.join(_PATTERNS)}")
flags.DEFINE_enum(
    "mix", "blend", list(interventions.MIXES), "blend (1-g)A+gP, add A+gP or multiply A(1+gP), clipped to [0, 1]"
)
flags.DEFINE_integer("num_images", 10_000, "noise images and, at most, test images that are attacked", lower_bound=1)

_STRENGTHS = [i / 10 for i in range(11)]
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


@dataclass(frozen=True)
class Settings(common.NetworkSettings):
    """The flags of one run, as a value."""

    pattern: tuple[str, ...]
    mix: str
    num_images: int
    noise: str
    num_samples: int
    """For the maps."""
    batch_size: int | None
    seed: int


def run(settings: Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    for name in settings.pattern:
        if name not in _PATTERNS:
            raise unknown_name("pattern", name, _PATTERNS)
    if not settings.pattern:
        raise InputError(f"no pattern given: choose from {', '.join(_PATTERNS)}")
    out_dir = common.open_output(settings)
    with common.reporting(out_dir) as report:
        dataset = common.classes_to_tell(settings, report)
        background = noise.create(settings.noise, dataset)
        network = common.trained_network(settings, dataset, report)
        moments = reverse_correlation.reverse_correlate(
            background,
            responses.of_classifier(network.logits_function),
            settings.num_samples,
            seed=settings.seed,
            batch_size=settings.batch_size,
            sampling="auto",
            state_dir=out_dir / "state",
            identity={"noise": settings.noise, "data": dataset.fingerprint, "network": network.fingerprint},
            report=report,
        )
        all_patterns = patterns(moments, background, dataset)
        chosen = {name: all_patterns[name] for name in dict.fromkeys(settings.pattern)}
        attacked = {
            "noise images": np.asarray(
                # Of another seed than the maps, which would else be made of these very images.
                reverse_correlation.draw_samples(background, settings.num_images, seed=(settings.seed + 1) % 2**32)
            ),
            "test images": dataset.test.images[: settings.num_images] / np.float32(255),
        }
        mix = interventions.MIXES[settings.mix]

        def change(inputs: tuple[jax.Array, jax.Array], strength: jax.Array) -> jax.Array:
            return mix(*inputs, strength)

        hits = {
            source: {
                name: {
                    target: interventions.hits(
                        network.logits_function,
                        change,
                        _STRENGTHS,
                        (images, np.broadcast_to(pattern, images.shape)),
                        np.full(len(images), target),
                        report,
                    )
                    for target, pattern in by_target.items()
                }
                for name, by_target in chosen.items()
            }
            for source, images in attacked.items()
        }

    metrics = {
        "test_accuracy": network.metrics["test_accuracy"],
        "num_samples": settings.num_samples,
        "counts": moments["decision"].count.tolist(),
        "strengths": _STRENGTHS,
        "images": {source: len(images) for source, images in attacked.items()},
        "classes_without_pattern": {
            name: [dataset.class_names[k] for k in range(dataset.num_classes) if k not in by_target]
            for name, by_target in chosen.items()
        },
        "success": {
            source: {
                name: {
                    "mean": _mean(by_target, len(attacked[source])).tolist(),
                    "by_target": {
                        dataset.class_names[k]: (counts / len(attacked[source])).tolist()
                        for k, counts in by_target.items()
                    },
                }
                for name, by_target in of_source.items()
                if by_target
            }
            for source, of_source in hits.items()
        },
    }
    common.write_json(out_dir / "metrics.json", metrics)
    common.write_config(out_dir, settings)
    _draw(settings, out_dir, dataset, network, chosen, attacked, hits)
    _summarise(out_dir, metrics)


def patterns(
    moments: Mapping[str, reverse_correlation.Moments], background: noise.Noise, dataset: data.Dataset
) -> dict[str, dict[int, np.ndarray]]:
    """The patterns [H, W, C] of each kind by target class; a class without a map has none."""
    means = [dataset.train.images[dataset.train.labels == k].mean(axis=0) for k in range(dataset.num_classes)]
    centred = {
        name: maps.classification_images(moments[name], background).images for name in ("decision", "probability")
    }
    found = {
        name: {
            k: image.filled().astype(np.float32) for k, image in enumerate(maps.min_max(images)) if np.ma.count(image)
        }
        for name, images in (centred | {"mean": np.ma.masked_array(means)}).items()
    }
    squeezed = {k: figures.colour_mapped(image).astype(np.float32) for k, image in found["probability"].items()}
    return found | {"authors_png": squeezed}


def _mean(by_target: Mapping[int, np.ndarray], num_images: int) -> np.ndarray:
    return np.mean(list(by_target.values()), axis=0) / num_images


def _draw(
    settings: Settings,
    out_dir: Path,
    dataset: data.Dataset,
    network: common.Network,
    chosen: Mapping[str, Mapping[int, np.ndarray]],
    attacked: Mapping[str, np.ndarray],
    hits: Mapping[str, Mapping[str, Mapping[int, np.ndarray]]],
) -> None:
    panels: dict[str, dict[str, figures.Curve]] = {}
    for source, of_source in hits.items():
        curves = panels[f"{source} (n = {len(attacked[source]):,})"] = {}
        for name, by_target in of_source.items():
            if by_target:
                share = _mean(by_target, len(attacked[source]))
                # All targets share the images: the share of hits of an image varies no more than one hit or miss would.
                interval = statistics.wilson_interval(share * len(attacked[source]), len(attacked[source]))
                targets = f", {len(by_target)} of {dataset.num_classes} targets" * (
                    len(by_target) < dataset.num_classes
                )
                comparable = dataset.name == "mnist" and settings.mix == "blend" and settings.noise == "uniform"
                published = _PUBLISHED[source].get(name) if comparable and not targets else None
                curves[f"{name}{targets}"] = figures.Curve(_STRENGTHS, share, interval, published)
    what = f"{settings.model} on {dataset.title}"
    formula = {"blend": "(1 − g) A + g P", "add": "A + g P", "multiply": "A (1 + g P)"}[settings.mix]
    common.save(
        figures.curves(
            panels,
            "weight g of the pattern",
            "called the target, mean over targets",
            f"Attack of {what} by {formula}: maps of {settings.num_samples:,} images of {settings.noise} noise",
            level=1 / dataset.num_classes,
        ),
        out_dir / "success.png",
    )

    shared = set.intersection(*(set(by_target) for by_target in chosen.values())) if all(chosen.values()) else {0}
    target = min(shared or {0})
    rows, labels, captions = [], [], []
    for source, images in attacked.items():
        for name, by_target in chosen.items():
            if target in by_target:
                mix = interventions.MIXES[settings.mix]
                image, pattern = jnp.asarray(images[0]), jnp.asarray(by_target[target])
                steps = jnp.stack([mix(image, pattern, jnp.float32(g)) for g in _STRENGTHS])
                rows.append(np.asarray(steps))
                labels.append(f"{source[:-1]},\n{name}")
                answers = np.asarray(network.logits_function(steps)).argmax(axis=-1)
                captions.append(
                    [f"g = {g:g}: {dataset.class_names[k]}" for g, k in zip(_STRENGTHS, answers, strict=True)]
                )
    title = f"One image and the patterns of {dataset.class_names[target]}, and what {what} calls it"
    common.save(figures.gallery(np.stack(rows), labels, title, captions), out_dir / "examples.png")


def _summarise(out_dir: Path, metrics: dict[str, Any]) -> None:
    print(f"test accuracy   {metrics['test_accuracy']:.2%}")
    for name, lacking in metrics["classes_without_pattern"].items():
        if lacking:
            print(f"left out        {name}: no map of {', '.join(lacking)}")
    print(f"{'success at g':31s}" + "".join(f"{g:7.1f}" for g in metrics["strengths"]))
    for source, of_source in metrics["success"].items():
        for name, values in of_source.items():
            print(f"{source + ', ' + name:31s}" + "".join(f"{value:7.3f}" for value in values["mean"]))
    print(f"look at         {out_dir / 'success.png'}")


if __name__ == "__main__":
    common.main(run, Settings)
