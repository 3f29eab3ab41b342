"""Training a classifier of the registry on a data set, with optax under jit."""

import contextlib
import functools
import operator
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
from wna_jax.networks import models, regimes
from wna_jax.networks.models.layers import fold_statistics
from wna_jax.networks.network import Network, Parameters
from wna_jax.runs import compilation
from wna_jax.runs.accumulate import map_over, sum_over
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Progress, Report, silent
from wna_jax.runs.seeds import key_of
from wna_jax.runs.store import State, Store

_EPOCHS = {"digits": 40, "mnist": 3, "fashion_mnist": 6}
_EVALUATION_BATCH = 500
_STEPS_PER_REPORT = 20
Figures = dict[str, float]
"""Losses, accuracies and their like, by name."""
Step = Callable[..., tuple[Parameters, Any, dict[str, jax.Array]]]
"""Parameters, optimiser state, training images and labels, the indices of a batch, random key of the training, number
of the step from 0 on -> parameters and state after an update, and the batch's figures."""


@dataclass(frozen=True)
class TrainingSpec:
    """Everything that determines the result of a training; it is stored with the parameters.

    With the `fingerprint` of the data, a checkpoint is never taken for one of other data under the same name. Training
    images are changed by the `augmentation`: one of `augmentation.NAMES` or of the table in `regimes`, several joined
    by "_", or None.
    """

    dataset: str
    fingerprint: str
    model: str
    seed: int = 0
    epochs: int = 10
    batch_size: int = 128
    peak_learning_rate: float = 3e-3
    augmentation: str | None = None

    def __post_init__(self) -> None:
        """Validates the fields."""
        check_positive(self, "epochs", "batch_size", "peak_learning_rate")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed is {self.seed}: it must be a whole number from 0 to 2^32 - 1")
        regimes.of_text(self.augmentation)


def check_positive(spec: Any, *names: str) -> None:
    """Raises an `InputError` for a field of a spec that is not above 0."""
    for name in names:
        if not getattr(spec, name) > 0:
            raise InputError(f"{name} is {getattr(spec, name)}: it must be above 0")


class Trained(NamedTuple):
    """The result of a training: parameters, which as NumPy arrays are not bound to any device, and JSON values.

    A classifier's metrics are test_accuracy, test_loss, validation_accuracy, best_epoch (from 1), training_seconds and
    `epochs`, a row per epoch. A row's train_loss and train_accuracy are means over the steps of the epoch, so they are
    of the network while it learns, with dropout and augmentation.
    """

    parameters: Parameters
    metrics: dict[str, Any]


def default_epochs(dataset_name: str, model_name: str) -> int:
    """Epochs after which accuracy no longer rises: 3 on MNIST, 6 on Fashion-MNIST, 40 on the small digits, else 10.

    Dense and recurrent networks get three times as many: they need more, and their epochs are far cheaper.
    """
    return _EPOCHS.get(dataset_name, 10) * (3 if model_name in ("logistic", "mlp", "dropout_mlp", "rnn", "lstm") else 1)


def default_augmentation(dataset_name: str) -> str | None:
    """Flips and shifts for CIFAR-10, on which networks overfit without them; none for other data sets."""
    return "flip_shift" if dataset_name.partition(":")[0] == "cifar10" else None


def in_regime(regime: str, dataset_name: str) -> str | None:
    """The `augmentation` of a spec for a regime of the table in `regimes`: it adds to what is usual for the data set.

    Raises:
        InputError: no such regime.
    """
    usual = default_augmentation(dataset_name)
    if regime == regimes.PLAIN:
        return usual
    regimes.of_text(regime)
    return regime if usual is None else f"{usual}_{regime}"


def to_unit_range(images_u8: jax.Array) -> jax.Array:
    """uint8 images 0..255 -> float32 on the [0, 1] scale, on which every network is trained and tested."""
    return images_u8.astype(jnp.float32) / 255


def one_cycle(peak_learning_rate: float, steps: int) -> optax.GradientTransformation:
    """Adam under a cosine one-cycle schedule, which rises from peak / 25 for a quarter of the steps, and then falls."""
    schedule = optax.cosine_onecycle_schedule(steps, peak_learning_rate, 0.25, div_factor=25, final_div_factor=1e3)
    return optax.adam(schedule)


