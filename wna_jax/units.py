"""The units of a network, by their layer's name: their activations, and what the network says when these are moved.

A layer is a Linen module inside the network, named by its path, such as conv1 or fc1. Networks need nothing for it:
calls of their modules are intercepted on the way.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from wna_jax.errors import InputError, unknown_name
from wna_jax.progress import Progress, Report, silent

Activations = Callable[[jax.Array], jax.Array]
"""Images [n, H, W, C] -> activations [n, h, w, units] of a layer with positions, or [n, units]."""

_BATCH = 500


class _Reached(Exception):  # noqa: N818 - a way out of the network, not an error
    def __init__(self, output: jax.Array) -> None:
        self.output = output


def layer_names(module: nn.Module, parameters: Any, image_shape: tuple[int, ...]) -> tuple[str, ...]:
    """The layers of a network that have units, in the order in which an image passes them.

    Left out are the cells that recurrent layers call step by step, and dropout, which a trained network has not.
    """
    names: dict[str, None] = {}

    def note(next_function: Callable, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        own = context.module
        inner = any(isinstance(each, nn.RNNCellBase) for each in (own, own.parent))
        if context.method_name == "__call__" and own.path and not inner and not isinstance(own, nn.Dropout):
            names["/".join(own.path)] = None
        return next_function(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(
            lambda images: module.apply({"params": parameters}, images),
            jax.ShapeDtypeStruct((1, *image_shape), jnp.float32),
        )
    return tuple(names)


def spatial_layers(module: nn.Module, parameters: Any, image_shape: tuple[int, ...]) -> tuple[str, ...]:
    """Those of `layer_names` whose units form feature maps, of more than one position."""

    def form(layer: str) -> tuple[int, ...]:
        one = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        return jax.eval_shape(layer_activations(module, parameters, layer), one).shape

    forms = {layer: form(layer) for layer in layer_names(module, parameters, image_shape)}
    return tuple(layer for layer, shape in forms.items() if len(shape) == 4 and shape[1] * shape[2] > 1)


def layer_activations(module: nn.Module, parameters: Any, layer: str) -> Activations:
    """The positive part of a layer's output, for images of any size that reaches it; later layers are not computed.

    It is the units' activation where ReLU comes next; it does so in all layers here but the last, whose outputs are
    logits, recurrent ones, and the convolutions before a batch normalisation (take the latter's name).

    Raises:
        InputError: no such layer (when the function is used); the message lists those that there are.
    """

    def activations(images: jax.Array) -> jax.Array:
        def stop(next_function: Callable, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            output = next_function(*args, **kwargs)
            if _is(layer, context):
                raise _Reached(output)
            return output

        try:
            with nn.intercept_methods(stop):
                module.apply({"params": parameters}, images)
        except _Reached as reached:
            return nn.relu(reached.output)
        raise unknown_name("layer", layer, layer_names(module, parameters, images.shape[1:]))

    return activations


def stimulated(module: nn.Module, parameters: Any, layer: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The network with a current injected into the units of one layer (microstimulation).

    Returns:
        images [n, H, W, C], current [units] (or [n, units], one for each image) -> logits [n, K]. The current is added
        to what a unit's weights and bias give, before its ReLU, at every position of a feature map: as if to its bias.

    Raises:
        InputError: no such layer, or a current for another number of units (when the function is used).
    """

    def logits(images: jax.Array, current: jax.Array) -> jax.Array:
        found = False

        def inject(next_function: Callable, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            nonlocal found
            output = next_function(*args, **kwargs)
            if not _is(layer, context):
                return output
            found = True
            units = output.shape[-1]
            if current.shape not in ((units,), (len(output), units)):
                raise InputError(f"a current of shape {current.shape}: layer {layer} has {units} units")
            each = current.reshape(-1, *(1,) * (output.ndim - 2), units)
            return output + jnp.broadcast_to(each, output.shape)

        with nn.intercept_methods(inject):
            answers = module.apply({"params": parameters}, images)
        if not found:
            raise unknown_name("layer", layer, layer_names(module, parameters, images.shape[1:]))
        return answers

    return logits


def mean_activations(
    activations: Activations, images_nhwc: np.ndarray, labels: np.ndarray, num_classes: int, report: Report = silent
) -> np.ma.MaskedArray:
    """The mean activation over the images of each class, of each unit at each position.

    Args:
        activations: of a layer.
        images_nhwc: uint8, or float32 on the [0, 1] scale.
        labels: int [N].
        num_classes: K.
        report: progress, in images.

    Returns:
        [K, h, w, units] or [K, units]; a class without images is masked.
    """

    @jax.jit
    def sums(images: jax.Array, labels: jax.Array) -> jax.Array:
        of_class = jax.nn.one_hot(labels, num_classes)
        shown = images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images
        return jnp.einsum("nk,n...->k...", of_class, activations(shown), precision="highest")

    total: Any = 0
    for start in range(0, len(labels), _BATCH):
        batch = slice(start, start + _BATCH)
        total = total + np.asarray(sums(images_nhwc[batch], labels[batch]), np.float64)
        report(Progress("activations", min(start + _BATCH, len(labels)), len(labels), "images"))
    counts = np.ma.masked_equal(np.bincount(labels, minlength=num_classes), 0)
    return total / counts.reshape(-1, *(1,) * (total.ndim - 1))


def _is(layer: str, context: nn.module.InterceptorContext) -> bool:
    return context.method_name == "__call__" and "/".join(context.module.path) == layer
