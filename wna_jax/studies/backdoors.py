"""Do the maps of a network give away a backdoor? Scores of its patch, against those of clean networks.

`examine` gathers the maps of one network, and `findings` tests those of clean and poisoned networks. A contrast with
one clean network is no test: clean networks of two seeds differ significantly too. The null is the spread between clean
networks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from scipy import special, stats

from wna_jax import correlation, data, maps, responses, statistics
from wna_jax.maps import ClassificationImages
from wna_jax.networks import training
from wna_jax.noise import Noise
from wna_jax.runs import compilation
from wna_jax.runs.accumulate import sum_over
from wna_jax.studies import interventions
from wna_jax.studies.interventions import LogitsFunction

RESPONSES = ("decision", "probability")
"""The maps in noise."""
GRADIENTS = ("held-out gradient", "training gradient")
"""The maps of mean loss gradients, over images that the network was not trained on, and over those that it was."""
ALPHA = 0.05
"""Error rate of each test."""
_BATCH = 500
_TRAINING_IMAGES = 11_000  # about so many, evenly spaced, are enough for a mean gradient


@dataclass(frozen=True, eq=False)
class Backdoor:
    """A white patch somewhere in an image, and the target, as which images of the source with it are classified."""

    source: int
    target: int
    patch: Bool[np.ndarray, "H W"]

    @property
    def letter(self) -> Bool[np.ndarray, "h w"]:
        """The patch's own rectangle."""
        return self.patch[np.ix_(self.patch.any(axis=1), self.patch.any(axis=0))]

    @property
    def place(self) -> tuple[int, int, int]:
        """The target, and the patch's first row and column: its own entry in `patch_scores`."""
        return self.target, int(self.patch.any(axis=1).argmax()), int(self.patch.any(axis=0).argmax())

    def poisoned(self, dataset: data.Dataset, count: int) -> data.Dataset:
        """A data set in which `count` training images have the backdoor; errors are those of `interventions.poison`."""
        train = interventions.poison(dataset.train, self.patch, self.source, self.target, count)
        _, top, left = self.place
        name = f"backdoor_{self.source}to{self.target}_{count}_c{len(self.letter)}at{top},{left}"
        return dataset.altered(name, train)


class Examined(NamedTuple):
    """One network and its maps.

    `accuracy` is that on clean test images, `success` the share of the source's patched test images that are called the
    target. `course` has numbers of samples, and the maps by response after as many; the last are those of all samples.
    `gradients` are minus the mean loss gradient of each class in standard errors; masked where no image is right.
    """

    accuracy: float
    success: float
    course: list[tuple[int, dict[str, ClassificationImages]]]
    gradients: dict[str, Float[np.ma.MaskedArray, "K H W C"]]

    def z_maps(self) -> dict[str, np.ma.MaskedArray]:
        """All maps in standard errors [K, H, W, C], by `RESPONSES` and `GRADIENTS`."""
        return {name: images.in_standard_errors for name, images in self.course[-1][1].items()} | self.gradients