def fit(spec: TrainingSpec, dataset: Dataset, report: Report = silent, state_dir: Path | None = None) -> Trained:
    """Trains a classifier by Adam on the cross-entropy (in nats), under a cosine one-cycle schedule.

    The parameters of the epoch with the best validation accuracy are kept; with these the test set is classified once,
    at the end. For `report` and `state_dir` see `descend`; after each epoch validation_loss and validation_accuracy are
    reported too.

    Raises:
        InputError: the model does not exist or does not take such images, or training diverged.
    """
    module = models.create(spec.model, dataset.image_shape, dataset.num_classes)
    size = len(dataset.train.labels)
    steps = spec.epochs * (size // min(spec.batch_size, size))
    step = _step_of(module, spec.peak_learning_rate, steps, spec.augmentation)
    parameters = models.initial_parameters(module, key_of(spec.seed))
    start = Descent(parameters, one_cycle(spec.peak_learning_rate, steps).init(parameters))

    def judge(parameters: Parameters) -> tuple[Parameters, Figures]:
        evaluated = _with_statistics(module, parameters, dataset.train.images)
        validation = evaluate(Network(module, evaluated), dataset.validation)
        return evaluated, {f"validation_{name}": value for name, value in validation.items()}

    score = operator.itemgetter("validation_accuracy")
    trained = descend(spec, dataset.train, start, step, judge, score, report, state_dir)
    test = evaluate(Network(module, trained.best), dataset.test)
    scores = {"test_accuracy": test["accuracy"], "test_loss": test["loss"]}
    return trained.result(scores, "validation_accuracy")


class Descent(NamedTuple):
    """The state of a training after some whole epochs.

    `best` is what the judge made of the parameters after the `best_epoch` (from 0 on) so far. A row of the `history`
    has the means of an epoch's steps' figures, under train_ names, and the judge's figures.
    """

    parameters: Parameters
    optimiser_state: Any
    best: Parameters = None
    best_epoch: int = -1
    history: Sequence[Figures] = ()
    seconds: float = 0.0

    def state(self) -> State:
        """As it is stored."""
        record = [self.best_epoch, self.history, self.seconds]
        return State(len(self.history), (self.parameters, self.optimiser_state, self.best), record)

    def result(self, scores: Figures, judged_by: str) -> Trained:
        """The best parameters, with some scores, the best epoch's figure of a name, and the course of the training."""
        course = {
            judged_by: self.history[self.best_epoch][judged_by],
            "best_epoch": self.best_epoch + 1,
            "training_seconds": round(self.seconds, 2),
            "epochs": self.history,
        }
        return Trained(jax.tree.map(np.asarray, self.best), {**scores, **course})


def descend(
    spec: TrainingSpec,
    train: Split,
    start: Descent,
    step: Step,
    judge: Callable[[Parameters], tuple[Parameters, Figures]],
    score: Callable[[Figures], float],
    report: Report = silent,
    state_dir: Path | None = None,
) -> Descent:
    """The training loop of classifiers and autoencoders: every epoch is judged, and the best one's parameters are kept.

    An epoch is a permutation of the training images, determined by seed and epoch number, and cut into batches; the
    last, incomplete batch is left out. Every few steps the figures are reported.

    Args:
        spec: gives seed, epochs and batch_size, names the training in messages, and identifies its saved state.
        start: the initial parameters and optimiser state.
        step: such as `step_along` makes; one of its figures is "loss".
        judge: parameters -> parameters for evaluation, and the epoch's figures.
        score: a row of the history -> number; the first epoch with the largest is the best.
        state_dir: the state is saved there after an epoch, if the last save is some seconds ago, and on an interrupt;
            a training of the same spec resumes from it. The caller deletes it.

    Raises:
        InputError: training diverged.
    """
    size, key, on_device = len(train.labels), key_of(spec.seed), jax.tree.map(jnp.asarray, train)
    batch_size = min(spec.batch_size, size)
    steps = size // batch_size
    images = spec.epochs * steps * batch_size
    together = _steps_together(steps)
    take = _one(step) if together == 1 else _in_a_scan(step)

    def tell(done: int, figures: Figures) -> None:
        report(Progress(f"training {spec.model}", done * batch_size, images, "images", figures))

    def one_more_epoch(course: Descent) -> tuple[Descent, Figures]:
        """The training after the next epoch, and the figures at its end."""
        epoch, started = len(course.history), time.perf_counter()
        order = np.random.default_rng((spec.seed, epoch)).permutation(size).astype(np.int32)
        parameters, optimiser_state = course.parameters, course.optimiser_state
        batches = order[: steps * batch_size].reshape(steps, batch_size)
        numbers = np.arange(steps, dtype=np.uint32) + np.uint32(epoch * steps)
        of_steps: list[dict[str, jax.Array]] = []
        for some in np.split(np.arange(steps), range(together, steps, together)):
            parameters, optimiser_state, figures = take(
                parameters, optimiser_state, on_device, batches[some], key, numbers[some]
            )
            of_steps.append(figures)
            done = int(some[-1]) + 1
            if done == steps or (epoch * steps + done) % _STEPS_PER_REPORT == 0:
                latest = {name: float(value[-1]) for name, value in figures.items()}
                if not np.isfinite(latest["loss"]):
                    problem = f"training of {spec.model} diverged in epoch {epoch + 1} (loss {latest['loss']})"
                    rate = f"a peak learning rate of {spec.peak_learning_rate}"
                    raise InputError(f"{problem}: {rate} is too high here, lower it")
                if done < steps:
                    tell(epoch * steps + done, latest)
        judged, found = judge(parameters)
        means = {name: np.mean(np.concatenate(jax.device_get([row[name] for row in of_steps]))) for name in latest}
        history = [*course.history, {f"train_{name}": float(mean) for name, mean in means.items()} | found]
        best, best_epoch = course.best, course.best_epoch
        if best_epoch < 0 or score(history[-1]) > score(history[best_epoch]):
            best, best_epoch = judged, epoch
        seconds = course.seconds + time.perf_counter() - started
        return Descent(parameters, optimiser_state, best, best_epoch, history, seconds), latest | found

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


def _steps_together(steps: int) -> int:
    """Per dispatch: an accelerator takes a whole epoch; on a CPU, gradients of convolutions are slow in a scan."""
    return 1 if jax.default_backend() == "cpu" else steps


def _one(step: Step) -> Step:
    """A step whose batch, number and figures have a first axis of one, as `_in_a_scan` takes and gives them."""

    def take(parameters: Parameters, state: Any, train: Split, batches: Any, key: jax.Array, numbers: Any) -> Any:
        *moved, figures = step(parameters, state, train, batches[0], key, numbers[0])
        return *moved, {name: value[None] for name, value in figures.items()}

    return take


@functools.lru_cache(maxsize=16)
def _in_a_scan(step: Step) -> Step:
    """Several steps in one program: an accelerator does not wait for the host between them."""

    @jax.jit
    def take(parameters: Parameters, state: Any, train: Split, batches: Any, key: jax.Array, numbers: Any) -> Any:
        def one(carry: Any, batch_and_number: Any) -> Any:
            batch, number = batch_and_number
            *moved, figures = step(*carry, train, batch, key, number)
            return tuple(moved), figures

        (parameters, state), figures = jax.lax.scan(one, (parameters, state), (batches, numbers))
        return parameters, state, figures

    return take


def predict(network: Callable[[jax.Array], jax.Array], images: np.ndarray) -> np.ndarray:
    """The logits [n, K] of images [n, H, W, C] on the [0, 1] scale."""
    return map_over(lambda batch: compilation.call(network, batch), (images,), _EVALUATION_BATCH)


def evaluate(network: Callable[[jax.Array], jax.Array], split: Split) -> Figures:
    """Accuracy (a fraction) and mean cross-entropy (nats) of a network on a split."""
    correct, loss = sum_over(lambda *batch: _judged(network, *batch), tuple(split), _EVALUATION_BATCH)
    return {"accuracy": int(correct) / len(split.labels), "loss": float(loss) / len(split.labels)}


@compilation.jit
def _judged(network: Callable[[jax.Array], jax.Array], images_u8: jax.Array, labels: jax.Array) -> Any:
    return correct_and_loss(network(to_unit_range(images_u8)), labels)


def correct_and_loss(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The number of right answers, and the sum of the cross-entropies, for logits [n, K]."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return (logits.argmax(axis=-1) == labels).sum(), losses.sum()


@functools.lru_cache(maxsize=16)
def _step_of(module: nn.Module, peak_learning_rate: float, steps: int, augmentation: str | None) -> Step:
    """The jitted step of a kind of training; trainings that differ in seed or data alone share the compiled program."""
    augment, epsilon = regimes.of_text(augmentation)

    def loss_and_figures(parameters: Parameters, images: jax.Array, labels: jax.Array, key: jax.Array) -> tuple:
        if augment:
            images = jax.vmap(augment)(jax.random.split(jax.random.fold_in(key, 1), len(images)), images)
        rngs = {"dropout": jax.random.fold_in(key, 0)}

        def logits_of(images: jax.Array) -> jax.Array:
            return module.apply({"params": parameters}, images, rngs=rngs, mutable=["batch_statistics"])[0]

        if epsilon:
            images = regimes.adversarial(logits_of, jax.random.fold_in(key, 2), images, labels, epsilon)
        logits = logits_of(images)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return loss, {"loss": loss, "accuracy": jnp.mean(logits.argmax(axis=-1) == labels)}

    return step_along(loss_and_figures, one_cycle(peak_learning_rate, steps))


def step_along(loss_and_figures: Callable[..., tuple], optimiser: optax.GradientTransformation, first: int = 1) -> Step:
    """The jitted step along a gradient: of (parameters, images in [0, 1], labels, random key) -> loss, figures.

    The random key of a step is made of its number; that of the `first` is given.
    """

    @jax.jit
    def step(
        parameters: Parameters, state: Any, train: Split, batch: jax.Array, seed_key: jax.Array, number: jax.Array
    ) -> tuple[Parameters, Any, dict[str, jax.Array]]:
        key = jax.random.fold_in(seed_key, number + np.uint32(first))
        images, labels = (array[batch] for array in train)
        gradient, figures = jax.grad(loss_and_figures, has_aux=True)(parameters, to_unit_range(images), labels, key)
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
