"""Noise around one picture: how strong it has to be, which answers are then at stake, and how its maps compare.

`noise.around` shows a picture in noise; its classification images say which pixels, made brighter or darker, turn the
answer. Weak noise never changes an answer and leaves nothing to average; in strong noise the picture is lost.
`threshold_contrast` finds what lies between. `contributions` has its maps beside those of four other methods
(`studies.attributions`), on the same number of passes.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Float, Int

from wna_jax import responses
from wna_jax.correlation import draw_samples, reverse_correlate
from wna_jax.maps import regression_images
from wna_jax.noise import Noise, around, coarse, gaussian
from wna_jax.runs import compilation
from wna_jax.runs.accumulate import map_over
from wna_jax.runs.errors import InputError
from wna_jax.runs.fingerprints import fingerprint
from wna_jax.runs.progress import Progress, Report, silent
from wna_jax.runs.store import State, Store
from wna_jax.statistics import Threshold, wilson_interval
from wna_jax.studies import attributions, interventions
from wna_jax.studies.attributions import removal_effect

NetworkFunction = Callable[[jax.Array], jax.Array]
"""Images [n, H, W, C] -> logits [n, K]."""
_BATCH = 500
_FIRST, _HALVINGS = 1 / 64, 10
MOST_CONTRAST = 4.0


def threshold_contrast(
    network: NetworkFunction,
    image: Float[np.ndarray, "H W C"],
    unit: Noise,
    share: float = 0.75,
    *,
    num_draws: int = 500,
    at_most: float = MOST_CONTRAST,
    seed: int = 0,
) -> Threshold | None:
    """The contrast s at which a share of the presentations image + s z still get the network's answer to the image.

    All contrasts are tried with the same draws z of the noise `unit`, which has mean 0 and deviation 1, such as
    `gaussian(image.shape, 0, 1)`; then s is the deviation of the noise in units of pixel intensity. s is doubled from
    1/64 until the answer has become rarer than `share`, and then found between the last two by bisection, to a
    thousandth of the distance. The ends are where the share crosses those of its own 95% Wilson interval at so many
    draws. None where noise up to the contrast `at_most` does not make the answer that rare.

    Raises:
        InputError: a share that is not between 0 and 1, or that so few draws cannot tell from 1.
    """
    if not 0 < share < 1:
        raise InputError(f"share is {share:g}: expected a number between 0 and 1, such as 0.75")
    low, high = (float(end) for end in wilson_interval(share * num_draws, num_draws))
    if low * num_draws < 1:
        raise InputError(f"num_draws is {num_draws}: too few to tell a share of {share:g} from none")
    hits_at = _hits_at(network, image, unit, num_draws, seed)
    if (at := _crossing(hits_at, share * num_draws, at_most)) is None:
        return None
    rarer = _crossing(hits_at, low * num_draws, at_most)
    return Threshold(at, _crossing(hits_at, high * num_draws, at_most) or at, at_most if rarer is None else rarer)


def usual_contrast(
    network: NetworkFunction,
    images: Float[np.ndarray, "n H W C"],
    unit: Noise,
    share: float = 0.75,
    *,
    num_draws: int = 200,
    seed: int = 0,
    report: Report = silent,
) -> float:
    """The median of the threshold contrasts of some images; one that noise never changes counts as `MOST_CONTRAST`."""
    found = []
    for i, image in enumerate(images, start=1):
        at = _crossing(_hits_at(network, image, unit, num_draws, seed), share * num_draws, MOST_CONTRAST)
        found.append(MOST_CONTRAST if at is None else at)
        report(Progress("contrast", i, len(images), "images"))
    return float(np.median(found))


def _hits_at(
    network: NetworkFunction, image: Float[np.ndarray, "H W C"], unit: Noise, num_draws: int, seed: int
) -> Callable[[float], int]:
    """How many of the presentations at a contrast get the network's answer to the image; each is asked about once."""
    own = int(answers(network, np.asarray(image, np.float32)[None])[0])
    draws, wanted = np.asarray(draw_samples(unit, num_draws, seed=seed)), np.full(num_draws, own, np.int32)
    change = Partial(_in_noise, jnp.asarray(image, jnp.float32))
    return functools.cache(lambda contrast: int(interventions.hits(network, change, [contrast], draws, wanted)[0]))


def _crossing(hits_at: Callable[[float], int], level: float, at_most: float) -> float | None:
    """The contrast at which the hits fall below a number; None if they do not."""
    above, below = 0.0, _FIRST
    while hits_at(below) >= level:
        if below >= at_most:
            return None
        above, below = below, min(2 * below, at_most)
    for _ in range(_HALVINGS):
        middle = (above + below) / 2
        above, below = (middle, below) if hits_at(middle) >= level else (above, middle)
    return (above + below) / 2


def _in_noise(image: jax.Array, draws: jax.Array, contrast: jax.Array) -> jax.Array:
    return image[None] + contrast * draws


