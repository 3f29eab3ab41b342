"""Networks trained and tested in noise of many levels: how much noise does a network tolerate, and can it learn to?

A condition says what noise of a level is. `each_image` is the right one: every pixel of every image has noise of its
own, drawn anew each time. The other two, `range_mistake` and `one_number`, are mistakes found in published studies.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from wna_jax.data import Dataset, Split
from wna_jax.networks import Parameters, models
from wna_jax.networks.models.layers import fold_statistics
from wna_jax.networks.training import correct_and_loss, moved, one_cycle, to_unit_range
from wna_jax.noise import random
from wna_jax.runs.accumulate import in_batches
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Progress, Report, silent
from wna_jax.runs.seeds import key_of
from wna_jax.runs.store import State, Store

_BATCH = 128
_EVALUATION_BATCH = 500
_STATISTICS = 1_000
_KEPT = 5_000  # at most as many training images measure the accuracy and loss on the training images
_STEPS_PER_REPORT = 20
_Noise = tuple[jax.Array, jax.Array]  # levels and numbers


def each_image(key: jax.Array, images: jax.Array, level: jax.Array, number: jax.Array) -> jax.Array:
    """Images on the [0, 1] scale plus independent noise N(0, level) in every pixel, clipped to [0, 1]."""
    return jnp.clip(images + level * random.normal(key, images.shape), 0, 1)


def range_mistake(key: jax.Array, images: jax.Array, level: jax.Array, number: jax.Array) -> jax.Array:
    """Images on the [0, 1] scale plus noise meant for pixels of 0 to 255: N(0, 255 level), not clipped."""
    return images + 255 * level * random.normal(key, images.shape)


def one_number(key: jax.Array, images: jax.Array, level: jax.Array, number: jax.Array) -> jax.Array:
    """The same number N(0, level) added to all images: a shift of brightness, not noise; clipped to [0, 1]."""
    return jnp.clip(images + level * number, 0, 1)


Condition = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
"""Random key, images [n, H, W, C], level, the network's one number -> images."""
CONDITIONS: dict[str, Condition] = {"each_image": each_image, "range_mistake": range_mistake, "one_number": one_number}
OPTIMISERS: dict[str, Callable[[int], optax.GradientTransformation]] = {
    "one_cycle": lambda steps: one_cycle(3e-3, steps),
    "adam": lambda steps: optax.adam(1e-3, eps=1e-7),
    "rmsprop": lambda steps: optax.rmsprop(1e-3, decay=0.9, eps=1e-7),
    "adadelta": lambda steps: optax.adadelta(1e-3, rho=0.95, eps=1e-7),
}
"""For a number of steps, by name: Adam on a cosine one-cycle schedule, and three with the defaults of Keras."""


