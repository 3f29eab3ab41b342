"""The main job in one call: noise through a network to maps, with errors, tests, reliability and feed-back."""

import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

from wna_jax import maps, responses, statistics
from wna_jax import noise as noises
from wna_jax.analysis.shown import MOST_NUMBERS
from wna_jax.analysis.value import Analysis, maps_of
from wna_jax.correlation import Moments, Parts, Sampling, fields, reverse_correlate, reverse_correlate_in_parts
from wna_jax.correlation.examination import examine
from wna_jax.data import Dataset, load
from wna_jax.networks import Foreign
from wna_jax.noise import Noise
from wna_jax.posterior import posterior_maps, why_none
from wna_jax.responses import BlackBox, Classifier, Gradient, OneResponse
from wna_jax.runs import compilation, progress
from wna_jax.runs.accumulate import map_over
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Report
from wna_jax.statistics.checks import as_roi

Shape = tuple[int, int, int]
_FEWEST_PERMUTATIONS = 19
_ASKED, _BATCH = 1000, 250  # images of the data
_POSTERIORS = 4
"""Numbers of samples for which posterior maps are shown as they converge."""


def analyse(
    network: Any,
    noise: Noise | None = None,
    num_samples: int = 1_000_000,
    *,
    image_shape: Shape | None = None,
    dataset: Dataset | str | None = None,
    response: Sequence[str] | str | None = None,
    outputs: str | None = None,
    classes: Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
    name: str | None = None,
    roi: np.ndarray | None = None,
    permutations: int = 199,
    convergence: bool = True,
    gradient_samples: int = 0,
    seed: int = 0,
    sampling: Sampling = "auto",
    batch_size: int | None = None,
    state_dir: str | Path | None = None,
    identity: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    report: Report | None = None,
) -> Analysis:
    """Shows noise to a network, and maps it by the network's answers: what the network sees in noise.

    The map of class k is (mean of the noise, weighted by response k) - (mean of all noise), `classification_images`.
    The samples are streamed, in two halves that tell how reliable maps are. Errors, tests and reliability are computed
    when they are asked for.

    Args:
        network: any that `responses.of_network` takes: a JAX function, images [n, H, W, C] -> logits [n, K], a
            `networks.Network`, a Flax NNX, Equinox or PyTorch module, or a ready response (`responses.of_black_box`),
            which has its own names, outputs and classes.
        noise: what is shown. By default noise that matches the `dataset`, or uniform noise in [0, 1].
        num_samples: N, how many noise images.
        image_shape: (H, W, C), where neither noise, data nor the network say it.
        dataset: what the network was trained on, for the names of classes, their mean images in pictures, and noise; or
            its name, as `data.load` takes it. The network is asked about some of its images, too: a warning says if it
            is hardly better than chance, as networks are that were trained on another scale than [0, 1].
        response: whose maps are made, as `responses.from_name` takes them. By default decision and probability, of
            outputs that are values the value.
        outputs: what the network returns, one of `responses.OUTPUTS`; by default logits.
        classes: the numbers of the classes whose maps are made, where memory does not allow for all. The network
            decides among all.
        class_names: of all classes; by default those of the data, else their numbers.
        name: of the network, for titles.
        roi: a region of interest, bool [H, W] or [H, W, C], that tests and reliability are about.
        permutations: null maps that clusters are compared with; the smallest p is 1 in one more.
        convergence: keep the sums on the way, to see how maps converge. Without, it takes a quarter of the memory.
        gradient_samples: samples for the mean gradient of the probability, which its map tends to in white noise: the
            convergence towards it is shown too. Takes a network that JAX can differentiate, and two passes per class
            and sample.
        seed: of the noise.
        sampling: as in `reverse_correlate_in_parts`, and so are
        batch_size: samples per network pass,
        state_dir: a folder to keep the state of the job in: the same call goes on from there,
        identity: and what else decides the sums.
        settings: what is kept with the result (JSON values).
        report: progress. By default bars in a terminal and a notebook, and nothing elsewhere.

    Returns:
        What was found; `figure()`, `summary()` and `save(folder)` show and keep it.

    Raises:
        InputError: arguments that do not fit each other or the network, and all that `reverse_correlate_in_parts`
            refuses.
    """
    if isinstance(network, Foreign):
        outputs, image_shape = outputs or network.outputs, image_shape or network.image_shape
        class_names, network = class_names or network.class_names, network.network
    if response is None:
        response = ("value",) if outputs == "value" else ("decision", "probability")
    response = (response,) if isinstance(response, str) else response
    dataset = load(dataset) if isinstance(dataset, str) else dataset
    if not isinstance(dataset, Dataset | None):
        given = type(dataset).__name__
        raise InputError(f'dataset is a {given}: expected a data set, such as wna_jax.data.load("mnist"), or its name')
    respond = _response_of(network, response, outputs, classes)
    stimulus = _noise_for(network, noise, image_shape, dataset)
    roi = None if roi is None else np.asarray(roi)
    permutations, gradient_samples = _check_what_comes_after(stimulus, roi, permutations, gradient_samples, settings)
    labels = _names_of_all(respond, stimulus, dataset, class_names)
    numbers = tuple(range(len(labels))) if respond.classes is None else respond.classes
    right = _right(respond, stimulus, dataset) if dataset else None
    gradient = None
    if gradient_samples and "probability" in respond.names and stimulus.white:
        gradient = _gradient_of(respond)
        examine(stimulus, gradient)  # what has none is refused before the run
    with progress.by_default(report) as told:
        parts = reverse_correlate_in_parts(
            stimulus,
            respond,
            num_samples,
            seed=seed,
            batch_size=batch_size,
            sampling=sampling,
            course=convergence,
            state_dir=Path(state_dir).expanduser() if state_dir else None,
            identity=identity,
            report=told,
        )
        gradients = None
        if gradient and parts.course:
            gradients = reverse_correlate(
                stimulus,
                gradient,
                gradient_samples,
                seed=(seed + 2**31) % 2**32,  # other samples than those of the maps
                batch_size=min(100, gradient_samples),
                report=progress.renamed(told, "gradients"),
            )["probability"]
    first, second = ({name: half[name] for name in respond.names} for half in (parts.first, parts.second))
    overlaps: dict[str, Any] = dict.fromkeys(first)
    if next(iter(first.values())).field_sums is not None and isinstance(respond, Classifier):
        overlaps = fields.overlap(stimulus, respond, seed=(seed + 2**30) % 2**32)
    found = Analysis(
        first,
        second,
        stimulus,
        tuple(labels[k] for k in numbers),
        overlaps,
        settings or {},
        name or _name_of(network),
        numbers,
        labels,
        class_means=dataset.class_means[list(numbers)] if dataset else None,
        roi=roi,
        tests={"permutations": permutations, "seed": int(seed)},
        right=right,
    )
    found = replace(found, convergence=_convergence(found, parts, gradients))
    return found if respond.outputs == "value" else found.with_feedback(respond)  # a regression calls nothing anything


