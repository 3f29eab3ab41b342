"""The responses of networks that JAX cannot trace: of PyTorch, scikit-learn, ONNX, a remote machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from wna_jax.networks import torch_network
from wna_jax.responses.classifier import Classifier, check_callable, explained
from wna_jax.responses.weightings import Outputs, check_meaning, check_names, known_classes, known_outputs, weigh
from wna_jax.runs import compilation
from wna_jax.runs.errors import InputError


@dataclass(frozen=True, eq=False)
class BlackBox:
    """A network that JAX cannot trace, and the response built on its answers."""

    function: Callable[[Any], Any]
    """NumPy images float32 [n, H, W, C] -> answers [n, K]; one that is `OnHost` takes and gives JAX's arrays too."""
    weigh: Callable[[jax.Array], Any]
    """Answers -> weights [n, K] or a pytree of them."""
    names: tuple[str, ...] = ()
    outputs: Outputs | None = None
    classes: tuple[int, ...] | None = None
    vjp: Callable[[Any, Any], Any] | None = None
    """Images and cotangents of the answers [m, n, K] -> gradients [m, n, H, W, C] of sum_nk cotangent x answer."""

    def ask(self, images: Any) -> Any:
        """The answers float32 [n, K]; an InputError where the function returns anything else."""
        is_torch = isinstance(self.function, torch_network.TorchNetwork)
        what = "torch module of images [n, C, H, W]" if is_torch else "function of NumPy images, float32 [n, H, W, C]"
        as_they_are = compilation.is_on_host(self.function)
        with explained(images.shape, f"expected a {what}"):
            answers = self.function(images if as_they_are else np.array(images))  # a copy of its own, to work in
        try:
            answers = answers if as_they_are else np.asarray(answers, np.float32)
        except (TypeError, ValueError, RuntimeError):  # the last from PyTorch, of what has a gradient
            raise InputError(
                f"the black box returned a {type(answers).__name__}: expected a NumPy array of numbers"
            ) from None
        if answers.ndim != 2 or len(answers) != len(images):
            raise InputError(
                f"the black box returned an array of shape {answers.shape} for images {images.shape}: "
                f"expected ({len(images)}, classes)"
                + (", such as of predict_proba; labels as one-hot rows; one number as [:, None]" * (answers.ndim == 1))
            )
        return answers

    def pull_back(self, images: Any, cotangents: Any) -> np.ndarray:
        """The gradients float32 [m, n, H, W, C] by the images; an InputError where `vjp` returns anything else."""
        assert self.vjp is not None
        with explained(images.shape, "expected vjp=, of images [n, H, W, C] and cotangents [m, n, K]"):
            gradients = np.asarray(self.vjp(np.array(images), np.array(cotangents)), np.float32)
        expected = (len(cotangents), *images.shape)
        if gradients.shape != expected:
            raise InputError(f"the black box returned gradients of shape {gradients.shape}: expected {expected}")
        return gradients


def of_black_box(
    function: Callable[[np.ndarray], np.ndarray],
    names: Sequence[str] = ("decision", "probability"),
    outputs: str | None = None,
    classes: Sequence[int] | np.ndarray | None = None,
    vjp: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> BlackBox:
    """The named responses of a model of scikit-learn, ONNX or a remote machine: NumPy in, NumPy out.

    Args:
        function: images float32 [n, H, W, C] -> logits [n, K], or other `outputs`.
        names: as `from_name` takes them.
        outputs: as in `of_classifier`.
        classes: as in `of_classifier`.
        vjp: its gradients, for `gradient_of`: images [n, H, W, C] and cotangents [m, n, K] -> the gradients
            [m, n, H, W, C] of sum_k cotangent_k answer_k by each image (vector-Jacobian products).
    """
    check_names(names)
    check_callable(function)
    check_meaning(names, known := known_outputs(outputs))
    some = known_classes(classes)
    return BlackBox(function, Partial(weigh, tuple(names), known, some), tuple(names), known, some, vjp)


def of_torch(
    module: Any,
    names: Sequence[str] = ("decision", "probability"),
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    outputs: str | None = None,
    classes: Sequence[int] | np.ndarray | None = None,
    device: Any = None,
    batch_size: int | None = None,
) -> BlackBox:
    """The named responses of a PyTorch module, which is asked as `networks.torch_network.TorchNetwork` says.

    Args:
        module: a `torch.nn.Module`, images [n, C, H, W] -> logits [n, K], or other `outputs`.
        names: as `from_name` takes them.
        mean: of each channel, subtracted from images in [0, 1]; by default nothing is.
        std: of each channel, by which they are then divided.
        outputs: as in `of_classifier`.
        classes: as in `of_classifier`.
        device: where the module is moved to; by default it stays where it is.
        batch_size: images per call of the module. By default the fastest size within a batch of the loop, found out
            with the first one; float32 answers to an image may differ between sizes in their last digits.

    Raises:
        InputError: no such response or output, no module, or means and deviations that are none.
    """
    network = torch_network.TorchNetwork(module, mean, std, device, batch_size)
    return of_black_box(network, names, outputs, classes, network.vjp)


class Asked(compilation.OnHost):
    """The network of a black box: images [n, H, W, C], of JAX or NumPy -> answers [n, K]."""

    def __init__(self, box: BlackBox) -> None:
        """See `of_black_box`."""
        self.box = box
        self.vjp = box.pull_back if box.vjp else None

    def __call__(self, images: Any) -> jax.Array:
        """Asks the black box."""
        self.check(images)
        return jnp.asarray(self.box.ask(images))


def on_host(response: Any) -> Any:
    """The response, as a black box where a function in it is on the host (`runs.compilation.OnHost`)."""
    if isinstance(response, BlackBox) or not compilation.is_on_host(response):
        return response
    if isinstance(response, Classifier):
        network: Any = response.network
        return of_black_box(network, response.names, response.outputs, response.classes)
    return BlackBox(response, _themselves)


def _themselves(answers: jax.Array) -> jax.Array:
    return answers
