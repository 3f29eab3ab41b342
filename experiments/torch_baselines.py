"""The benchmark's baselines in PyTorch: the paper's network with our weights, and the noise loop in several styles.

Only the workers of `experiments.benchmark` import this module; nothing else here needs PyTorch.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

Job = Callable[[int, int], tuple[np.ndarray, np.ndarray]]
"""(samples n, seed) -> counts [10] and sums [10, 784] of the noise by decision, on the host."""

_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
_CLASSES, _WINDOW, _STRIDE = 10, 28, 4
_BLOCK, _SLICE = 100_000, 10_000  # the authors' images in memory and images per network pass
_BATCH_SIZES = {  # those that are tried
    "tuned_torch": {"cpu": (128, 256, 512), "cuda": (512, 4_096, 16_384)},
    "field_torch": {"cpu": (1_024, 2_048, 4_096), "cuda": (4_096, 16_384, 65_536)},
}


def build(name: str, parameters: Mapping[str, Any], probe_nhwc: np.ndarray) -> tuple[Job, dict[str, Any]]:
    """A variant, ready to run with the parameters of our paper_cnn as NumPy arrays, and facts about it.

    Among these are the logits of the probe's images: on the CPU, to check the weights, and as the variant runs.
    """
    precision = torch.bfloat16 if name.endswith("_bfloat16") else torch.float32
    name = name.removesuffix("_bfloat16")
    net = network(parameters, dense=name != "field_torch", pool_first=name != "authors_style")
    probe = torch.from_numpy(probe_nhwc.transpose(0, 3, 1, 2).copy())
    with torch.inference_mode():
        on_cpu = net(probe).flatten(1).numpy()
    net = net.to(_DEVICE)
    if name == "authors_style":
        job, batch_size = _authors_style(net), _SLICE
    else:
        torch.set_num_threads(os.cpu_count() or 1)
        torch.set_float32_matmul_precision("high")  # on a GPU TF32, as in JAX by default
        torch.backends.cudnn.benchmark = True
        net = _In(net.to(memory_format=torch.channels_last, dtype=precision), precision)
        if name == "compiled_torch":
            batch_size = 256 if _DEVICE == "cpu" else 16_384
            how: Any = {"options": {"freezing": True}} if _DEVICE == "cpu" else {"mode": "max-autotune-no-cudagraphs"}
            job = _tuned(torch.compile(net, dynamic=False, **how), batch_size)
        else:
            make = _tuned if name == "tuned_torch" else _field
            job, batch_size = _fastest(partial(make, net), _BATCH_SIZES[name][_DEVICE])
    with torch.inference_mode():
        as_run = net(probe.to(_DEVICE)).flatten(1).cpu().numpy()
    device = torch.cuda.get_device_name() if _DEVICE == "cuda" else "cpu"
    facts = {"device": device, "threads": torch.get_num_threads(), "batch_size": batch_size, "torch": torch.__version__}
    return job, facts | {"logits": as_run, "exact_logits": on_cpu}


class _In(nn.Module):
    """A network in a precision, from and to float32."""

    def __init__(self, net: nn.Module, precision: torch.dtype) -> None:
        super().__init__()
        self.net, self.precision = net, precision

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images.to(self.precision)).float()


def device_memory() -> int | None:
    """The peak of bytes of tensors on the GPU; None without one."""
    return torch.cuda.max_memory_allocated() if _DEVICE == "cuda" else None


def network(parameters: Mapping[str, Any], dense: bool, pool_first: bool) -> nn.Sequential:
    """The paper's network with the parameters of our paper_cnn, NCHW images -> logits.

    Its dense layers are linear layers, for single images, or else convolutions, for fields. Pooling before ReLU gives
    the same values for less work.
    """
    last = [nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, _CLASSES)]
    if not dense:
        last = [nn.Conv2d(50, 500, 4), nn.ReLU(), nn.Conv2d(500, _CLASSES, 1)]
    shrink = [nn.MaxPool2d(2), nn.ReLU()] if pool_first else [nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(nn.Conv2d(1, 20, 5), *shrink, nn.Conv2d(20, 50, 5), *shrink, *last)
    layers = [layer for layer in net if hasattr(layer, "weight")]
    for layer, name in zip(layers, ("conv1", "conv2", "fc1", "fc2"), strict=True):
        kernel_oihw = torch.tensor(parameters[name]["kernel"]).permute(3, 2, 0, 1)
        layer.weight.data = kernel_oihw.reshape(layer.weight.shape).contiguous()  # Flatten's order is (c, h, w), too
        layer.bias.data = torch.tensor(parameters[name]["bias"])
    return net


def authors_sums(net: nn.Module, images_nchw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One block in the authors' style: slices of 10,000 with autograd on, then ten masked gathers on the host."""
    predictions = torch.cat([net(part.to(_DEVICE)).max(dim=1).indices for part in images_nchw.split(_SLICE)]).cpu()
    masks = [predictions == k for k in range(_CLASSES)]
    sums = [images_nchw[mask].sum(dim=0).flatten() for mask in masks]
    return torch.stack([mask.sum() for mask in masks]), torch.stack(sums)