class Study(NamedTuple):
    """Networks of S seeds trained at each of L levels, and how well they do at each level.

    `numbers` are the one number of each seed, N(0, 1). `accuracy` and `loss` (mean cross-entropy in nats) are those on
    "train", "validation" and "test" images in noise of the level that a network was trained in. `transfer` is the test
    accuracy by the level in training and that in the test.
    """

    model: str
    condition: str
    levels: list[float]
    numbers: Float[np.ndarray, " S"]
    accuracy: dict[str, Float[np.ndarray, "L S"]]
    loss: dict[str, Float[np.ndarray, "L S"]]
    transfer: Float[np.ndarray, "L L S"]

    def in_noise(self, images: jax.Array, level: float) -> np.ndarray:
        """Images [n, H, W, C] in the noise of a level, as networks of the first seed are shown them."""
        number = jnp.asarray(self.numbers[0])
        return np.asarray(CONDITIONS[self.condition](key_of(0), images, jnp.float32(level), number))

    def as_json(self) -> dict[str, Any]:
        """The figures as JSON values, transfer as its mean over seeds."""
        return {
            "accuracy": {split: values.tolist() for split, values in self.accuracy.items()},
            "loss": {split: values.tolist() for split, values in self.loss.items()},
            "transfer": self.transfer.mean(axis=-1).tolist(),
            "one_number": self.numbers.tolist(),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """The figures by name, such as "test_accuracy"."""
        accuracies = {f"{split}_accuracy": values for split, values in self.accuracy.items()}
        return {"transfer": self.transfer} | accuracies | {f"{split}_loss": of for split, of in self.loss.items()}


def study(
    model: str,
    dataset: Dataset,
    levels: Sequence[float],
    seeds: Sequence[int],
    condition: str = "each_image",
    optimiser: str = "one_cycle",
    epochs: int = 5,
    *,
    together: bool | None = None,
    state_dir: Path | None = None,
    report: Report = silent,
) -> Study:
    """Trains one network of the registry per level and seed, and tests each of them at every level.

    All networks of a seed see the same batches, and noise that differs only by its level; the noise of validation and
    test images has a fixed seed. After the epochs, batch normalisation uses the statistics of 1,000 training images in
    the network's own noise.

    Args:
        levels: the noise's standard deviations as fractions of the pixel range: at 0.1, a tenth of black to white.
        seeds: of parameters, batches, noise, and the one number of `one_number`.
        condition: one of `CONDITIONS`, as the optimiser is of `OPTIMISERS`.
        together: train all networks in one vmapped step. By default where that is faster, so not for convolutions on a
            CPU: a vmap over kernels makes them grouped convolutions.
        state_dir: keeps the networks that are finished, and the same study resumes from there. Networks that are
            trained together are finished together.

    Raises:
        InputError: another study's state; a level below 0, no level or seed, epochs below 1.
    """
    if not levels or not all(0 <= level < np.inf for level in levels):
        raise InputError(f"levels are {', '.join(map(str, levels)) or 'none'}: expected numbers of at least 0")
    if not seeds or epochs < 1:
        raise InputError(f"{len(seeds)} seeds and {epochs} epochs: expected at least one of each")
    module = models.create(model, dataset.image_shape, dataset.num_classes)
    if together is None:
        together = jax.default_backend() != "cpu" or not _has_convolutions(module)
    seed_keys = jnp.stack([key_of(seed) for seed in seeds])
    numbers = np.asarray(jax.vmap(jax.random.normal)(_fold_in(seed_keys, 0)), np.float32)
    pairs = [(level, which) for level in levels for which in range(len(seeds))]
    groups = [pairs] if together else [[pair] for pair in pairs]
    size = len(dataset.train.labels)
    batch = min(_BATCH, size)
    steps = size // batch
    total = len(pairs) * epochs * steps * batch
    start, step, folded, judge = _programs(module, condition, optimiser, epochs * steps)
    train = jax.tree.map(jnp.asarray, dataset.train)
    kept = Split(dataset.train.images[:_KEPT], dataset.train.labels[:_KEPT])
    splits = {"train": kept, "validation": dataset.validation, "test": dataset.test}

    def of_group(group: list[tuple[float, int]], shown: int) -> list[np.ndarray]:
        """Trains the networks of some pairs: accuracy and loss on each split [3, G, 2], test accuracies [G, L]."""
        which = np.array([which for _, which in group])
        noise = np.array([level for level, _ in group], np.float32), numbers[which]
        initial = [models.initial_parameters(module, key_of(seed)) for seed in seeds]
        parameters = jax.tree.map(lambda *leaves: jnp.stack(leaves)[which], *initial)
        state = start(parameters)
        for epoch in range(epochs):
            orders = np.stack([np.random.default_rng((seed, epoch)).permutation(size) for seed in seeds])
            orders = orders.astype(np.int32)[which]
            for i in range(steps):
                keys, chosen = _fold_in(seed_keys, epoch * steps + i + 1)[which], orders[:, i * batch : (i + 1) * batch]
                parameters, state = step(train, parameters, state, keys, noise, chosen)
                shown += len(group) * batch
                if i % _STEPS_PER_REPORT == 0 or i + 1 == steps:
                    jax.block_until_ready(parameters)
                    report(Progress(f"training {model}, {condition}", shown, total, "images"))
        parameters = folded(parameters, np.uint32(size), train.images[:_STATISTICS], noise)
        own = [judged(parameters, split, noise).T for split in splits.values()]
        levels_tested = [np.full(len(group), level, np.float32) for level in levels]
        at = [judged(parameters, dataset.test, (level, noise[1]))[0] for level in levels_tested]
        return [np.stack(own), np.stack(at, axis=-1)]

    def judged(parameters: Parameters, split: Split, noise: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Accuracy and mean loss of each network of a group, [2, G]."""
        sums = [
            np.array(judge(parameters, np.uint32(i * _EVALUATION_BATCH), *part, noise), np.float64)
            for i, part in enumerate(in_batches(tuple(split), _EVALUATION_BATCH))
        ]
        return np.sum(sums, axis=0) / len(split.labels)

    settings = {"condition": condition, "optimiser": optimiser, "epochs": epochs, "together": together}
    identity = {"model": model, "data": dataset.fingerprint, "levels": list(levels), "seeds": list(seeds), **settings}
    found: list[Sequence[np.ndarray]] = []
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Store(state_dir, identity)) if state_dir else None
        if store and (state := store.load(lambda groups: [[0, 0]] * groups)):
            found += state.tree
        for i in range(len(found), len(groups)):
            found.append(of_group(groups[i], i * total // len(groups)))
            if store:
                store.save(State(len(found), found, len(found)))
    own, at = (np.concatenate(parts, axis=-2) for parts in zip(*found, strict=True))
    shape = len(levels), len(seeds), -1
    accuracy, loss = ({name: of.reshape(shape)[..., i] for name, of in zip(splits, own, strict=True)} for i in (0, 1))
    return Study(model, condition, list(levels), numbers, accuracy, loss, at.reshape(shape).transpose(0, 2, 1))


_fold_in = jax.jit(jax.vmap(jax.random.fold_in, (0, None)))


def _has_convolutions(module: nn.Module) -> bool:
    shapes = jax.eval_shape(lambda: models.initial_parameters(module, key_of(0)))
    return any(len(leaf.shape) == 4 for leaf in jax.tree.leaves(shapes))


@functools.lru_cache(maxsize=16)
def _programs(module: nn.Module, condition: str, optimiser: str, steps: int) -> tuple[Callable[..., Any], ...]:
    """What makes optimiser states, and the compiled `step`, `folded` and `judge` of G networks side by side."""
    change, rule = CONDITIONS[condition], OPTIMISERS[optimiser](steps)

    def mean_loss(parameters: Parameters, key: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
        logits, _ = module.apply({"params": parameters}, images, rngs={"dropout": key}, mutable=["batch_statistics"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(
        train: Split, parameters: Parameters, state: Any, key: jax.Array, noise: _Noise, chosen: jax.Array
    ) -> tuple[Parameters, Any]:
        """The parameters and state after a step on the `chosen` images."""
        noise_key, dropout_key = jax.random.split(key)
        shown = change(noise_key, to_unit_range(train.images[chosen]), *noise)
        gradient = jax.grad(mean_loss)(parameters, dropout_key, shown, train.labels[chosen])
        return moved(rule, parameters, state, gradient)

    def folded(parameters: Parameters, seed: jax.Array, images_u8: jax.Array, noise: _Noise) -> Parameters:
        """The parameters with the statistics of some images in noise."""
        shown = change(key_of(seed), to_unit_range(images_u8), *noise)
        _, state = module.apply({"params": parameters}, shown, mutable=["batch_statistics"])
        return fold_statistics(parameters, state.get("batch_statistics", {}))

    def judge(
        parameters: Parameters, seed: jax.Array, images_u8: jax.Array, labels: jax.Array, noise: _Noise
    ) -> tuple[jax.Array, jax.Array]:
        """The number of right answers, and the summed loss."""
        shown = change(key_of(seed), to_unit_range(images_u8), *noise)
        return correct_and_loss(module.apply({"params": parameters}, shown), labels)

    return (
        jax.vmap(rule.init),
        jax.jit(jax.vmap(step, (None, 0, 0, 0, 0, 0))),
        jax.jit(jax.vmap(folded, (0, None, None, 0))),
        jax.jit(jax.vmap(judge, (0, None, None, None, 0))),
    )
