"""The job that benchmarks time: uniform noise -> the paper's network -> its decision -> sums by class."""

import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.timing import Job, Variant
from wna_jax import correlation, noise, responses
from wna_jax.networks import Network, models, training

BF16 = "_bfloat16"
OURS = {"independent": "wna_jax, independent images", "field": "wna_jax, window field"}
MATMUL = "matmul"  # one more worker, for the machine's own speed: a sample is a row of a square matrix product
SIDE, ROWS = 4_096, 1_024
MODEL, IMAGE, CLASSES = "paper_cnn", (28, 28, 1), 10


def load(name: str) -> Variant:
    """In a worker of `timing`: the variant of that name, such as "field" or "independent_bfloat16"."""
    if name.removesuffix(BF16) in OURS or name == MATMUL:
        return Variant(_build_matmul if name == MATMUL else functools.partial(_build_ours, name), device_memory)
    from experiments import torch_baselines

    return Variant(functools.partial(torch_baselines.build, name), torch_baselines.device_memory)


def load_on(devices: int, name: str) -> Variant:
    """The same on so many devices, which are made up on a CPU; in a process in which JAX has not begun to compute."""
    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_cuda_visible_devices", ",".join(map(str, range(devices))))
    return load(name)


def parts(trained: Network, sampling: str) -> tuple[noise.Noise, Any, dict[str, Any]]:
    """Noise, response and options of `reverse_correlate` for the job."""
    return noise.uniform(IMAGE), responses.of_classifier(trained, ("decision",)), {"sampling": sampling}


def network(parameters: Any, precision: str = "float32") -> Network:
    """The paper's network with its parameters on the device."""
    return Network(models.create(MODEL, IMAGE, CLASSES), jax.device_put(parameters), precision)


def flop_per_sample(parameters: Any, field: bool) -> float:
    """Operations of the network, two per multiply-add: for an image, or for a field shared by its windows."""
    side, windows = (152, 1_024) if field else (28, 1)
    flop = 0
    for layer in ("conv1", "conv2", "fc1", "fc2"):
        kernel = parameters[layer]["kernel"]
        side -= kernel.shape[0] - 1
        flop += 2 * side**2 * kernel.size
        side //= 2 if layer.startswith("conv") else 1
    return flop / windows


def _build_ours(name: str, parameters: Any, probe: np.ndarray) -> tuple[Job, dict[str, Any]]:
    trained = network(parameters, "bfloat16" if name.endswith(BF16) else "float32")
    white, response, options = parts(trained, name.removesuffix(BF16))

    def job(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        moments = correlation.reverse_correlate(white, response, n, seed=seed, **options)["decision"]
        return moments.count, moments.sum

    device = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    return job, {"device": device, "threads": os.cpu_count(), "logits": training.predict(trained, probe)}


def _build_matmul(*_: Any) -> tuple[Job, dict[str, Any]]:
    rows, matrix = jnp.ones((ROWS, SIDE)), jnp.ones((SIDE, SIDE))
    multiply = jax.jit(jnp.matmul)

    def job(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        products = range(0, n, ROWS)
        for _ in products:
            product = multiply(rows, matrix)
        return np.array([len(products) * ROWS]), np.asarray(product[0, 0])

    return job, {}


def device_memory() -> int | None:
    """The peak of bytes on the first device, if it has memory of its own."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
