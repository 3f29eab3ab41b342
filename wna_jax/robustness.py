"""Networks trained and tested in noise of many levels: how much noise can a network bear, and does it learn to?

A condition says what noise of a level is. `each_image` is right: every pixel of every image has its own, drawn anew
each time. The two others are mistakes found in published studies, by the names under which they are offered.
"""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from wna_jax import generator, models
from wna_jax.data import Dataset, Split
from wna_jax.errors import InputError
from wna_jax.jobs import State, Store
from wna_jax.models.layers import fold_statistics
from wna_jax.progress import Progress, Report, silent
from wna_jax.training import logits_function, one_cycle, to_unit_range

_BATCH = 128
_EVALUATION_BATCH = 500
_STATISTICS = 1_000
_KEPT = 5_000
"""Training images on which the loss in training noise is told."""


def each_image(key: jax.Array, images: jax.Array, level: jax.Array, number: jax.Array) -> jax.Array:
    """Images on the [0, 1] scale plus N(0, level) in every pixel by itself, clipped to [0, 1]."""
    return jnp.clip(images + level * generator.normal(key, images.shape), 0, 1)


def range_mistake(key: jax.Array, images: jax.Array, level: jax.Array, number: jax.Array) -> jax.Array:
    """The noise is meant for pixels of 0 to 255, the images are on the [0, 1] scale: N(0, 255 level), not clipped."""
    return images + 255 * level * generator.normal(key, images.shape)


def one_number(key: jax.Array, images: jax.Array, level: jax.Array, number: jax.Array) -> jax.Array:
    """One number N(0, level) for all images, which is a shift of brightness and no noise, clipped to [0, 1]."""
    return jnp.clip(images + level * number, 0, 1)


Condition = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
"""Random key, images [n, H, W, C], level, the network's one number -> images."""
CONDITIONS: dict[str, Condition] = {
    "each_image": each_image,
    "range_mistake": range_mistake,
    "one_number": one_number,
}
OPTIMISERS: dict[str, Callable[[int], optax.GradientTransformation]] = {
    "one_cycle": lambda steps: one_cycle(3e-3, steps),
    "adam": lambda steps: optax.adam(1e-3, eps=1e-7),
    "rmsprop": lambda steps: optax.rmsprop(1e-3, decay=0.9, eps=1e-7),
    "adadelta": lambda steps: optax.adadelta(1e-3, rho=0.95, eps=1e-7),
}
"""By name, for a number of steps. Adam on a cosine one-cycle schedule, and three with Keras's settings."""