def _response_of(
    network: Any, names: Sequence[str], outputs: str | None, classes: Sequence[int] | None
) -> Classifier | BlackBox:
    respond = responses.of_network(network, tuple(dict.fromkeys(names)), outputs=outputs, classes=classes)
    respond = respond.classifier if isinstance(respond, OneResponse) else respond
    respond = responses.on_host(respond)
    if not isinstance(respond, Classifier | BlackBox):
        raise InputError(f"a {type(respond).__name__} is no network: give its network, or use reverse_correlate")
    return respond


def _noise_for(network: Any, given: Noise | None, image_shape: Shape | None, dataset: Dataset | None) -> Noise:
    """The noise that was given, else one that fits; an InputError if its images have another shape than is said."""
    if given is not None and not isinstance(given, Noise):
        raise InputError(f"noise is a {type(given).__name__}: expected one such as wna_jax.noise.uniform((28, 28, 1))")
    said: dict[str, Shape | None] = {"image_shape": image_shape}
    said["the data set"] = dataset.image_shape if dataset else None
    said["the network"] = getattr(getattr(network, "network", network), "image_shape", None)
    known: dict[str, Any] = {of: tuple(shape) for of, shape in said.items() if shape is not None}
    if given is None and not known:
        raise InputError("no noise, and no image shape: give noise=wna_jax.noise.uniform((28, 28, 1)), or image_shape=")
    shape = next(iter(known.values())) if given is None else given.shape
    for of, other in known.items():
        if other != shape and (given is None or given.present is None):
            whose = "the noise" if given else next(iter(known))
            raise InputError(f"images of {of} are {other}, those of {whose} {shape}: expected one shape")
    if given is not None:
        return given
    return noises.matched(dataset) if dataset else noises.uniform(shape)


def _check_what_comes_after(
    stimulus: Noise, roi: Any, permutations: Any, gradient_samples: Any, settings: Any
) -> tuple[int, int]:
    """Refuses what gradients, tests, or the file of the result would refuse after the run; the numbers as Python's."""
    if roi is not None:
        as_roi(roi, stimulus.shape)
    for what, number in (("permutations", permutations), ("gradient_samples", gradient_samples)):
        if not hasattr(number, "__index__") or operator.index(number) < 0:
            raise InputError(f"{what} is {number!r}: it must be a whole number of at least 0")
    if permutations < _FEWEST_PERMUTATIONS:
        raise InputError(f"permutations is {permutations}: below {_FEWEST_PERMUTATIONS} nothing is significant at .05")
    try:
        json.dumps(dict(settings or {}))
    except (TypeError, ValueError) as error:
        raise InputError(f"settings cannot be kept with the result ({error}): expected JSON values by name") from None
    return operator.index(permutations), operator.index(gradient_samples)


