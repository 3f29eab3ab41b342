"""Training a classifier of the registry on a data set, with optax under jit."""

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from wna_jax.data import Dataset, Split
from wna_jax.networks import models
from wna_jax.networks.augmentation import augmenter
from wna_jax.networks.models.layers import fold_statistics
from wna_jax.networks.network import Network, Parameters
from wna_jax.runs import compilation
from wna_jax.runs.accumulate import map_over, sum_over
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Progress, Report, silent
from wna_jax.runs.store import State, Store

_EPOCHS = {"digits": 40, "mnist": 3, "fashion_mnist": 6}
_EVALUATION_BATCH = 500
_STEPS_PER_REPORT = 20


@dataclass(frozen=True)
class TrainingSpec:
    """Everything that determines the result of a training; it is stored with the parameters."""

    dataset: str
    fingerprint: str
    """Of the data, so that a checkpoint is never taken for one of other data under the same name."""
    model: str
    seed: int = 0
    epochs: int = 10
    batch_size: int = 128
    peak_learning_rate: float = 3e-3
    augmentation: str | None = None
    """Random changes of each training image: one of `augmentation.NAMES`, several joined by "_", or None."""

    def __post_init__(self) -> None:
        """Validates the fields."""
        for name in ("epochs", "batch_size", "peak_learning_rate"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}: it must be above 0")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed is {self.seed}: it must be a whole number from 0 to 2^32 - 1")
        if self.augmentation is not None:
            augmenter(self.augmentation)


class Trained(NamedTuple):
    """The result of a training."""

    parameters: Parameters
    """NumPy arrays, which are not bound to any device."""
    metrics: dict[str, Any]
    """JSON values. A classifier's: test_accuracy, test_loss, validation_accuracy, best_epoch (from 1), training_seconds
    and `epochs`, a row per epoch.

    A row's train_loss and train_accuracy are means over the steps of the epoch, so they are of the network while it
    learns, with dropout and augmentation.
    """


def default_epochs(dataset_name: str, model_name: str) -> int:
    """Epochs after which accuracy no longer rises: 3 on MNIST, 6 on Fashion-MNIST, 40 on the small digits, else 10.

    Dense and recurrent networks get three times as many: they need more, and their epochs are far cheaper.
    """
    return _EPOCHS.get(dataset_name, 10) * (3 if model_name in ("logistic", "mlp", "dropout_mlp", "rnn", "lstm") else 1)


def default_augmentation(dataset_name: str) -> str | None:
    """Flips and shifts for CIFAR-10, on which networks overfit without them; none for other data sets."""
    return "flip_shift" if dataset_name.partition(":")[0] == "cifar10" else None


def to_unit_range(images_u8: jax.Array) -> jax.Array:
    """uint8 images 0..255 -> float32 on the [0, 1] scale, on which every network is trained and tested."""
    return images_u8.astype(jnp.float32) / 255


def one_cycle(peak_learning_rate: float, steps: int) -> optax.GradientTransformation:
    """Adam under a cosine one-cycle schedule, which rises from peak / 25 for a quarter of the steps, and then falls."""
    schedule = optax.cosine_onecycle_schedule(
        steps, peak_learning_rate, pct_start=0.25, div_factor=25, final_div_factor=1e3
    )
    return optax.adam(schedule)


