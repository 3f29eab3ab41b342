"""The networks of docs/networks.md: one linear network on 8x8 images in ten forms, and the page's code for each.

PYTHONPATH=. python tests/recipes.py    times each of them: microseconds per sample, the network alone (compiled, where
                                        JAX can) and analysed
"""

import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import wna_jax
from wna_jax import responses
from wna_jax.runs import compilation

PAGE = Path(__file__).parents[1] / "docs" / "networks.md"
SHAPE, CLASSES = (8, 8, 1), 3
_BATCH = 1_024
_RANDOM = np.random.default_rng(0)
WEIGHTS = _RANDOM.standard_normal((64, CLASSES)).astype(np.float32)
BIAS = -WEIGHTS.mean(axis=0) * 32 + np.array([0.2, 0, -0.2], np.float32)


def code(name: str) -> str:
    """The code below a heading of the page."""
    found = re.search(rf"^## {re.escape(name)}\n(?:(?!^## ).)*?```python\n(.*?)```", PAGE.read_text(), re.S | re.M)
    assert found, name
    return found[1]


def my_logits(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) @ WEIGHTS + BIAS


def my_labels(images: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(images.reshape(len(images), -1) @ WEIGHTS + BIAS[None])


class _Dense(nn.Module):
    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        return nn.Dense(CLASSES, name="out")(images.reshape(len(images), -1))


class _Normalised(nn.Module):
    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = nn.BatchNorm(use_running_average=not train, epsilon=0.0, name="norm")(images)
        x = nn.Dropout(0.5, deterministic=not train)(x.reshape(len(x), -1))
        return nn.Dense(CLASSES, name="out")(x)


_OUT = {"kernel": WEIGHTS, "bias": BIAS}


def linen() -> dict[str, Any]:
    return {"module": _Dense(), "variables": {"params": {"out": _OUT}}}


def normalised() -> dict[str, Any]:
    params = {"out": _OUT, "norm": {"scale": np.ones(1, np.float32), "bias": np.zeros(1, np.float32)}}
    statistics = {"norm": {"mean": np.zeros(1, np.float32), "var": np.ones(1, np.float32)}}
    return {"module": _Normalised(), "variables": {"params": params, "batch_stats": statistics}}


class _OfNNX(nnx.Module):
    def __init__(self) -> None:
        self.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
        self.out = nnx.Linear(64, CLASSES, rngs=nnx.Rngs(0))
        self.out.kernel[...], self.out.bias[...] = jnp.asarray(WEIGHTS), jnp.asarray(BIAS)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.out(self.drop(images.reshape(len(images), -1)))


def of_nnx() -> dict[str, Any]:
    return {"model": _OfNNX()}


def equinox() -> dict[str, Any]:
    import equinox as eqx

    linear = eqx.nn.Linear(64, CLASSES, key=jax.random.key(0))
    linear = eqx.tree_at(lambda of: (of.weight, of.bias), linear, (jnp.asarray(WEIGHTS.T), jnp.asarray(BIAS)))
    return {"model": eqx.nn.Sequential([eqx.nn.Lambda(jnp.ravel), eqx.nn.Dropout(0.5), linear])}


def pytorch() -> dict[str, Any]:
    """On images that were normalised by mean .5 and deviation .25."""
    import torch

    linear = torch.nn.Linear(64, CLASSES)
    with torch.no_grad():
        linear.weight[:] = torch.tensor(WEIGHTS.T / 4)
        linear.bias[:] = torch.tensor(BIAS + WEIGHTS.sum(axis=0) / 2)
    return {"module": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), linear)}


def onnx(folder: Path) -> dict[str, Any]:
    import onnx
    import onnxruntime  # noqa: F401 - the recipe's
    from onnx import TensorProto, helper, numpy_helper

    ends = [("images", ["n", *SHAPE]), ("logits", ["n", CLASSES])]
    inputs, outputs = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in ends)
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("Gemm", ["flat", "W", "b"], ["logits"]),
    ]
    constants = [numpy_helper.from_array(WEIGHTS, "W"), numpy_helper.from_array(BIAS, "b")]
    graph = helper.make_graph(nodes, "linear", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "linear.onnx"
    onnx.save(model, str(path))
    return {"path": str(path)}


def scikit_learn() -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression()
    model.classes_, model.coef_, model.intercept_ = np.arange(CLASSES), WEIGHTS.T, BIAS
    return {"model": model}


def keras() -> dict[str, Any]:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    layers = [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dropout(0.5), keras.layers.Dense(CLASSES)]
    model = keras.Sequential(layers)
    model.layers[-1].set_weights([WEIGHTS, BIAS])
    return {"model": model}


RECIPES: dict[str, Callable[..., dict[str, Any]]] = {
    "Flax Linen": linen,
    "Flax Linen with batch normalisation and dropout": normalised,
    "Flax NNX": of_nnx,
    "Equinox": equinox,
    "PyTorch": pytorch,
    "ONNX": onnx,
    "scikit-learn": scikit_learn,
    "Keras 3 on JAX": keras,
    "A NumPy function": lambda: {"my_logits": my_logits},
    "Several labels at once": lambda: {"my_labels": my_labels},
}


def run(name: str, folder: Path) -> dict[str, Any]:
    """Runs the code of a recipe in a folder, and returns its names; an ImportError without its package."""
    names = RECIPES[name](folder) if name == "ONNX" else RECIPES[name]()
    before = Path.cwd()
    os.chdir(folder)
    try:
        exec(code(name), names)
    finally:
        os.chdir(before)
    return names


def times(network: Any, outputs: str | None) -> tuple[float, float]:
    """Microseconds per image, medians of three alternated rounds: the network alone, and noise through it to sums.

    A network of JAX is timed as `jax.jit` of it, which is what one would call without this package. A round takes as
    many images as the network alone answers in some 0.5 s, at most 200 batches.
    """
    respond = responses.of_network(network, outputs=outputs)
    logits, white = responses.as_logits(network, outputs), wna_jax.noise.uniform(SHAPE)
    images = wna_jax.draw_samples(white, _BATCH)
    alone = logits if compilation.is_on_host(logits) else jax.jit(logits)

    def ask(batches: int) -> None:
        for _ in range(batches):
            jax.block_until_ready(alone(images))

    def sum_up(batches: int) -> None:
        wna_jax.reverse_correlate(white, respond, batches * _BATCH, sampling="independent", batch_size=_BATCH)

    ask(1)  # compiles it
    batches = max(1, min(200, round(0.5 / _seconds(ask, 1))))
    sum_up(1)
    ours, theirs = zip(*((_seconds(ask, batches), _seconds(sum_up, batches)) for _ in range(3)), strict=True)
    alone_us, whole_us = (1e6 * float(np.median(seconds)) / (batches * _BATCH) for seconds in (ours, theirs))
    return alone_us, whole_us


def _seconds(job: Callable[[int], Any], batches: int) -> float:
    before = time.perf_counter()
    job(batches)
    return time.perf_counter() - before


if __name__ == "__main__":
    print(f"{'':50s}{'alone':>8s}{'in all':>8s}")
    for name in RECIPES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                names = run(name, Path(folder))
            except ImportError as error:
                print(f"{name:50s}{error}")
                continue
        network = names.get("network", names.get("model", names.get("my_labels")))
        print("{:50s}{:8.2f}{:8.2f}".format(name, *times(network, "labels" if "my_labels" in names else None)))