@torch.inference_mode()
def tuned_sums(net: nn.Module, images_nchw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One batch without gradients, summed by one matrix product."""
    return _product(net(images_nchw).argmax(dim=1), images_nchw.flatten(1))


@torch.inference_mode()
def field_sums(net: nn.Module, fields_nchw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """All windows of some fields: one pass over the fields, and one matrix product with copied windows."""
    windows = fields_nchw.unfold(2, _WINDOW, _STRIDE).unfold(3, _WINDOW, _STRIDE)
    return _product(net(fields_nchw).argmax(dim=1).flatten(), windows.reshape(-1, _WINDOW**2))


def _product(decisions_n: torch.Tensor, images_nd: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    one_hot = functional.one_hot(decisions_n, _CLASSES)
    return one_hot.sum(dim=0), one_hot.float().T @ images_nd


def _authors_style(net: nn.Module) -> Job:
    softmax_head = nn.Sequential(net, nn.Softmax(dim=1))
    return _loop(lambda count: authors_sums(softmax_head, torch.rand(count, 1, _WINDOW, _WINDOW)), _BLOCK)


def _tuned(net: nn.Module, batch_size: int) -> Job:
    images = torch.empty(batch_size, 1, _WINDOW, _WINDOW, device=_DEVICE)
    return _loop(lambda count: tuned_sums(net, images[:count].uniform_()), batch_size)


def _field(net: nn.Module, batch_size: int, grid: int = 32) -> Job:
    side = (grid - 1) * _STRIDE + _WINDOW
    fields = torch.empty(batch_size // grid**2, 1, side, side, device=_DEVICE)
    return _loop(lambda count: field_sums(net, fields[: -(-count // grid**2)].uniform_()), batch_size)


def _loop(batch_sums: Callable[[int], tuple[torch.Tensor, torch.Tensor]], batch_size: int) -> Job:
    def job(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        torch.manual_seed(seed)
        counts: Any = 0
        sums: Any = 0
        for start in range(0, n, batch_size):
            batch_counts, batch = batch_sums(min(batch_size, n - start))
            counts, sums = counts + batch_counts, sums + batch
        return counts.cpu().numpy(), sums.cpu().numpy()  # on the host: the device has finished

    return job


def _fastest(make: Callable[[int], Job], batch_sizes: Sequence[int]) -> tuple[Job, int]:
    """The job with the fastest batch size: the best of three tries each, after a warm-up."""

    def seconds(job: Job) -> float:
        started = time.perf_counter()
        job(max(batch_sizes), 0)
        return time.perf_counter() - started

    jobs = {size: make(size) for size in batch_sizes}
    times = {size: min([seconds(job) for _ in range(4)][1:]) for size, job in jobs.items()}
    best = min(times, key=times.__getitem__)
    return jobs[best], best
