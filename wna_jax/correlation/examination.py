"""What a network is asked before a run: whether its answers are what responses take them for."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wna_jax.noise import Noise
from wna_jax.responses import BlackBox, Classifier, Gradient, OneResponse, Outputs, explained
from wna_jax.runs import compilation
from wna_jax.runs.errors import InputError

_EXPECTED = (
    "expected a function of JAX arrays: of a Flax module networks.of_linen(module, variables), in evaluation mode, "
    "or an NNX module after its `eval()`; of any other model a function of NumPy arrays, given to "
    "responses.of_black_box"
)
_REPEATED, _TOGETHER = 1e-4, 0.02
"""Of the range of an answer over images: what rounding may do to it, when asked again and in another batch."""


def examine(noise: Noise, response: Any) -> Any:
    """The shapes of a response's weights for two images; the noise itself is not drawn, which takes longer.

    Nine images are shown, again, and three of them in another batch.

    Raises:
        InputError: it is no function of images, or its weights have another shape; answers that change when they are
            asked for again, or that depend on the other images of the batch or on the place in it; of a classifier,
            outputs that are not what they are said to be.
    """
    images = jax.ShapeDtypeStruct((2, *noise.shown_shape), jnp.float32)
    rng = np.random.default_rng(0)
    tried = rng.normal(noise.mean.mean(), noise.deviation.mean(), (9, *images.shape[1:])).astype(np.float32)
    respond = response.weights if isinstance(response, Gradient) else response
    if isinstance(respond, BlackBox):
        box = respond
        answers = _answers(lambda batch: np.asarray(box.ask(batch)), tried, box.names, box.outputs)[:2]
        shapes = jax.eval_shape(lambda answers: box.weigh(answers), answers)
    else:
        with explained(images.shape, _EXPECTED):
            shapes = jax.eval_shape(lambda images: respond(images), images)
    for leaf in jax.tree.leaves(shapes):
        if len(leaf.shape) != 2 or leaf.shape[0] != 2 or leaf.shape[1] < 1:
            raise InputError(
                f"the response returned weights of shape {leaf.shape} for 2 images {images.shape[1:]}: "
                "expected (2, number of responses)"
            )
    if not jax.tree.leaves(shapes):
        raise InputError("the response returned no weights: expected an array [n, K] or a pytree of such arrays")
    if not isinstance(respond, BlackBox):
        classifier: Any = respond.classifier if isinstance(respond, OneResponse) else respond
        known = isinstance(classifier, Classifier)
        asked = classifier.network if known else respond

        def ask(batch: np.ndarray) -> np.ndarray:
            leaves = jax.tree.leaves(compilation.call(asked, batch))
            return np.concatenate([np.asarray(leaf, np.float32) for leaf in leaves], axis=1)

        _answers(ask, tried, classifier.names if known else None, classifier.outputs if known else None)
    return shapes


def _answers(
    ask: Callable[[np.ndarray], np.ndarray], images: np.ndarray, names: Any, outputs: Outputs | None
) -> np.ndarray:
    """The answers [n, K] to nine images [n, H, W, C]; of a classifier, which has names of responses, as it says."""
    answers = ask(images)
    if len(answers) != len(images):
        raise InputError(
            f"the network returned {len(answers)} answers for {len(images)} images: expected one per image"
        )
    if names is not None:
        _check_outputs(answers, names, outputs)
    reach = np.ptp(np.where(np.isfinite(answers), answers, 0), axis=0) + 1e-6 * np.abs(answers)
    if not _same(answers, ask(images), _REPEATED * reach):
        raise InputError(
            "the network's answers change when it is asked again about the same images: give it without dropout and "
            "other randomness, in evaluation mode"
        )
    others = np.float32(0.5) * images  # a batch of another mean and deviation, and three images at other places in it
    others[[1, 4, 8]] = images[[0, 5, 2]]
    if not _same(answers[[0, 5, 2]], ask(others)[[1, 4, 8]], _TOGETHER * reach[[0, 5, 2]]):
        raise InputError(
            "the network's answer to an image depends on the other images of the batch, as in batch normalisation or "
            "dropout in training mode: give it in evaluation mode"
        )
    return answers


def _same(ours: np.ndarray, theirs: np.ndarray, within: np.ndarray) -> bool:
    finite = np.isfinite(ours) & np.isfinite(theirs)
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore"):
        return bool(np.where(finite, np.abs(ours - theirs) <= within + 1e-30, same).all())


def _check_outputs(answers: np.ndarray, names: Any, outputs: Outputs | None) -> None:
    """Decisions are the same of logits and of probabilities."""
    if answers.shape[-1] == 1 and outputs in (None, "logits", "probabilities"):
        raise InputError(
            "the network returned one number per image, which are no logits of classes: give outputs='sigmoid' if it "
            "is the probability of the second of two classes, outputs='logit' if it is its logit, outputs='value' of a "
            "regression"
        )
    if answers.shape[-1] > 1 and outputs in ("sigmoid", "logit"):
        raise InputError(f"outputs is {outputs!r}, and the network returned {answers.shape[-1]} numbers per image")
    between = bool((answers >= 0).all() and (answers <= 1).all())
    single = between and np.allclose(answers.sum(axis=-1), 1, atol=1e-3)
    if outputs in ("probabilities", "sigmoid", "labels") and not between and np.isfinite(answers).all():
        wrong = answers[(answers < 0) | (answers > 1)][0]
        raise InputError(f"outputs is {outputs!r}, and the network returned {wrong:.4g}: expected numbers from 0 to 1")
    if outputs == "probabilities" and between and not single:
        raise InputError(
            f"outputs is 'probabilities', and those of one image sum up to {answers[0].sum():.4g}: expected 1, one "
            "class for each image"
        )
    if outputs is None and between and set(names) - {"decision"}:
        raise InputError(
            "the network's outputs are probabilities (none below 0, and a sum of 1 for every image): give "
            "outputs='probabilities', or outputs='logits' if they are logits all the same"
            if single
            else "the network's outputs all lie between 0 and 1, as probabilities of several labels at once do: give "
            "outputs='labels', or outputs='logits' if they are logits all the same"
        )
