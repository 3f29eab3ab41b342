"""The responses of classifiers that are JAX functions, and their gradients."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import register_dataclass

from wna_jax.responses.weightings import (
    Images,
    Logits,
    Outputs,
    Weights,
    check_meaning,
    check_names,
    known_classes,
    known_outputs,
    weigh,
)
from wna_jax.runs.errors import InputError


@register_dataclass
@dataclass(frozen=True, eq=False)
class Classifier:
    """The named responses of a classifier, in one pass: images -> {name: weights [n, K]}."""

    network: Callable[[Images], jax.Array]
    names: tuple[str, ...] = field(metadata={"static": True})
    outputs: Outputs | None = field(default=None, metadata={"static": True})
    classes: tuple[int, ...] | None = field(default=None, metadata={"static": True})

    def __call__(self, images: Any) -> dict[str, Weights]:
        """Raises an InputError where the network does not return logits."""
        logits = self.network(images)
        shape = getattr(logits, "shape", None)
        if shape is None or len(shape) not in (2, 4) or shape[0] != len(images):  # 4: the windows of fields
            one = " (numbers of classes? give what they are decided by, or one-hot rows with outputs='probabilities'; "
            one += "one number per image, of two classes? make it [n, 1], and say what it is by outputs=)"
            raise InputError(
                f"the network returned {_describe(logits)} for images {images.shape}: expected logits of shape "
                f"({len(images)}, classes){one if shape == images.shape[:1] else ''}"
            )
        if jnp.issubdtype(logits.dtype, jnp.complexfloating):
            raise InputError(f"the network returned {logits.dtype} numbers: expected real logits")
        return weigh(self.names, self.outputs, self.classes, logits)


def of_classifier(
    network: Callable[[Images], jax.Array],
    names: Sequence[str] = ("decision", "probability"),
    outputs: str | None = None,
    classes: Sequence[int] | np.ndarray | None = None,
) -> Classifier:
    """The named responses of a classifier, in one pass.

    Args:
        network: images [n, H, W, C] -> logits [n, K]; any JAX-traceable function. Where it is a pytree, such as a
            `networks.Network`, all networks of one architecture share one compiled program.
        names: as `from_name` takes them.
        outputs: what the network returns, one of `OUTPUTS`. By default logits; a run then refuses outputs that look
            like something else.
        classes: the numbers of the classes whose sums are kept, where memory does not allow for all: the network still
            decides among all K, of whose weights these are left. By default all.

    Returns:
        images -> {name: weights [n, K]}, or [n, number of classes].

    Raises:
        InputError: no such response or output (now), or logits of another shape (when the response is used).
    """
    check_names(names)
    check_callable(network)
    check_meaning(names, known := known_outputs(outputs))
    return Classifier(network, tuple(names), known, known_classes(classes))


@contextlib.contextmanager
def explained(shape: tuple[int, ...], expected: str) -> Iterator[None]:
    """Whatever somebody's network raises, in one line, with what was expected; the cause stays attached.

    Args:
        shape: of the images that it was asked about, [n, H, W, C].
        expected: what of it; for what JAX cannot trace, the way out is said instead.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        said = (str(error).splitlines() or [""])[0]
        if isinstance(error, jax.errors.TracerArrayConversionError | jax.errors.ConcretizationTypeError):
            said, expected = "JAX cannot trace it", "give a function of NumPy arrays to responses.of_black_box"
        raise InputError(f"the network raised {type(error).__name__} for images {shape}: {said}; {expected}") from error


def check_callable(network: object) -> None:
    """Raises an InputError of what is no function of images."""
    if not callable(network):
        raise InputError(
            f"a {type(network).__name__} cannot be called: expected a function of images, such as "
            "lambda images: model.predict_proba(images.reshape(len(images), -1))"
        )


@register_dataclass
@dataclass(frozen=True, eq=False)
class Gradient:
    """Answers with the gradient of each weight by what is drawn instead of the weight."""

    weights: Any
    """Images -> weights [n, K], or a pytree of them; or a black box that knows its gradients."""


def gradient_of(weights: Any) -> Gradient:
    """The input gradient of a differentiable response: its mean is the response's regression map (Stein's identity).

    In Gaussian noise of deviation s, E[grad f] = cov(f, x) / s^2, so `maps.gradient_images` of this and
    `maps.regression_images` of the response itself estimate the same map, this one from far fewer samples (which cost
    about two network passes per class each). In other noise the two differ. A hard decision has no gradient: use a
    probability, as sharp as need be. Gradients are by what is drawn: in coarse noise, by its squares.

    Args:
        weights: images [n, H, W, C] -> weights [n, K], such as `of_response(network, "probability:4")`, or a pytree of
            them. Or a black box that knows its gradients: `of_torch(module, ["logit"])`, `of_black_box(..., vjp=)`.

    Raises:
        InputError: a black box that does not know its gradients.
    """
    if hasattr(weights, "vjp") and weights.vjp is None:
        raise InputError("a black box has no gradient: say it by of_black_box(..., vjp=), or give it to of_torch")
    return Gradient(weights)


def of_response(
    network: Callable[[Images], Logits],
    name: str,
    classes: Sequence[int] | np.ndarray | None = None,
    outputs: str | None = None,
) -> "OneResponse":
    """One named response of a classifier, as `of_classifier` has it: images [n, H, W, C] -> weights [n, K]."""
    return OneResponse(of_classifier(network, [name], outputs, classes))


@register_dataclass
@dataclass(frozen=True, eq=False)
class OneResponse:
    """The only response of a classifier, by itself."""

    classifier: Classifier

    def __call__(self, images: Images) -> Weights:
        """Images [n, H, W, C] -> weights [n, K]."""
        (weights,) = self.classifier(images).values()
        return weights


def _describe(value: object) -> str:
    shape = getattr(value, "shape", None)
    return f"an array of shape {shape}" if shape is not None else f"a {type(value).__name__}"