def examine(
    network: LogitsFunction,
    backdoor: Backdoor,
    noise: Noise,
    dataset: data.Dataset,
    trained_on: data.Split,
    num_samples: int,
    **options: Any,
) -> Examined:
    """What is measured of one network, clean or poisoned, to tell which it is.

    The data set is clean, and its `validation` images are those held out; `trained_on` has the patched images that the
    network was trained on. The maps are made in the noise, with `options` of `reverse_correlate_in_parts`. Networks of
    one architecture share all compiled programs where they are pytrees.
    """
    respond = responses.of_classifier(network, RESPONSES)
    parts = correlation.reverse_correlate_in_parts(noise, respond, num_samples, **options)
    everything = {name: parts.first[name] + parts.second[name] for name in RESPONSES}
    course = [
        (moments["decision"].num_samples, {name: maps.classification_images(of, noise) for name, of in moments.items()})
        for moments in (*parts.course, everything)
    ]
    source = dataset.test.images[dataset.test.labels == backdoor.source]
    patched, target = interventions.stamp(source, backdoor.patch), np.full(len(source), backdoor.target, np.int32)
    step = max(1, len(trained_on.labels) // _TRAINING_IMAGES)
    splits = dataset.validation, jax.tree.map(lambda array: array[::step], trained_on)
    accuracy = training.evaluate(network, dataset.test)["accuracy"]
    success = interventions.accuracy(network, patched / np.float32(255), target)
    gradients = [-mean_gradients(network, split, dataset.num_classes) for split in splits]
    return Examined(accuracy, success, course, dict(zip(GRADIENTS, gradients, strict=True)))


def findings(examined: Mapping[str, Sequence[Examined]], backdoor: Backdoor) -> dict[str, Any]:
    """What all tests say of "clean" and "poisoned" networks, as many of each, four or more, as JSON values.

    Returns:
        by_samples: for each number of noise samples and each map in noise, how many networks each test rejects.
        patch_score: by kind of map, the scores at the backdoor's place, and how many are rejected.
        scan: by kind of map, what `scan` returns.
    """

    def scores(z: Mapping[str, Sequence[np.ma.MaskedArray]]) -> dict[str, np.ma.MaskedArray]:
        return {kind: np.ma.stack([patch_scores(own, backdoor.letter) for own in all_z]) for kind, all_z in z.items()}

    def at_the_patch(scores: Mapping[str, np.ma.MaskedArray]) -> dict[str, np.ma.MaskedArray]:
        return {kind: of_kind[:, *backdoor.place] for kind, of_kind in scores.items()}

    def tests(name: str, point: int) -> dict[str, dict[str, int]]:
        mapped = {kind: [each.course[point][1][name] for each in networks] for kind, networks in examined.items()}
        z = {kind: [images.in_standard_errors for images in of_kind] for kind, of_kind in mapped.items()}
        return {
            "pixels anywhere": pixel_rejections(mapped, backdoor.target, np.ones_like(backdoor.patch)),
            "pixels in the patch": pixel_rejections(mapped, backdoor.target, backdoor.patch),
            "patch score": rejections(at_the_patch(scores(z))),
        }

    by_samples = [
        {"samples": num_samples} | {name: tests(name, point) for name in RESPONSES}
        for point, (num_samples, _) in enumerate(examined["clean"][0].course)
    ]
    all_z = {kind: [each.z_maps() for each in networks] for kind, networks in examined.items()}
    patch_score, scans = {}, {}
    for name in (*RESPONSES, *GRADIENTS):
        of_map = scores({kind: [z[name] for z in of_kind] for kind, of_kind in all_z.items()})
        own = at_the_patch(of_map)
        values = {kind: of_kind.filled(np.nan).tolist() for kind, of_kind in own.items()}
        patch_score[name] = {"scores": values} | rejections(own)
        scans[name] = scan(of_map, backdoor.place, backdoor.letter)
    return {"by_samples": by_samples, "patch_score": patch_score, "scan": scans}


def patch_scores(maps_khwc: np.ma.MaskedArray, patch: Bool[np.ndarray, "h w"]) -> np.ma.MaskedArray:
    """How a map stands out inside a patch: (mean inside - mean outside) / deviation over the map, at every place.

    Channels are added up. The scores [K, H - h + 1, W - w + 1] are those of the patch's first row and column; masked
    where there is no map.
    """
    planes = maps_khwc.sum(axis=-1)
    windows = np.lib.stride_tricks.sliding_window_view(planes.filled(0), patch.shape, axis=(1, 2))
    inside = windows[..., patch]
    total = planes.filled(0).sum(axis=(1, 2))[:, None, None]
    outside = (total - inside.sum(axis=-1)) / (planes[0].size - patch.sum())
    deviation = planes.std(axis=(1, 2))[:, None, None]
    return (inside.mean(axis=-1) - outside) / np.ma.masked_equal(deviation, 0)


def against_clean(score: np.ma.MaskedArray, clean: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """A score as a normal number, given those of n clean networks: t = (score - mean) / (sd sqrt(1 + 1/n)).

    Where the score is of one more clean network, t is Student's with n - 1 degrees of freedom (a prediction interval);
    the normal number has the same tail. A place where fewer than three of `clean` [n, ...] have a score is masked.
    """
    n = clean.count(axis=0)
    deviation = np.ma.filled(clean.std(axis=0, ddof=1), 0)
    known = (n >= 3) & (deviation > 0) & ~np.ma.getmaskarray(score)
    error = np.where(known, deviation * np.sqrt(1 + 1 / np.maximum(n, 1)), 1)
    t = np.where(known, np.ma.filled(score, 0) - np.ma.filled(clean.mean(axis=0), 0), 0) / error
    tail = np.maximum(stats.t.sf(t, np.maximum(n - 1, 1)), 1e-300)
    return np.ma.masked_array(-special.ndtri(tail), ~known)


def normal_scores(scores: Mapping[str, np.ma.MaskedArray]) -> dict[str, np.ma.MaskedArray]:
    """The scores [n, ...] of clean and poisoned networks as normal numbers, each against the (other) clean networks."""
    clean = scores["clean"]
    others = [np.ma.concatenate([clean[:i], clean[i + 1 :]]) for i in range(len(clean))]
    return {
        "clean": np.ma.stack([against_clean(np.ma.masked_array(s), o) for s, o in zip(clean, others, strict=True)]),
        "poisoned": np.ma.stack([against_clean(np.ma.masked_array(s), clean) for s in scores["poisoned"]]),
    }


def rejections(scores: Mapping[str, np.ma.MaskedArray]) -> dict[str, int]:
    """How many networks have a score [n] that rejects "a clean network" at .05; one without a map never does."""
    limit = special.ndtri(1 - ALPHA)
    return {kind: int((z > limit).filled(False).sum()) for kind, z in normal_scores(scores).items()}


def pixel_rejections(
    mapped: Mapping[str, Sequence[ClassificationImages]], target: int, inside: np.ndarray
) -> dict[str, int]:
    """How many networks' maps of the target differ significantly from the next clean one's, in any pixel inside."""
    clean = mapped["clean"]
    return {
        kind: sum(
            bool(statistics.significant_pixels(statistics.contrast(own, other).z[target])[inside].any())
            for own, other in zip(all_images, [*clean[1:], clean[0]], strict=True)
        )
        for kind, all_images in mapped.items()
    }


def scan(scores: Mapping[str, np.ma.MaskedArray], place: tuple[int, int, int], letter: np.ndarray) -> dict[str, Any]:
    """Looks for a patch of a known shape at all places of all classes, in `patch_scores` [n, K, rows, columns].

    Returns:
        largest: each network's largest `normal_scores`. above_all_clean: how many poisoned networks have a larger one
        than all clean ones. largest_is_at_the_patch: how many have it in the patch's class, within half its size.
    """
    normal = normal_scores(scores)
    largest = {kind: z.reshape(len(z), -1).max(axis=1).filled(-np.inf) for kind, z in normal.items()}

    def is_at_the_patch(z: np.ma.MaskedArray) -> bool:
        distance = np.abs(np.subtract(np.unravel_index(z.filled(-np.inf).argmax(), z.shape), place))
        return bool(np.all(distance < (1, *np.divide(letter.shape, 2))))

    return {
        "largest": {kind: values.tolist() for kind, values in largest.items()},
        "above_all_clean": int((largest["poisoned"] > largest["clean"].max()).sum()),
        "largest_is_at_the_patch": {kind: sum(map(is_at_the_patch, all_z)) for kind, all_z in normal.items()},
    }


def mean_gradients(network: LogitsFunction, split: data.Split, num_classes: int) -> Float[np.ma.MaskedArray, "K H W C"]:
    """The mean loss gradient over the images of each class that are called right, in its standard errors.

    A class with fewer than two such images is masked.
    """
    of_batch = partial(_gradient_sums, network, num_classes)
    count, total, square = sum_over(of_batch, tuple(split), _BATCH)
    count = np.ma.masked_less(count, 2)[:, None, None, None]
    mean = total / count
    return mean / np.ma.masked_equal(np.ma.sqrt((square / count - mean**2) / (count - 1)), 0)


@compilation.jit
def _gradient_sums(network: LogitsFunction, num_classes: int, images_u8: jax.Array, labels: jax.Array) -> Any:
    images = training.to_unit_range(images_u8)
    right = network(images).argmax(axis=-1) == labels
    gradient = interventions.loss_gradient(network, images, labels)
    weight = jnp.where(right[:, None], jax.nn.one_hot(labels, num_classes), 0)
    both = [jnp.einsum("nk,nhwc->khwc", weight, pixels) for pixels in (gradient, jnp.square(gradient))]
    return weight.sum(axis=0), *both


def in_deviations(map_hwc: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """A map divided by the deviation over its own pixels, so that different kinds of maps share one scale."""
    return map_hwc / map_hwc.std()


def welch(clean: np.ma.MaskedArray, poisoned: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """Mean difference poisoned - clean of maps [n, H, W, C] `in_deviations`, in the standard errors of Welch's test."""
    groups = [np.ma.stack([in_deviations(z) for z in maps_]) for maps_ in (clean, poisoned)]
    error = np.ma.sqrt(sum(g.var(axis=0, ddof=1) / g.count(axis=0) for g in groups))
    return (groups[1].mean(axis=0) - groups[0].mean(axis=0)) / error
