"""A network of PyTorch as a function of this package's images. PyTorch is no dependency: who has a module has it."""

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wna_jax.runs import compilation
from wna_jax.runs.errors import InputError, unknown_name

_SMALLEST_BATCH = 8
_GAIN = 1.03
"""How much faster than the best a larger batch must be to be taken."""
_SECONDS_OF_TRIALS = 0.5
"""Without what the first call of a size takes, which on a GPU may be long."""
_BATCH_OF_GRADIENTS = 16  # all that a module computes on the way stays in memory until the last pass back


def is_module(network: object) -> bool:
    """Whether something is a `torch.nn.Module`; PyTorch is not imported for that."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(network, torch.nn.Module)


class TorchNetwork(compilation.OnHost):
    """A `torch.nn.Module` that takes images [n, C, H, W], as a function of images [n, H, W, C] in [0, 1].

    The module is asked in evaluation mode, without gradients, in the floating-point type and on the device of its
    parameters; afterwards it is in the mode in which it was. Images and answers are handed over by DLPack, without a
    copy where both libraries compute on one device: a batch [n, H, W, C] is PyTorch's `channels_last` [n, C, H, W].
    """

    def __init__(
        self,
        module: Any,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        device: Any = None,
        batch_size: int | None = None,
    ) -> None:
        """See `responses.of_torch` for the arguments and errors."""
        if not is_module(module):
            raise InputError(f"a {type(module).__name__} is no torch.nn.Module: give it to responses.of_network")
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size is {batch_size}: expected a number of at least 1")
        self.module = module if device is None else module.to(device)
        self.mean, self.std = _per_channel("mean", mean), _per_channel("std", std)
        if self.std is not None and not (self.std > 0).all():
            raise InputError(f"std is {std}: expected numbers above 0")
        self.batch_size = batch_size

    def __call__(self, images: Any) -> Any:
        """Images [n, H, W, C] -> answers float32 [n, K]: of JAX for JAX's on one device, else of NumPy."""
        torch = sys.modules["torch"]
        self.check(images)
        shared = isinstance(images, jax.Array) and _is_shared(torch, images)
        # PyTorch knows no negative strides: given such an array, it ends the process.
        tensor = torch.from_dlpack(images if shared else np.ascontiguousarray(images))
        with torch.inference_mode(), _evaluated(self.module):
            shown = self._prepared(torch, tensor)
            size = self.batch_size or self._fastest_batch_size(torch, shown)
            answers = torch.cat([self._answer(torch, part) for part in shown.split(size)]).to(tensor.device)
        return jnp.from_dlpack(answers) if shared else answers.numpy()

    def layer_names(self, images: Any) -> tuple[str, ...]:
        """The parts of the module that have parameters, in the order in which images pass through them."""
        names: dict[str, None] = {}

        def note(name: str, output: Any) -> None:
            if isinstance(output, sys.modules["torch"].Tensor) and output.ndim > 1:
                names[name] = None

        with _watched(self.module, note):
            self(images)
        return tuple(names)

    def of_layer(self, layer: str) -> "TorchLayer":
        """The positive part of a layer's output instead of the answers; see `networks.units.layer_activations`."""
        return TorchLayer(layer, self)

    def vjp(self, images: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        """Images [n, H, W, C], cotangents [m, n, K] -> gradients [m, n, H, W, C]: one pass forth, and m back."""
        torch = sys.modules["torch"]
        size, parts = self.batch_size or _BATCH_OF_GRADIENTS, []
        with _evaluated(self.module), torch.enable_grad():
            for start in range(0, len(images), size):
                tensor = torch.tensor(images[start : start + size], requires_grad=True)
                answers = self._answer(torch, self._prepared(torch, tensor))
                each = [torch.as_tensor(own[start : start + size], device=answers.device) for own in cotangents]
                found = [torch.autograd.grad(answers, tensor, own, retain_graph=True)[0] for own in each]
                parts.append(torch.stack(found).numpy())
        return np.concatenate(parts, axis=1)

    @functools.cached_property  # found out, no part of what the network is
    def _found(self) -> "_Found":
        return _Found()

    def _prepared(self, torch: Any, tensor: Any) -> Any:
        """Images [n, H, W, C] as the module takes them: [n, C, H, W], normalised, in its type, on its device."""
        parameter = next((each for each in self.module.parameters() if each.is_floating_point()), None)
        own: dict[str, Any] = {"dtype": torch.float32 if parameter is None else parameter.dtype}
        own["device"] = tensor.device if parameter is None else parameter.device
        shown, channels = tensor.permute(0, 3, 1, 2).to(**own), tensor.shape[3]
        for values, change in ((self.mean, torch.sub), (self.std, torch.div)):
            if values is not None:
                if len(values) not in (1, channels):
                    raise InputError(f"mean and std are of {len(values)} channels, the images have {channels}")
                shown = change(shown, torch.as_tensor(values, **own).reshape(1, -1, 1, 1))
        if shown.data_ptr() == tensor.data_ptr() and self._writes_into(torch, shown[:1]):
            shown = shown.clone()  # the noise that is averaged must stay what it is
        return shown

    def _writes_into(self, torch: Any, image: Any) -> bool:
        """Whether the module changes its images, as a ReLU in place does that comes first."""
        if self._found.writes is None:
            with torch.inference_mode(False):  # inference tensors count no writes
                trial = torch.zeros_like(image)
            self.module(trial)
            self._found.writes = trial._version > 0
        return self._found.writes

    def _fastest_batch_size(self, torch: Any, shown: Any) -> int:
        """The batch at which the module answers the most images per second, of those that fit into the largest so far.

        Sizes are doubled until two in a row are no faster, or the time for trials is spent. What is known remains: a
        larger batch than any before only has larger sizes tried, as the few images before a run do not decide for it.
        """
        found = self._found
        while (size := found.next) <= len(shown) and found.no_faster < 2 and found.seconds < _SECONDS_OF_TRIALS:
            taken = []
            for _ in range(2):  # the first call of a size prepares the others
                images = shown[:size].clone()  # a module may change them, and they are still to be answered
                before = time.perf_counter()
                self._answer(torch, images).cpu()  # waits for the device
                taken.append(time.perf_counter() - before)
            found.next, found.seconds, found.no_faster = 2 * size, found.seconds + 2 * min(taken), found.no_faster + 1
            if size / min(taken) > _GAIN * found.rate:
                found.best, found.rate, found.no_faster = size, size / min(taken), 0
        return found.best or len(shown)

    def _answer(self, torch: Any, images_nchw: Any) -> Any:
        answers = self.module(images_nchw)
        answers = getattr(answers, "logits", answers)  # of a transformers model
        if not isinstance(answers, torch.Tensor):
            raise InputError(
                f"the module returned a {type(answers).__name__}: expected a tensor [n, classes]; wrap it in a module "
                "that returns the logits alone"
            )
        return answers.float()


@dataclass
class _Found:
    """What calls of a module have shown: whether it writes into its images, and how fast it answers batches."""

    writes: bool | None = None
    best: int = 0
    rate: float = 0.0
    next: int = _SMALLEST_BATCH
    no_faster: int = 0
    seconds: float = 0.0


class TorchLayer(TorchNetwork):
    """The activations of a layer of a PyTorch module: images [n, H, W, C] -> [n, h, w, units], or [n, units]."""

    def __init__(self, layer: str, network: TorchNetwork) -> None:
        """The layer's name is its path in the module, such as features.0."""
        super().__init__(network.module, batch_size=network.batch_size)
        self.mean, self.std = network.mean, network.std
        self.layer = layer

    def _answer(self, torch: Any, images_nchw: Any) -> Any:
        def stop(name: str, output: Any) -> None:
            if name == self.layer:
                raise _Reached(output)

        try:
            with _watched(self.module, stop):
                self.module(images_nchw)
        except _Reached as reached:
            activations = reached.args[0].float().relu()
            return activations.permute(0, 2, 3, 1) if activations.ndim == 4 else activations
        raise unknown_name("layer", self.layer, [name for name, _ in _parts(self.module)])


def _parts(module: Any) -> list[tuple[str, Any]]:
    """The parts of a module that have parameters, by name."""
    return [(name, part) for name, part in module.named_modules() if name and next(part.parameters(), None) is not None]


class _Reached(Exception):  # noqa: N818 - ends the pass through the network, no error
    pass


@contextlib.contextmanager
def _watched(module: Any, watch: Callable[[str, Any], None]) -> Iterator[None]:
    """Has the parts of a module that have parameters hand their names and outputs to a function."""

    def hand_on(name: str, _module: Any, _inputs: Any, output: Any) -> None:
        watch(name, output)

    handles = [part.register_forward_hook(functools.partial(hand_on, name)) for name, part in _parts(module)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_shared(torch: Any, images: jax.Array) -> bool:
    """Whether PyTorch can read an array of JAX where it is."""
    (first, *others) = images.devices()
    return not others and (first.platform == "cpu" or torch.cuda.is_available())


@contextlib.contextmanager
def _evaluated(module: Any) -> Iterator[None]:
    """The module in evaluation mode, and then each of its parts in the mode in which it was."""
    trained = [each for each in module.modules() if each.training]
    for each in trained:
        each.training = False
    try:
        yield
    finally:
        for each in trained:
            each.training = True


def _per_channel(name: str, values: float | Sequence[float] | None) -> np.ndarray | None:
    if values is None:
        return None
    array = np.empty(0, np.float32)
    with contextlib.suppress(TypeError, ValueError):
        array = np.atleast_1d(np.asarray(values, np.float32))
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise InputError(
            f"{name} is {values!r}: expected one number, or one per channel, such as (0.485, 0.456, 0.406)"
        )
    return array
