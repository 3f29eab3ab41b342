"""Record or perturb the activations of a layer, selected by name.

A layer is a module inside the network, named by its path, such as conv1, layers/0 or (in PyTorch) features.0. Networks
need nothing for it: calls of their modules are intercepted on the way. A network is a `networks.Network`, any function
that calls Linen modules, a Flax NNX or Equinox module (or `PerImage`), or a `torch.nn.Module` (or `TorchNetwork`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Float

from wna_jax.networks import layers, torch_network
from wna_jax.networks.foreign import PerImage, is_equinox
from wna_jax.networks.models.layers import max_pool
from wna_jax.networks.network import Network
from wna_jax.runs import compilation
from wna_jax.runs.accumulate import sum_over
from wna_jax.runs.errors import InputError, unknown_name
from wna_jax.runs.progress import Report, silent

Activations = Callable[[jax.Array], jax.Array]
"""Images [n, H, W, C] -> activations [n, h, w, units] of a layer with positions, or [n, units]."""

_BATCH = 500
_CALLS = ("__call__", "pooled")
"""The methods by which a network uses a layer."""


class _Reached(Exception):  # noqa: N818 - ends the pass through the network, no error
    def __init__(self, output: jax.Array) -> None:
        self.output = output


def layer_names(network: Any, image_shape: tuple[int, ...] | None = None) -> tuple[str, ...]:
    """The layers of a network that have units, in the order in which an image passes through them.

    Without dropout, and without the cells that recurrent layers call step by step. The image's shape is needed where
    the network does not say it.
    """
    network, one = _known(network), _one_image(network, image_shape)
    if isinstance(network, torch_network.TorchNetwork):
        return network.layer_names(np.zeros(one.shape, np.float32))
    names: dict[str, None] = {}
    if _tree_of(network) is not None:

        def passing(name: str, output: Any) -> Any:
            if isinstance(output, jax.Array) and output.ndim:
                names[name] = None
            return output

        jax.eval_shape(lambda images: _watched(network, passing, images), one)
        return tuple(names)

    def note(next_function: Callable, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        own = context.module
        inner = any(isinstance(each, nn.RNNCellBase) for each in (own, own.parent))
        if context.method_name in _CALLS and own.path and not inner and not isinstance(own, nn.Dropout):
            names["/".join(own.path)] = None
        return next_function(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(lambda images: network(images), one)
    return tuple(names)


def spatial_layers(network: Any, image_shape: tuple[int, ...] | None = None) -> tuple[str, ...]:
    """Those of `layer_names` whose units form feature maps of more than one position."""

    def is_spatial(layer: str) -> bool:
        shape = compilation.shape_of(layer_activations(network, layer), _one_image(network, image_shape)).shape
        return len(shape) == 4 and shape[1] * shape[2] > 1

    return tuple(filter(is_spatial, layer_names(network, image_shape)))


def first_kernels(
    network: Any, layer: str, image_shape: tuple[int, ...] | None = None
) -> Float[np.ndarray, "units h w C"] | None:
    """The kernels of a layer that weighs pixels: the first of a `Network`, if it is a convolution."""
    if not isinstance(network, Network):
        return None
    kernel = np.asarray(network.parameters.get(layer, {}).get("kernel", ()))
    return np.moveaxis(kernel, -1, 0) if kernel.ndim == 4 and layer == layer_names(network, image_shape)[0] else None


def layer_activations(network: Any, layer: str) -> Activations:
    """The positive part of a layer's output, for images of any size that the layers up to it take.

    This is the units' activation where ReLU comes next: in all layers of this package but the last (whose outputs are
    logits), recurrent layers, and convolutions before a batch normalisation (take the normalisation's name instead).
    Later layers are not computed. Feature maps are [n, h, w, units], also of networks that hold their channels first.

    Raises:
        InputError: no such layer (when the function is used); the message lists the layers that there are.
    """
    network = _known(network)
    if isinstance(network, torch_network.TorchNetwork):
        return network.of_layer(layer)
    return Partial(_activations, layer, network)


def stimulated(network: Any, layer: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The network with a current injected into the units of one layer (microstimulation).

    Images [n, H, W, C] and a current [units] (or [n, units], one per image) -> logits [n, K]. The current is added to a
    unit's output before ReLU, at every position of a feature map, as if to its bias.

    The network is a `Network`, or another function that calls Linen modules.

    Raises:
        InputError: no such layer, or a current for another number of units (when the function is used).
    """
    return Partial(_stimulated, layer, network)


def only(function: Callable[[jax.Array], jax.Array], numbers: Sequence[int]) -> Callable[[jax.Array], jax.Array]:
    """A function of images that gives some of its answers only: of classes to choose between, or of some units."""
    return Partial(_only, np.asarray(numbers), function)


def _only(numbers: jax.Array, function: Callable[[jax.Array], jax.Array], images: jax.Array) -> jax.Array:
    return function(images)[..., numbers]


def mean_activations(
    activations: Activations, images_nhwc: np.ndarray, labels: np.ndarray, num_classes: int, report: Report = silent
) -> Float[np.ma.MaskedArray, "K *positions units"]:
    """The mean activation of each unit at each position, over the images of each class.

    Images are uint8, or float32 on the [0, 1] scale. A class without images is masked.
    """
    sums = Partial(_activation_sums, activations, num_classes)
    total = sum_over(sums, (images_nhwc, labels), _BATCH, report, "activations")
    counts = np.ma.masked_equal(np.bincount(labels, minlength=num_classes), 0)
    return total / counts.reshape(-1, *(1,) * (total.ndim - 1))


@compilation.jit
def _activation_sums(activations: Activations, num_classes: int, images: jax.Array, labels: jax.Array) -> jax.Array:
    of_class = jax.nn.one_hot(labels, num_classes)
    shown = images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images
    return jnp.einsum("nk,n...->k...", of_class, activations(shown), precision="highest")


def _activations(layer: str, network: Any, images: jax.Array) -> jax.Array:
    def stop(output: jax.Array) -> NoReturn:
        raise _Reached(output)

    if (tree := _tree_of(network)) is not None:

        def stop_at(name: str, output: jax.Array) -> jax.Array:
            return stop(output) if name == layer else output

        def until_reached(*arguments: Any) -> jax.Array:
            try:
                layers.watched(tree, stop_at)(*arguments)
            except _Reached as reached:
                return nn.relu(reached.output)
            raise unknown_name("layer", layer, layer_names(network, images.shape[1:]))

        if not isinstance(network, PerImage):
            return until_reached(images)
        activations = network.map(until_reached, images)
        return jnp.moveaxis(activations, 1, -1) if activations.ndim == 4 else activations
    try:
        return _with_output_changed(layer, network, images, stop)
    except _Reached as reached:
        return nn.relu(reached.output)


def _known(network: Any) -> Any:
    """A network as its layers are found: a module of PyTorch or Equinox becomes a function of images [n, H, W, C]."""
    if torch_network.is_module(network):
        return torch_network.TorchNetwork(network)
    return PerImage(network) if is_equinox(network) else network


def _tree_of(network: Any) -> Any:
    """The NNX or Equinox module that a network is, or None."""
    module = network.module if isinstance(network, PerImage) else network
    return module if layers.is_tree(module) else None


def _watched(network: Any, watch: layers.Watch, images: jax.Array) -> Any:
    watched = layers.watched(_tree_of(network), watch)
    return network.map(watched, images) if isinstance(network, PerImage) else watched(images)


def _stimulated(layer: str, network: Any, images: jax.Array, current: jax.Array) -> jax.Array:
    def inject(output: jax.Array) -> jax.Array:
        units = output.shape[-1]
        if current.shape not in ((units,), (len(output), units)):
            raise InputError(f"a current of shape {current.shape}: layer {layer} has {units} units")
        each = current.reshape(-1, *(1,) * (output.ndim - 2), units)
        return output + jnp.broadcast_to(each, output.shape)

    return _with_output_changed(layer, network, images, inject)


def _with_output_changed(layer: str, network: Any, images: jax.Array, change: Callable) -> jax.Array:
    found = False

    def intercept(next_function: Callable, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        nonlocal found
        if context.method_name not in _CALLS or "/".join(context.module.path) != layer:
            return next_function(*args, **kwargs)
        found = True
        if context.method_name == "pooled":  # the units of a layer are those before pooling
            return max_pool(context.module(*args))
        return change(next_function(*args, **kwargs))

    with nn.intercept_methods(intercept):
        answers = network(images)
    if not found:
        raise unknown_name("layer", layer, layer_names(network, images.shape[1:]))
    return answers


def _one_image(network: Any, image_shape: tuple[int, ...] | None = None) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, *(image_shape or network.image_shape)), jnp.float32)
