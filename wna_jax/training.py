"""Training a classifier of the registry on a data set, with optax under jit."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from wna_jax import models
from wna_jax.augmentation import augmenter
from wna_jax.data import Dataset, Split
from wna_jax.errors import InputError
from wna_jax.jobs import State, Store
from wna_jax.models.layers import fold_statistics
from wna_jax.progress import Progress, Report, silent

Parameters = Any
"""The pytree that Linen keeps under "params"."""

_EPOCHS = {"digits": 40, "mnist": 3, "fashion_mnist": 6}
_EVALUATION_BATCH = 500
_STEPS_PER_REPORT = 20


@dataclass(frozen=True)
class TrainingSpec:
    """Everything that decides what a training run gives; it is stored with the parameters."""

    dataset: str
    fingerprint: str
    """Of the data, so that parameters are never taken for those of other images of the same name."""
    model: str
    seed: int = 0
    epochs: int = 10
    batch_size: int = 128
    peak_learning_rate: float = 3e-3
    augmentation: str | None = None
    """None, or how each training image is changed at random: one of `augmentation.NAMES`, or several joined by "_"."""

    def __post_init__(self) -> None:
        """Says at once what cannot be trained."""
        for name in ("epochs", "batch_size", "peak_learning_rate"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}: it must be above 0")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed is {self.seed}: it must be a whole number from 0 to 2^32 - 1")
        if self.augmentation is not None:
            augmenter(self.augmentation)


class Trained(NamedTuple):
    """Parameters with what is known of them."""

    parameters: Parameters
    """NumPy arrays, which belong to no device and so can be used on any."""
    metrics: dict[str, Any]
    """test_accuracy, test_loss, validation_accuracy, best_epoch, training_seconds and `epochs`, a row each.

    In a row train_loss and train_accuracy are means over the epoch's steps: of the network in training, with dropout
    and augmentation, while it learns.
    """


def default_epochs(dataset_name: str, model_name: str) -> int:
    """Epochs that reach a network's plateau: 3 on MNIST, 6 on Fashion-MNIST, 40 on the small digits, else 10.

    Dense and recurrent networks get three times as many: they need more, and an epoch of theirs costs a fraction.
    """
    return _EPOCHS.get(dataset_name, 10) * (3 if model_name in ("logistic", "mlp", "dropout_mlp", "rnn", "lstm") else 1)


def default_augmentation(dataset_name: str) -> str | None:
    """Flips and shifts for CIFAR-10, of which networks are otherwise short of images; else none."""
    return "flip_shift" if dataset_name.partition(":")[0] == "cifar10" else None


def to_unit_range(images_u8: jax.Array) -> jax.Array:
    """uint8 images 0..255 -> float32 on the [0, 1] scale on which every network is trained and tested."""
    return images_u8.astype(jnp.float32) / 255


def logits_function(module: nn.Module, parameters: Parameters) -> Callable[[jax.Array], jax.Array]:
    """The trained network as a function: images [n, H, W, C] in [0, 1] -> logits [n, K]."""
    return lambda images: module.apply({"params": parameters}, images)


def one_cycle(peak_learning_rate: float, steps: int) -> optax.GradientTransformation:
    """Adam under a cosine one-cycle schedule: from a 25th of the peak up to it in a quarter of the steps, and down."""
    schedule = optax.cosine_onecycle_schedule(
        steps, peak_learning_rate, pct_start=0.25, div_factor=25, final_div_factor=1e3
    )
    return optax.adam(schedule)


def fit(spec: TrainingSpec, dataset: Dataset, report: Report = silent, state_dir: Path | None = None) -> Trained:
    """Trains by Adam on the cross-entropy under a cosine one-cycle schedule.

    After each epoch the validation set is classified; the parameters of the best epoch are kept, and classify the test
    set once, at the end.

    Args:
        spec: what to train and how.
        dataset: its `train`, `validation` and `test` splits are used.
        report: called every few steps with loss and accuracy of the step's batch, and after each epoch with
            validation_loss and validation_accuracy as well.
        state_dir: as in `descend`.

    Returns:
        The parameters and their metrics; accuracies are fractions, losses are in nats.

    Raises:
        InputError: the model does not exist or does not take such images, or training diverged.
    """
    module = models.create(spec.model, dataset.image_shape, dataset.num_classes)
    key = jax.random.key(spec.seed)
    parameters = models.initial_parameters(module, key)
    size = len(dataset.train.labels)
    optimiser = one_cycle(spec.peak_learning_rate, spec.epochs * (size // min(spec.batch_size, size)))
    step = _make_step(module, optimiser, dataset.train, spec.augmentation)

    def judge(parameters: Parameters) -> tuple[Parameters, dict[str, float]]:
        evaluated = _with_statistics(module, parameters, dataset.train.images)
        validation = evaluate(module, evaluated, dataset.validation)
        return evaluated, {f"validation_{name}": value for name, value in validation.items()}

    trained = descend(
        spec,
        size,
        Descent(parameters, optimiser.init(parameters)),
        lambda parameters, state, batch, index: step(parameters, state, batch, jax.random.fold_in(key, index)),
        judge,
        lambda row: row["validation_accuracy"],
        report,
        state_dir,
    )
    best = trained.history[trained.best_epoch]
    test = evaluate(module, trained.best, dataset.test)
    metrics = {
        "test_accuracy": test["accuracy"],
        "test_loss": test["loss"],
        "validation_accuracy": best["validation_accuracy"],
        "best_epoch": trained.best_epoch + 1,
        "training_seconds": round(trained.seconds, 2),
        "epochs": trained.history,
    }
    return Trained(jax.tree.map(np.asarray, trained.best), metrics)


class Descent(NamedTuple):
    """A training after some whole epochs."""

    parameters: Parameters
    optimiser_state: Any
    best: Parameters = None
    """The evaluated parameters of the best epoch so far."""
    best_epoch: int = -1
    """From 0 on."""
    history: Sequence[dict[str, float]] = ()
    """Of each epoch train_ figures, the means over its steps, and what the judge found after it."""
    seconds: float = 0.0


def descend(
    spec: TrainingSpec,
    size: int,
    start: Descent,
    step: Callable[[Parameters, Any, np.ndarray, int], tuple[Parameters, Any, dict[str, jax.Array]]],
    judge: Callable[[Parameters], tuple[Parameters, dict[str, float]]],
    score: Callable[[dict[str, float]], float],
    report: Report = silent,
    state_dir: Path | None = None,
) -> Descent:
    """The loop of every training: epochs of steps, each epoch judged, the best one's parameters kept.

    An epoch is a permutation that seed and epoch number decide, cut into batches; the last, incomplete batch is left
    out.

    Args:
        spec: seed, epochs, batch_size; the rest for messages, and to know the state of the same training again.
        size: number of training images.
        start: parameters and optimiser's state at the beginning.
        step: parameters, optimiser's state, positions of the batch's images, number of the step from 1 on -> the next
            parameters and state, and figures of the batch, "loss" among them.
        judge: parameters -> parameters to be used elsewhere, and figures of the epoch.
        score: a row of the history -> number; the largest is the best, the first of equals.
        report: called every few steps with the figures.
        state_dir: keeps the training after an epoch, if the last save is some seconds ago, and when it is interrupted;
            a training of the same spec goes on from there. Nobody deletes it here.

    Raises:
        InputError: the loss is no number.
    """
    batch_size = min(spec.batch_size, size)
    steps = size // batch_size
    total = spec.epochs * steps
    course = start
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Store(state_dir, asdict(spec))) if state_dir else None
        state = store.load() if store else None
        if state:
            course = _course_of(state, start)
        if store:
            stack.enter_context(_saved_when_interrupted(store, lambda: course))
        for epoch in range(len(course.history), spec.epochs):
            started = time.perf_counter()
            of_steps: list[dict[str, jax.Array]] = []
            parameters, optimiser_state = course.parameters, course.optimiser_state
            order = np.random.default_rng((spec.seed, epoch)).permutation(size).astype(np.int32)
            for i in range(steps):
                done = epoch * steps + i + 1
                batch = order[i * batch_size : (i + 1) * batch_size]
                parameters, optimiser_state, of_batch = step(parameters, optimiser_state, batch, done)
                of_steps.append(of_batch)
                last = i + 1 == steps
                if not last and done % _STEPS_PER_REPORT:
                    continue
                figures = {name: float(value) for name, value in of_batch.items()}
                if not np.isfinite(figures["loss"]):
                    raise InputError(
                        f"training of {spec.model} diverged in epoch {epoch + 1} (loss {figures['loss']}): a peak "
                        f"learning rate of {spec.peak_learning_rate} is too high here, lower it"
                    )
                if last:
                    judged, found = judge(parameters)
                    row = {f"train_{name}": float(np.mean(values)) for name, values in _columns(of_steps).items()}
                    history = [*course.history, row | found]
                    best, best_epoch = course.best, course.best_epoch
                    if best_epoch < 0 or score(history[-1]) > score(history[best_epoch]):
                        best, best_epoch = judged, epoch
                    seconds = course.seconds + time.perf_counter() - started
                    course = Descent(parameters, optimiser_state, best, best_epoch, history, seconds)
                    figures |= found
                    if store and epoch + 1 < spec.epochs:
                        store.save_now_and_then(_state_of(course))
                report(Progress(f"training {spec.model}", done * batch_size, total * batch_size, "images", figures))
    return course


@contextlib.contextmanager
def _saved_when_interrupted(store: Store, course: Callable[[], Descent]) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        if course().history:
            store.save(_state_of(course()))
        raise


def _state_of(course: Descent) -> State:
    told = json.dumps([course.history, course.best_epoch, course.seconds])
    leaves = jax.tree.leaves((course.parameters, course.optimiser_state, course.best))
    return State(len(course.history), [np.asarray(leaf) for leaf in leaves], [[np.frombuffer(told.encode(), np.uint8)]])


def _course_of(state: State, start: Descent) -> Descent:
    structure = jax.tree.structure((start.parameters, start.optimiser_state, start.parameters))
    ((told,),) = state.course
    history, best_epoch, seconds = json.loads(told.tobytes())
    parameters, optimiser_state, best = jax.tree.unflatten(structure, state.sums)
    return Descent(parameters, optimiser_state, best, best_epoch, history, seconds)


def predict(module: nn.Module, parameters: Parameters, images: np.ndarray) -> np.ndarray:
    """The logits [n, K] of images [n, H, W, C] on the [0, 1] scale."""
    starts = range(0, len(images), _EVALUATION_BATCH)
    return np.concatenate([_apply(module, parameters, images[i : i + _EVALUATION_BATCH]) for i in starts])


@partial(jax.jit, static_argnums=0)
def _apply(module: nn.Module, parameters: Parameters, images: jax.Array) -> jax.Array:
    return logits_function(module, parameters)(images)


def _columns(rows: list[dict[str, jax.Array]]) -> dict[str, list[np.ndarray]]:
    return {name: jax.device_get([row[name] for row in rows]) for name in rows[0]}


def evaluate(module: nn.Module, parameters: Parameters, split: Split) -> dict[str, float]:
    """Accuracy (a fraction) and mean cross-entropy (nats) of a network on a split."""
    correct, loss = 0, 0.0
    for start in range(0, len(split.labels), _EVALUATION_BATCH):
        batch = slice(start, start + _EVALUATION_BATCH)
        logits = _logits(module, parameters, split.images[batch])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, split.labels[batch])
        correct += int((logits.argmax(axis=-1) == split.labels[batch]).sum())
        loss += float(losses.sum())
    return {"accuracy": correct / len(split.labels), "loss": loss / len(split.labels)}


@partial(jax.jit, static_argnums=0)
def _logits(module: nn.Module, parameters: Parameters, images_u8: jax.Array) -> jax.Array:
    return logits_function(module, parameters)(to_unit_range(images_u8))


def _make_step(
    module: nn.Module, optimiser: optax.GradientTransformation, train: Split, augmentation: str | None
) -> Callable[..., tuple]:
    """One jitted step. Stepping stays a Python loop: in a `lax.scan` a CPU differentiates convolutions far slower."""
    images, labels = jnp.asarray(train.images), jnp.asarray(train.labels)

    augment = augmenter(augmentation) if augmentation else None

    def loss_and_figures(parameters: Parameters, images: jax.Array, labels: jax.Array, key: jax.Array) -> tuple:
        logits, _ = module.apply(
            {"params": parameters},
            images,
            rngs={"dropout": jax.random.fold_in(key, 0)},
            mutable=["batch_statistics"],
        )
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        accuracy = jnp.mean(logits.argmax(axis=-1) == labels)
        return loss, {"loss": loss, "accuracy": accuracy}

    @jax.jit
    def step(
        parameters: Parameters, state: Any, images: jax.Array, labels: jax.Array, batch: jax.Array, key: jax.Array
    ) -> tuple:
        shown = to_unit_range(images[batch])
        if augment:
            shown = jax.vmap(augment)(jax.random.split(jax.random.fold_in(key, 1), len(batch)), shown)
        gradient, figures = jax.grad(loss_and_figures, has_aux=True)(parameters, shown, labels[batch], key)
        with jax.numpy_dtype_promotion("standard"):  # optax does not hold to the strict rules that we test under
            updates, state = optimiser.update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), state, figures

    return lambda parameters, state, batch, key: step(parameters, state, images, labels, batch, key)


def _with_statistics(module: nn.Module, parameters: Parameters, images_u8: np.ndarray) -> Parameters:
    """Parameters for evaluation: batch normalisation by the statistics of 10 batches of training images, folded in.

    Statistics of the parameters as they are, not a running mean of past ones (Wu & Johnson 2021, "precise" statistics).
    """
    count = min(10, len(images_u8))
    batches = np.split(images_u8[: count * min(500, len(images_u8) // count)], count)
    statistics = [_batch_statistics(module, parameters, batch) for batch in batches]
    return fold_statistics(parameters, jax.tree.map(lambda *parts: sum(parts) / len(parts), *statistics))


@partial(jax.jit, static_argnums=0)
def _batch_statistics(module: nn.Module, parameters: Parameters, images_u8: jax.Array) -> dict:
    _, state = module.apply({"params": parameters}, to_unit_range(images_u8), mutable=["batch_statistics"])
    return state.get("batch_statistics", {})  # nothing is computed where there is nothing to return