def _names_of_all(
    respond: Classifier | BlackBox, stimulus: Noise, dataset: Dataset | None, given: Sequence[str] | None
) -> tuple[str, ...]:
    """The names of all classes that the network decides among; an InputError if there are more or fewer of them."""
    whole = respond
    if isinstance(respond, BlackBox):
        weigh = Partial(responses.weigh, respond.names, respond.outputs, None)
        whole = replace(respond, weigh=weigh, classes=None)
    elif respond.classes is not None:
        whole = replace(respond, classes=None)
    num_classes = jax.tree.leaves(examine(stimulus, whole))[0].shape[1]
    if given is None:
        given = dataset.class_names if dataset else [str(k) for k in range(num_classes)]
    if not hasattr(given, "__len__"):
        raise InputError(f"class_names is a {type(given).__name__}: expected a list of {num_classes} names")
    if len(given) != num_classes:
        whose = "the data set has" if dataset and given is dataset.class_names else "class_names are"
        raise InputError(f"{whose} {len(given)} classes, and the network answers {num_classes}: expected as many")
    return tuple(map(str, given))


def _right(respond: Classifier | BlackBox, stimulus: Noise, dataset: Dataset) -> tuple[int, int] | None:
    """Of how many validation images the network was asked, and how many it called right; it warns of few.

    None where one image has no one right class, or the data have other images or classes than the network.
    """
    images, labels = (part[:_ASKED] for part in dataset.validation)
    if respond.outputs in ("value", *responses.LABELS) or not len(labels):
        return None
    if stimulus.shown_shape != images.shape[1:]:
        return None
    ask = responses.as_logits(respond)
    logits = map_over(lambda batch: compilation.call(ask, batch), (images / np.float32(255),), _BATCH)
    if logits.shape[1] != dataset.num_classes:
        return None
    right = int(((logits.argmax(axis=1) == labels) & np.isfinite(logits).all(axis=1)).sum())
    accuracy = right / len(labels)
    said = f"the network calls {accuracy:.1%} of {len(labels):,} images of {dataset.title} right"
    responses.warn_near_chance(said, accuracy, dataset.num_classes)
    return len(labels), right


def _name_of(network: Any) -> str:
    """What a network is called in titles: by its module, function or type."""
    of = getattr(network, "network", getattr(network, "function", network))  # of a ready response
    of = getattr(of, "module", of)
    name = getattr(of, "__name__", type(of).__name__)
    return "the network" if name in ("<lambda>", "function", "method", "Partial", "partial") else name


def _gradient_of(respond: Classifier | BlackBox) -> Gradient:
    """That of the probability: what its map tends to in white noise, known from few samples."""
    name, outputs, classes = ["probability"], respond.outputs, respond.classes
    if isinstance(respond, BlackBox):
        return responses.gradient_of(responses.of_black_box(respond.function, name, outputs, classes, respond.vjp))
    return responses.gradient_of(responses.of_classifier(respond.network, name, outputs, classes))


def _convergence(
    found: Analysis, parts: Parts, gradients: Moments | None
) -> dict[str, tuple[str, statistics.Convergence]]:
    """Maps of more and more samples of the first half, against the second half and the mean gradient."""
    curves = {}
    for name in found.first if parts.course else ():
        n0, held_out, references = found.reliability[name].n0, found.second[name], {}
        if held_out.num_samples:
            known = 1 / (1 + n0 / held_out.num_samples)
            references["the other half of the samples"] = maps.regression_images(held_out, found.noise), known
        if name == "probability" and gradients is not None:
            reference = maps.gradient_images(gradients)
            known = statistics.known_noise_reliability(reference, found.roi)
            references[f"the mean gradient of {gradients.num_samples:,} samples"] = reference, known
        cumulative = [*(point[name] for point in parts.course), found.first[name]]
        for what, (reference, known) in references.items():
            curve = statistics.convergence(cumulative, found.noise, reference, n0, known, found.roi)
            curves[f"{name} maps against {what}"] = name, curve
        if references and name == ("probability" if "probability" in found.first else next(iter(found.first))):
            reference, known = references.popitem()[1]
            small = found.first[name].sum.size <= MOST_NUMBERS
            few = [own for own in cumulative[:: -max(1, len(cumulative) // _POSTERIORS)] if own.num_samples][::-1]
            if small and (smooth := _of_posteriors(few, found, name, reference, known)):
                curves[f"{name} maps with a smoothness prior, against the same"] = name, smooth
    return curves


def _of_posteriors(
    few: Sequence[Moments], found: Analysis, name: str, reference: maps.ClassificationImages, known: Any
) -> statistics.Convergence | None:
    """How posterior maps converge to a reference, beside the prediction for plain maps; None where there are none."""
    given = [maps_of(name, own, found.noise) for own in few]
    overlap, n0 = found.overlaps.get(name), found.reliability[name].n0
    if any(why_none(own, overlap) for own in given):
        return None
    posteriors = [posterior_maps(own, overlap).images for own in given]
    correlation = np.ma.stack([statistics.map_correlation(own, reference.images, found.roi) for own in posteriors])
    counts = np.array([own.num_samples for own in few])
    predicted = statistics.predicted_correlation(counts[:, None], n0)
    return statistics.Convergence(counts, statistics.disattenuate(correlation, known), predicted)