def fit(spec: TrainingSpec, dataset: Dataset, report: Report = silent, state_dir: Path | None = None) -> Trained:
    """Trains a classifier by Adam on the cross-entropy, under a cosine one-cycle schedule.

    The parameters of the epoch with the best validation accuracy are kept; with these the test set is classified once,
    at the end.

    Args:
        spec: what to train and how.
        dataset: its `train`, `validation` and `test` splits are used.
        report: called every few steps with the batch's loss and accuracy, and after each epoch also with
            validation_loss and validation_accuracy.
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
    steps = spec.epochs * (size // min(spec.batch_size, size))
    step = _step_of(module, spec.peak_learning_rate, steps, spec.augmentation)
    train = jax.tree.map(jnp.asarray, dataset.train)

    def judge(parameters: Parameters) -> tuple[Parameters, dict[str, float]]:
        evaluated = _with_statistics(module, parameters, dataset.train.images)
        validation = evaluate(Network(module, evaluated), dataset.validation)
        return evaluated, {f"validation_{name}": value for name, value in validation.items()}

    trained = descend(
        spec,
        size,
        Descent(parameters, one_cycle(spec.peak_learning_rate, steps).init(parameters)),
        lambda parameters, state, batch, index: step(parameters, state, train, batch, key, np.uint32(index)),
        judge,
        lambda row: row["validation_accuracy"],
        report,
        state_dir,
    )
    best = trained.history[trained.best_epoch]
    test = evaluate(Network(module, trained.best), dataset.test)
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
    """The state of a training after some whole epochs."""

    parameters: Parameters
    optimiser_state: Any
    best: Parameters = None
    """What the judge made of the parameters after the best epoch so far."""
    best_epoch: int = -1
    """From 0 on."""
    history: Sequence[dict[str, float]] = ()
    """A row per epoch: means of the steps' figures under train_ names, and the judge's figures."""
    seconds: float = 0.0

    def state(self) -> State:
        """As it is stored."""
        record = [self.best_epoch, self.history, self.seconds]
        return State(len(self.history), (self.parameters, self.optimiser_state, self.best), record)


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
    """The training loop of classifiers and autoencoders: every epoch is judged, and the best one's parameters are kept.

    An epoch is a permutation of the training images, determined by seed and epoch number, and cut into batches; the
    last, incomplete batch is left out.

    Args:
        spec: gives seed, epochs and batch_size, names the training in messages, and identifies its saved state.
        size: the number of training images.
        start: the initial parameters and optimiser state.
        step: parameters, optimiser state, indices of the batch's images, number of the step from 1 on -> the next
            parameters and state, and the batch's figures, among them "loss".
        judge: parameters -> parameters for evaluation, and the epoch's figures.
        score: a row of the history -> number; the first epoch with the largest is the best.
        report: called every few steps with the figures.
        state_dir: the state is saved there after an epoch, if the last save is some seconds ago, and on an interrupt;
            a training of the same spec resumes from it. The caller deletes it.

    Raises:
        InputError: training diverged.
    """
    batch_size = min(spec.batch_size, size)
    steps = size // batch_size
    images = spec.epochs * steps * batch_size

    def tell(done: int, figures: dict[str, float]) -> None:
        report(Progress(f"training {spec.model}", done * batch_size, images, "images", figures))

    def one_more_epoch(course: Descent) -> tuple[Descent, dict[str, float]]:
        """The training after the next epoch, and the figures at its end."""
        epoch, started = len(course.history), time.perf_counter()
        order = np.random.default_rng((spec.seed, epoch)).permutation(size).astype(np.int32)
        parameters, optimiser_state = course.parameters, course.optimiser_state
        of_steps: list[dict[str, jax.Array]] = []
        for i in range(steps):
            done, batch = epoch * steps + i + 1, order[i * batch_size : (i + 1) * batch_size]
            parameters, optimiser_state, of_batch = step(parameters, optimiser_state, batch, done)
            of_steps.append(of_batch)
            if i + 1 == steps or done % _STEPS_PER_REPORT == 0:
                figures = {name: float(value) for name, value in of_batch.items()}
                if not np.isfinite(figures["loss"]):
                    raise InputError(
                        f"training of {spec.model} diverged in epoch {epoch + 1} (loss {figures['loss']}): a peak "
                        f"learning rate of {spec.peak_learning_rate} is too high here, lower it"
                    )
                if i + 1 < steps:
                    tell(done, figures)
        judged, found = judge(parameters)
        means = {name: np.mean(jax.device_get([row[name] for row in of_steps])) for name in figures}
        history = [*course.history, {f"train_{name}": float(mean) for name, mean in means.items()} | found]
        best, best_epoch = course.best, course.best_epoch
        if best_epoch < 0 or score(history[-1]) > score(history[best_epoch]):
            best, best_epoch = judged, epoch
        seconds = course.seconds + time.perf_counter() - started
        return Descent(parameters, optimiser_state, best, best_epoch, history, seconds), figures | found

    course = start
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Store(state_dir, asdict(spec))) if state_dir else None
        if store and (state := store.load(lambda _: (start.parameters, start.optimiser_state, start.parameters))):
            course = Descent(*state.tree, *state.record)
        try:
            while len(course.history) < spec.epochs:
                course, figures = one_more_epoch(course)
                if store and len(course.history) < spec.epochs:
                    store.save_now_and_then(course.state())
                tell(len(course.history) * steps, figures)
        except KeyboardInterrupt:
            if store and course.history:
                store.save(course.state())
            raise
    return course


def predict(network: Callable[[jax.Array], jax.Array], images: np.ndarray) -> np.ndarray:
    """The logits [n, K] of images [n, H, W, C] on the [0, 1] scale."""
    return map_over(lambda batch: compilation.call(network, batch), (images,), _EVALUATION_BATCH)


def evaluate(network: Callable[[jax.Array], jax.Array], split: Split) -> dict[str, float]:
    """Accuracy (a fraction) and mean cross-entropy (nats) of a network on a split."""
    correct, loss = sum_over(lambda *batch: _correct_and_loss(network, *batch), tuple(split), _EVALUATION_BATCH)
    return {"accuracy": int(correct) / len(split.labels), "loss": float(loss) / len(split.labels)}


@compilation.jit
def _correct_and_loss(
    network: Callable[[jax.Array], jax.Array], images_u8: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    logits = network(to_unit_range(images_u8))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return (logits.argmax(axis=-1) == labels).sum(), losses.sum()


@functools.lru_cache(maxsize=16)
def _step_of(
    module: nn.Module, peak_learning_rate: float, steps: int, augmentation: str | None
) -> Callable[..., tuple[Parameters, Any, dict[str, jax.Array]]]:
    """The jitted step of a kind of training; trainings that differ in seed or data alone share the compiled program.

    Stepping stays a Python loop, since in a `lax.scan` the gradients of convolutions are far slower on a CPU.
    """
    optimiser = one_cycle(peak_learning_rate, steps)
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
        parameters: Parameters, state: Any, train: Split, batch: jax.Array, seed_key: jax.Array, index: jax.Array
    ) -> tuple[Parameters, Any, dict[str, jax.Array]]:
        key = jax.random.fold_in(seed_key, index)
        shown = to_unit_range(train.images[batch])
        if augment:
            shown = jax.vmap(augment)(jax.random.split(jax.random.fold_in(key, 1), len(batch)), shown)
        gradient, figures = jax.grad(loss_and_figures, has_aux=True)(parameters, shown, train.labels[batch], key)
        return *moved(optimiser, parameters, state, gradient), figures

    return step


def moved(
    optimiser: optax.GradientTransformation, parameters: Parameters, state: Any, gradient: Parameters
) -> tuple[Parameters, Any]:
    """Parameters and optimiser state after one update."""
    with jax.numpy_dtype_promotion("standard"):  # optax does not follow the strict rules that the tests set
        updates, state = optimiser.update(gradient, state, parameters)
    return optax.apply_updates(parameters, updates), state


def _with_statistics(module: nn.Module, parameters: Parameters, images_u8: np.ndarray) -> Parameters:
    """Parameters for evaluation: batch normalisation uses the mean statistics of 10 batches of training images.

    They are "precise" statistics (Wu & Johnson 2021): of the parameters as they are, not a running mean over training.
    """
    count = min(10, len(images_u8))
    batches = np.split(images_u8[: count * min(500, len(images_u8) // count)], count)
    statistics = [_batch_statistics(module, parameters, batch) for batch in batches]
    return fold_statistics(parameters, jax.tree.map(lambda *parts: sum(parts) / len(parts), *statistics))


@functools.partial(jax.jit, static_argnums=0)
def _batch_statistics(module: nn.Module, parameters: Parameters, images_u8: jax.Array) -> dict:
    _, state = module.apply({"params": parameters}, to_unit_range(images_u8), mutable=["batch_statistics"])
    return state.get("batch_statistics", {})  # without such layers the compiled program computes nothing