def answers_in_noise(
    network: NetworkFunction, noise: Noise, num_draws: int = 500, *, seed: int = 0
) -> Int[np.ndarray, " n"]:
    """What the network calls each of some draws of a noise, such as one around a picture: class numbers [n]."""
    return answers(network, np.asarray(draw_samples(noise, num_draws, seed=seed)))


def answers(network: NetworkFunction, images: Float[np.ndarray, "n H W C"]) -> Int[np.ndarray, " n"]:
    """What the network calls each image: class numbers [n]."""
    return map_over(Partial(_answers, network), (images,), _BATCH)


@compilation.jit
def _answers(network: NetworkFunction, images: jax.Array) -> jax.Array:
    return network(images).argmax(axis=-1)


def at_stake(
    network: NetworkFunction, image: Float[np.ndarray, "H W C"], noise: Noise, *, num_draws: int = 500, seed: int = 0
) -> tuple[int, int]:
    """The network's answer to an image, and its most frequent other answer in noise around it.

    Where noise never changes the answer, the second is the runner-up for the image itself.
    """
    logits = np.asarray(compilation.call(network, np.asarray(image, np.float32)[None]))[0]
    own = int(logits.argmax())
    counts = np.bincount(answers_in_noise(network, noise, num_draws, seed=seed), minlength=len(logits))
    others = counts if counts.sum() > counts[own] else logits
    return own, int(np.delete(np.arange(len(logits)), own)[np.delete(others, own).argmax()])


RESPONSES = ("decision", "probability", "logit")
_OF_GRADIENTS = ("SmoothGrad", "integrated gradients")
RANDOM = "random order"


def contributions(
    network: NetworkFunction,
    image: Float[np.ndarray, "H W C"],
    k: int,
    reference: Float[np.ndarray, "H W C"],
    contrast: float,
    num_passes: int = 3_000,
    *,
    factor: int = 1,
    seed: int = 0,
    report: Report = silent,
) -> dict[str, np.ma.MaskedArray]:
    """What each pixel contributes to answer k to an image, by each method, [H, W], on equal numbers of passes.

    The methods are the classification image of Gaussian noise of deviation `contrast` around the image, for each of
    `RESPONSES`, and occlusion, RISE, SmoothGrad and integrated gradients at the settings of their authors, for the
    probability and the logit of k: "classification image, decision", "RISE, logit". One run of the noise gives all
    three classification images, which are slopes like SmoothGrad's maps: of each the `attributions.removal_effect` is
    taken. Noise in squares of `factor` pixels (`noise.coarse`) gives each pixel of a square its mean slope. Occlusion
    stops where all places of its patch are tried. A classification image is masked where no noise changed the answer.
    A black box that does not know its gradients goes without the last two methods.
    """
    attributions.patches(image.shape[:2], num_passes=num_passes)  # or it says how many it takes, before any work
    respond = Partial(_of_class, network, np.int32(k))
    graded = Partial(_graded, respond)
    stimulus = around(image, in_squares(gaussian(image.shape, 0, contrast), factor))
    moments = reverse_correlate(stimulus, respond, num_passes, seed=seed, sampling="independent")
    slopes = over_squares(regression_images(moments, stimulus).images, factor) / factor**2
    masked = np.ma.getmaskarray(slopes).any(axis=-1)
    effects = np.ma.masked_array(removal_effect(slopes.filled(0), image, reference), masked)
    found = {f"classification image, {name}": of for name, of in zip(RESPONSES, effects, strict=True)}
    cells = min(7, *image.shape[:2])
    peers: dict[str, Callable[[], np.ndarray]] = {
        "occlusion": lambda: attributions.occlusion(graded, image, reference, num_passes=num_passes),
        "RISE": lambda: _about_median(attributions.rise(graded, image, reference, num_passes, cells=cells, seed=seed)),
        "SmoothGrad": lambda: removal_effect(
            attributions.smooth_gradient(graded, image, num_passes=num_passes, seed=seed), image, reference
        ),
        "integrated gradients": lambda: attributions.integrated_gradients(graded, image, reference, num_passes).sum(
            axis=-1
        ),
    }
    names = [name for name in peers if name not in _OF_GRADIENTS or attributions.knows_gradients(network)]
    for i, name in enumerate(names, start=1):
        of_probability, of_logit = peers[name]()
        found[f"{name}, probability"] = np.ma.masked_array(of_probability)
        found[f"{name}, logit"] = np.ma.masked_array(of_logit)
        report(Progress("other methods", i, len(names), "maps"))
    return found


def in_squares(noise: Noise, factor: int) -> Noise:
    """A noise in larger pixels, `noise.coarse`, or as it is for a factor of 1."""
    return noise if factor == 1 else coarse(noise, factor)


def over_squares(maps: np.ma.MaskedArray, factor: int) -> np.ma.MaskedArray:
    """Maps [..., h, w, C] of coarse noise at the size of the image, [..., h factor, w factor, C]."""
    return np.ma.repeat(np.ma.repeat(maps, factor, axis=-3), factor, axis=-2)