class Study(NamedTuple):
    """Networks of S seeds trained at each of L levels, and what they do at each level."""

    model: str
    condition: str
    levels: list[float]
    numbers: np.ndarray
    """[S]: the one number of each seed, N(0, 1)."""
    accuracy: dict[str, np.ndarray]
    """"train", "validation" and "test", each in noise of the level that a network was trained in, [L, S]."""
    loss: dict[str, np.ndarray]
    """Mean cross-entropy in nats, likewise."""
    transfer: np.ndarray
    """Test accuracy [L trained, L tested, S]."""


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
    """Trains a network for every level and seed, and tests each at every level.

    All networks of a seed see the same batches, in noise that differs by its level alone; validation and test images
    have noise of a fixed seed. Batch normalisation is by the statistics of 1,000 training images in the network's own
    noise, once it is trained.

    Args:
        model: of the registry.
        dataset: its splits are used as they are named.
        levels: of the noise, as a share of the pixel range: 0.1 is a deviation of a tenth of black to white.
        seeds: of parameters, batches, noise, and of the one number of `one_number`.
        condition: one of `CONDITIONS`.
        optimiser: one of `OPTIMISERS`.
        epochs: passes over the training images; the parameters at the end are tested.
        together: all networks in one vmapped step. By default where that is faster: not for convolutions on a CPU,
            which a vmap over kernels makes grouped ones.
        state_dir: keeps what is finished, the same study goes on from there; all networks at once are one piece.
        report: progress, in images shown to networks.

    Raises:
        InputError: another study's state; a level below 0, no level or seed, epochs below 1.
    """
    if not levels or not all(0 <= level < np.inf for level in levels):
        raise InputError(f"levels are {', '.join(map(str, levels)) or 'none'}: expected numbers of at least 0")
    if not seeds or epochs < 1:
        raise InputError(f"{len(seeds)} seeds and {epochs} epochs: expected at least one of each")
    module = models.create(model, dataset.image_shape, dataset.num_classes)
    if together is None:
        shapes = jax.eval_shape(lambda: models.initial_parameters(module, jax.random.key(0)))
        has_kernels = any(len(leaf.shape) == 4 for leaf in jax.tree.leaves(shapes))
        together = jax.default_backend() != "cpu" or not has_kernels
    pairs = [(level, which) for level in levels for which in range(len(seeds))]
    seed_keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    fold_in = jax.jit(jax.vmap(jax.random.fold_in, (0, None)))
    numbers = np.asarray(jax.vmap(jax.random.normal)(fold_in(seed_keys, 0)), np.float32)
    groups = [pairs] if together else [[pair] for pair in pairs]
    change = CONDITIONS[condition]

    def mean_loss(parameters: Any, key: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
        logits, _ = module.apply({"params": parameters}, images, rngs={"dropout": key}, mutable=["batch_statistics"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    size = len(dataset.train.labels)
    batch = min(_BATCH, size)
    steps = size // batch
    rule = OPTIMISERS[optimiser](epochs * steps)
    train_images, train_labels = jnp.asarray(dataset.train.images), jnp.asarray(dataset.train.labels)

    @jax.jit
    @jax.vmap
    def step(
        parameters: Any, state: Any, key: jax.Array, level: jax.Array, number: jax.Array, chosen: jax.Array
    ) -> tuple[Any, Any]:
        noise_key, dropout_key = jax.random.split(key)
        shown = change(noise_key, to_unit_range(train_images[chosen]), level, number)
        gradient = jax.grad(mean_loss)(parameters, dropout_key, shown, train_labels[chosen])
        with jax.numpy_dtype_promotion("standard"):  # optax does not hold to the strict rules that we test under
            updates, state = rule.update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), state

    @jax.jit
    @jax.vmap
    def folded(parameters: Any, level: jax.Array, number: jax.Array) -> Any:
        """Batch normalisation by the statistics of some training images in the network's own noise."""
        shown = change(jax.random.key(size), to_unit_range(train_images[:_STATISTICS]), level, number)
        _, state = module.apply({"params": parameters}, shown, mutable=["batch_statistics"])
        return fold_statistics(parameters, state.get("batch_statistics", {}))

    @jax.jit
    def judge(
        parameters: Any, key: jax.Array, images_u8: jax.Array, labels: jax.Array, level: jax.Array, number: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Right answers and summed loss of each network, all at one level or each at its own."""

        def one(parameters: Any, level: jax.Array, number: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits = logits_function(module, parameters)(change(key, to_unit_range(images_u8), level, number))
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return (logits.argmax(axis=-1) == labels).sum(), losses.sum()

        return jax.vmap(one)(parameters, level, number)

    def judged(parameters: Any, split: Split, level: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Accuracy and mean loss of each network of a group."""
        total: Any = 0
        for i in range(0, len(split.labels), _EVALUATION_BATCH):
            images, labels = (part[i : i + _EVALUATION_BATCH] for part in split)
            total = total + np.array(judge(parameters, jax.random.key(i), images, labels, level, number), np.float64)
        return total[0] / len(split.labels), total[1] / len(split.labels)

    kept = Split(dataset.train.images[:_KEPT], dataset.train.labels[:_KEPT])
    splits = {"train": kept, "validation": dataset.validation, "test": dataset.test}
    total = len(pairs) * epochs * steps * batch
    job = f"training {model}, {condition}"

    def of_group(group: list[tuple[float, int]], shown: int) -> list[np.ndarray]:
        """Trains the networks of some pairs: accuracy and loss on each split [3, G, 2], and at every level [G, L]."""
        level = np.array([level for level, _ in group], np.float32)
        which = np.array([which for _, which in group])
        number = numbers[which]
        initial = [models.initial_parameters(module, jax.random.key(seed)) for seed in seeds]
        parameters = jax.tree.map(lambda *leaves: jnp.stack(leaves)[which], *initial)
        state = jax.vmap(rule.init)(parameters)
        for epoch in range(epochs):
            orders = np.stack([np.random.default_rng((seed, epoch)).permutation(size) for seed in seeds])
            orders = orders.astype(np.int32)[which]
            for i in range(steps):
                keys = fold_in(seed_keys, epoch * steps + i + 1)[which]
                parameters, state = step(parameters, state, keys, level, number, orders[:, i * batch : (i + 1) * batch])
                shown += len(group) * batch
                if i % 20 == 0 or i + 1 == steps:
                    jax.block_until_ready(parameters)
                    report(Progress(job, shown, total, "images"))
        parameters = folded(parameters, level, number)
        own = [np.stack(judged(parameters, split, level, number), axis=-1) for split in splits.values()]
        at = [judged(parameters, dataset.test, np.full_like(level, tested), number)[0] for tested in levels]
        return [np.stack(own), np.stack(at, axis=-1)]

    identity = {
        "model": model,
        "data": dataset.fingerprint,
        "levels": list(levels),
        "seeds": list(seeds),
        "condition": condition,
        "optimiser": optimiser,
        "epochs": epochs,
        "together": together,
    }
    found: list[Sequence[np.ndarray]] = []
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Store(state_dir, identity)) if state_dir else None
        state = store.load() if store else None
        found += state.course if state else []
        for i in range(len(found), len(groups)):
            found.append(of_group(groups[i], i * total // len(groups)))
            if store:
                store.save(State(len(found), [], found))
    own, at = (np.concatenate(parts, axis=-2) for parts in zip(*found, strict=True))

    def form(values: np.ndarray) -> np.ndarray:
        return values.reshape(len(levels), len(seeds), -1)

    both = {name: form(values) for name, values in zip(splits, own, strict=True)}
    return Study(
        model,
        condition,
        list(levels),
        numbers,
        {name: values[..., 0] for name, values in both.items()},
        {name: values[..., 1] for name, values in both.items()},
        form(at).transpose(0, 2, 1),
    )