def _about_median(maps: np.ndarray) -> np.ndarray:
    """Without what all pixels have, the mean response: no order of pixels depends on it."""
    return maps - np.median(maps, axis=(1, 2), keepdims=True)


class Comparison(NamedTuple):
    """The deletion and the insertion curves of M methods for each of n images, [n, M, S].

    `share` [S] is that of the pixels that are replaced, or put in. `unchanged` is the number of images whose answer no
    noise changed, so that their pixels have no order by decisions: they are taken as they are read.
    """

    methods: tuple[str, ...]
    share: Float[np.ndarray, " S"]
    deletion: Float[np.ndarray, "n M S"]
    insertion: Float[np.ndarray, "n M S"]
    unchanged: int

    @property
    def scores(self) -> dict[str, Float[np.ndarray, "n M"]]:
        """The areas under the curves, as `attributions.Curves.scores` has them."""
        return attributions.Curves(self.share, self.deletion, self.insertion).scores


def compare(
    network: NetworkFunction,
    images: Float[np.ndarray, "n H W C"],
    references: Float[np.ndarray, "n H W C"],
    contrast: float,
    num_passes: int = 3_000,
    *,
    factor: int = 1,
    steps: int = 50,
    seed: int = 0,
    state_dir: Path | None = None,
    identity: Mapping[str, Any] | None = None,
    report: Report = silent,
) -> Comparison:
    """Scores the `contributions` of all methods to the network's answers, and a random order of the pixels.

    For each image the probability of the network's own answer is followed by `attributions.deletion_and_insertion`. The
    job keeps its state in a directory, image by image, and goes on from there, with more images too; a state of another
    `identity`, such as the network's, is refused, and one of other images, references or answers.
    """
    predicted, methods, found = answers(network, images), list[str](), list[Any]()
    of_each = [fingerprint(each) for each in zip(images, references, predicted.tolist(), strict=True)]
    with contextlib.ExitStack() as stack:
        what = {"contrast": contrast, "factor": factor, "passes": num_passes, "steps": steps, "seed": seed} | dict(
            identity or {}
        )
        store = stack.enter_context(Store(state_dir, what)) if state_dir else None
        if store and (state := store.load(lambda record: [[0, 0, 0]] * record[0])):
            found, methods = list(state.tree), state.record[1]
            known = zip(of_each, (state.record[2:] or [[]])[0], strict=False)  # older states do not say
            if other := [i for i, (own, saved) in enumerate(known) if own != saved]:
                given = f"{state_dir} holds scores of another image {other[0]}, or of another answer to it"
                raise InputError(f"{given}: give another state_dir, or delete that one")

        def so_far() -> State:
            return State(len(found), found, [len(found), methods, of_each[: len(found)]])

        if store:
            stack.callback(lambda: store.save(so_far()) if found else None)
        for i in range(len(found), len(images)):
            report(Progress("images", i, len(images), "images"))
            image, reference, own = images[i], references[i], (seed + i) % 2**32
            how: dict[str, Any] = {"factor": factor, "seed": own}
            of_pixels = contributions(network, image, int(predicted[i]), reference, contrast, num_passes, **how)
            order = np.random.default_rng(own).permutation(image[..., 0].size).reshape(image.shape[:2])
            importance = np.stack([*(of.filled(0) for of in of_pixels.values()), order])
            respond = probability_of(network, int(predicted[i]))
            curves = attributions.deletion_and_insertion(respond, image, reference, importance, steps)
            masked = not of_pixels[f"classification image, {RESPONSES[0]}"].count()
            found.append([curves.deletion, curves.insertion, np.int32(masked)])
            methods = [*of_pixels, RANDOM]
            if store:
                store.save_now_and_then(so_far())
    report(Progress("images", len(images), len(images), "images"))
    deletion, insertion, unchanged = (np.stack(parts) for parts in zip(*found[: len(images)], strict=True))
    share = attributions.counts(images[0, ..., 0].size, steps) / images[0, ..., 0].size
    return Comparison(tuple(methods), share, deletion, insertion, int(unchanged.sum()))


def probability_of(network: NetworkFunction, k: int) -> Partial:
    """The probability of one class as a response: images -> weights [n, 1]. All classes share a compiled program."""
    return Partial(_probability, Partial(_of_class, network, np.int32(k)))


def _of_class(network: NetworkFunction, k: jax.Array, images: jax.Array) -> jax.Array:
    """Decision, probability and logit of one class, [n, 3]."""
    logits = network(images)
    each = responses.decision(logits), responses.probability(logits), responses.logit(logits)
    return jnp.stack([weights[:, k] for weights in each], axis=-1)


def _graded(respond: Partial, images: jax.Array) -> jax.Array:
    return respond(images)[:, 1:]


def _probability(respond: Partial, images: jax.Array) -> jax.Array:
    return respond(images)[:, 1:2]
