"""Generative adversarial networks: a generator learns to make images that a discriminator takes for those of the data.

The two are a DCGAN (Radford et al. 2016, arXiv 1511.06434): the decoder and the encoder of `models.generative`. They
take turns, one step each: the discriminator on half real, half generated images, then the generator against it.
"""

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from wna_jax.data import Dataset
from wna_jax.errors import InputError
from wna_jax.jobs import State, Store
from wna_jax.models.generative import ConvolutionalDecoder, ConvolutionalEncoder
from wna_jax.models.layers import fold_statistics
from wna_jax.progress import Progress, Report, silent
from wna_jax.training import Parameters, to_unit_range

_STEPS_PER_REPORT = 20
_FIRST_LOOK = 64
_SHOWN = 12
_STATISTICS_CODES = 512
_BATCH = 250
HELD_OUT = 1000
"""Validation images, at most, from which the distance is measured as training goes on."""


@dataclass(frozen=True)
class AdversarialSpec:
    """Everything that decides what the training of a GAN gives, but for how long it lasts."""

    dataset: str
    fingerprint: str
    """Of the data."""
    seed: int = 0
    batch_size: int = 64
    """Real images in a step, beside as many generated ones."""
    learning_rate: float = 4e-4
    """Of Adam, for both networks."""
    beta1: float = 0.5
    """Adam's momentum, for both: .9, as usual elsewhere, makes the two oscillate (arXiv 1511.06434)."""
    beta2: float = 0.999
    width: int = 32
    """Channels of the map of half the image's size; each further halving has twice as many."""
    code_size: int = 64
    averaging: float = 0.999
    """Decay of the exponential average of the generator's parameters, whose images are shown."""

    def __post_init__(self) -> None:
        """Says at once what cannot be trained."""
        for name in ("batch_size", "learning_rate", "width", "code_size"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}: it must be above 0")
        for name in ("beta1", "beta2", "averaging"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: it must be from 0 to below 1")


class Players(NamedTuple):
    """What a step changes: the parameters of both, the generator's average, and the optimisers' states."""

    generator: Parameters
    discriminator: Parameters
    average: Parameters
    generator_state: Any
    discriminator_state: Any


class Course(NamedTuple):
    """How far a run is, and what it was on the way."""

    steps: int
    players: Players
    losses: list[jax.Array]
    """Of discriminator and generator, in nats: [2] for each step."""
    looks: list[tuple[int, np.ndarray, np.ndarray]]
    """After 0, 64, 128, 256, ... steps: steps, the distance to the validation images [], generated images."""


class Trained(NamedTuple):
    """A trained generator, and how it came to be."""

    generate: Callable[[int, int], np.ndarray]
    """Count and seed -> images [n, H, W, C] in [0, 1] of the averaged generator."""
    players: Players
    steps: int
    losses: np.ndarray
    """Of discriminator and generator, in nats, [steps, 2]."""
    snapshots: dict[int, np.ndarray]
    """After 0, 64, 128, 256, ... steps and at the end: images of the same 12 codes, [12, H, W, C] in [0, 1]."""
    distances: dict[int, float]
    """After as many steps: `sliced_wasserstein` of as many generated as validation images, at most 1,000."""


def networks(
    spec: AdversarialSpec, image_shape: tuple[int, int, int]
) -> tuple[ConvolutionalDecoder, ConvolutionalEncoder]:
    """Generator and discriminator: images are halved as long as their sides are even and above 7.

    Raises:
        InputError: images that cannot be halved down to 15 pixels or fewer.
    """
    halvings, sides = 0, list(image_shape[:2])
    while min(sides) > 7 and not any(side % 2 for side in sides):
        halvings, sides = halvings + 1, [side // 2 for side in sides]
    if not halvings or min(sides) > 15:
        height, width, _ = image_shape
        raise InputError(
            f"images of {width}x{height} cannot be halved down to 15 pixels or fewer: resize them, such as to 64x64"
        )
    widths = tuple(spec.width * 2**i for i in range(halvings))
    return ConvolutionalDecoder(image_shape, widths, normalised=True), ConvolutionalEncoder(image_shape, widths, 1)


def fit(
    spec: AdversarialSpec, dataset: Dataset, epochs: int, state_dir: Path | None = None, report: Report = silent
) -> Trained:
    """Trains a GAN by Adam on the non-saturating losses (Goodfellow et al. 2014, arXiv 1406.2661).

    With D the discriminator's logit, x real and G(z) generated images, means over a batch: softplus(-D(x)) +
    softplus(D(G(z))) for the discriminator, then softplus(-D(G(z))), against the new D, for the generator. While it
    learns, the generator is normalised by the statistics of its batch; to be looked at, by those of 512 codes.

    Args:
        spec: what to train and how.
        dataset: its `train` images, and the `validation` images for the distances.
        epochs: passes over the training images.
        state_dir: where the state is kept: a run that was stopped, or is given more epochs, goes on from it, to the
            same bits.
        report: called every few steps with both losses.

    Raises:
        InputError: too few images, images that cannot be halved, a state of another spec, or divergence.
    """
    if epochs < 1:
        raise InputError(f"epochs is {epochs}: it must be above 0")
    images = dataset.train.images
    steps_an_epoch = len(images) // spec.batch_size
    total = epochs * steps_an_epoch
    if not total:
        raise InputError(
            f"{dataset.name} has {len(images)} training images, which makes no batch of {spec.batch_size}: "
            "add some, or take fewer real images in a step"
        )
    generator, discriminator = networks(spec, dataset.image_shape)
    optimiser = optax.adam(spec.learning_rate, spec.beta1, spec.beta2)
    key = jax.random.key(spec.seed)
    step = _make_step(spec, generator, discriminator, optimiser, jnp.asarray(images))
    draw = _make_draw(spec, generator)
    held_out = dataset.validation.images[:HELD_OUT] / np.float32(255)

    def look(steps: int, players: Players) -> tuple[int, np.ndarray, np.ndarray]:
        distance = sliced_wasserstein(draw(players, len(held_out), spec.seed), held_out)
        return steps, np.asarray(distance), draw(players, _SHOWN, spec.seed + 1)

    with contextlib.ExitStack() as stack:
        players = _start(spec, generator, discriminator, optimiser, dataset.image_shape)
        store = stack.enter_context(Store(state_dir, asdict(spec))) if state_dir else None
        state = store.load() if store else None
        course = _course_of(state, jax.tree.structure(players)) if state else Course(0, players, [], [look(0, players)])
        if course.steps > total:
            raise InputError(
                f"{state_dir} holds a run of {course.steps:,} steps, {epochs} epochs are {total:,}: ask for at least "
                "as many, or give another output directory"
            )
        if store:
            stack.callback(lambda: _save_if_sound(store, course))  # however this ends: `course` is always a whole one
        for index in range(course.steps, total):
            epoch, i = divmod(index, steps_an_epoch)
            if i == 0 or index == course.steps:
                order = np.random.default_rng((spec.seed, epoch)).permutation(len(images)).astype(np.int32)
            batch = order[i * spec.batch_size : (i + 1) * spec.batch_size]
            players, losses = step(course.players, batch, jax.random.fold_in(key, index), np.float32(index))
            done = index + 1
            looked = [look(done, players)] if done >= _FIRST_LOOK and done.bit_count() == 1 else []
            course = Course(done, players, [*course.losses, losses], [*course.looks, *looked])
            if done % _STEPS_PER_REPORT and done < total:
                continue
            recent = np.mean(course.losses[-_STEPS_PER_REPORT:], axis=0)
            if not np.isfinite(recent).all():
                raise InputError(
                    f"training diverged at step {done}: a learning_rate of {spec.learning_rate} is too high here, "
                    "give a lower one and another output directory"
                )
            if store:
                store.save_now_and_then(_state_of(course))
            figures = {"discriminator": float(recent[0]), "generator": float(recent[1])}
            report(Progress("training the GAN", done * spec.batch_size, total * spec.batch_size, "images", figures))
    looks = course.looks if course.looks[-1][0] == total else [*course.looks, look(total, course.players)]
    return Trained(
        lambda count, seed: draw(course.players, count, seed),
        jax.tree.map(np.asarray, course.players),
        total,
        np.asarray(course.losses),
        {steps: shown for steps, _, shown in looks},
        {steps: float(distance) for steps, distance, _ in looks},
    )


def sliced_wasserstein(first: np.ndarray, second: np.ndarray, directions: int = 512, seed: int = 0) -> float:
    """Sliced Wasserstein distance of two sets of images (Rabin et al. 2012), in units of pixel intensity.

    SW^2 = mean over directions u of mean_i (a_(i) - b_(i))^2, with a_(i) and b_(i) the sorted projections of the sets
    on u, which is drawn from N(0, 1) for each pixel, divided by the square root of their number. Sets that differ by a
    constant c in all pixels are about c apart. Two samples of one distribution are not at 0: compare with that.

    Args:
        first: images [n, H, W, C].
        second: as many.
        directions: how many.
        seed: of the directions.
    """
    pixels = first[0].size
    projection = np.random.default_rng(seed).standard_normal((pixels, directions), np.float32)
    a, b = (np.sort(images.reshape(-1, pixels) @ projection, axis=0) for images in (first, second))
    return float(np.sqrt(np.mean((a - b) ** 2) / pixels))


def _start(
    spec: AdversarialSpec, generator: Any, discriminator: Any, optimiser: Any, image_shape: tuple[int, int, int]
) -> Players:
    keys = jax.random.split(jax.random.key(spec.seed))
    makes = jax.jit(generator.init)(keys[0], jnp.zeros((1, spec.code_size)))["params"]
    judges = jax.jit(discriminator.init)(keys[1], jnp.zeros((1, *image_shape)))["params"]
    return Players(makes, judges, makes, optimiser.init(makes), optimiser.init(judges))


def _make_step(
    spec: AdversarialSpec,
    generator: ConvolutionalDecoder,
    discriminator: ConvolutionalEncoder,
    optimiser: optax.GradientTransformation,
    images: jax.Array,
) -> Callable[..., tuple[Players, jax.Array]]:
    def judged(parameters: Parameters, shown: jax.Array) -> jax.Array:
        return discriminator.apply({"params": parameters}, shown)

    def made(parameters: Parameters, codes: jax.Array) -> jax.Array:
        logits, _ = generator.apply({"params": parameters}, codes, mutable=["batch_statistics"])
        return jax.nn.sigmoid(logits)

    def discriminator_loss(parameters: Parameters, real: jax.Array, fake: jax.Array) -> jax.Array:
        half = len(real)
        logits = judged(parameters, jnp.concatenate([real, fake]))
        return jax.nn.softplus(-logits[:half]).mean() + jax.nn.softplus(logits[half:]).mean()

    def generator_loss(fake: jax.Array, parameters: Parameters) -> jax.Array:
        return jax.nn.softplus(-judged(parameters, fake)).mean()

    def moved(parameters: Parameters, state: Any, gradient: Parameters) -> tuple[Parameters, Any]:
        with jax.numpy_dtype_promotion("standard"):  # optax does not hold to the strict rules that we test under
            updates, state = optimiser.update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), state

    @jax.jit
    def step(
        players: Players, images: jax.Array, batch: jax.Array, key: jax.Array, index: jax.Array
    ) -> tuple[Players, jax.Array]:
        codes = jax.random.normal(key, (spec.batch_size, spec.code_size))
        fake, back_to_generator = jax.vjp(lambda parameters: made(parameters, codes), players.generator)
        loss_d, gradient = jax.value_and_grad(discriminator_loss)(
            players.discriminator, to_unit_range(images[batch]), fake
        )
        judges, state_d = moved(players.discriminator, players.discriminator_state, gradient)
        loss_g, back_to_images = jax.value_and_grad(generator_loss)(fake, judges)
        makes, state_g = moved(players.generator, players.generator_state, *back_to_generator(back_to_images))
        decay = jnp.minimum(spec.averaging, (1 + index) / (10 + index))  # an average of few steps forgets the start
        average = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, players.average, makes)
        return Players(makes, judges, average, state_g, state_d), jnp.stack([loss_d, loss_g])

    return lambda players, batch, key, index: step(players, images, batch, key, index)


def _make_draw(spec: AdversarialSpec, generator: ConvolutionalDecoder) -> Callable[[Players, int, int], np.ndarray]:
    """Players, count and seed -> images of the averaged generator, a pure function of the code."""

    @jax.jit
    def folded(parameters: Parameters) -> Parameters:
        codes = jax.random.normal(jax.random.key(spec.seed), (_STATISTICS_CODES, spec.code_size))
        _, state = generator.apply({"params": parameters}, codes, mutable=["batch_statistics"])
        return fold_statistics(parameters, state["batch_statistics"])

    @jax.jit
    def decode(parameters: Parameters, codes: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(generator.apply({"params": parameters}, codes))

    def draw(players: Players, count: int, seed: int) -> np.ndarray:
        parameters = folded(players.average)
        codes = jax.random.normal(jax.random.fold_in(jax.random.key(seed), 1), (count, spec.code_size))
        return np.concatenate([decode(parameters, codes[i : i + _BATCH]) for i in range(0, count, _BATCH)])

    return draw


def _state_of(course: Course) -> State:
    players = [np.asarray(leaf) for leaf in jax.tree.leaves(course.players)]
    losses = np.asarray(course.losses, np.float32).reshape(-1, 2)
    return State(course.steps, players, [[losses], *([np.asarray(part) for part in look] for look in course.looks)])


def _save_if_sound(store: Store, course: Course) -> None:
    if np.isfinite(course.losses[-1:]).all():
        store.save(_state_of(course))


def _course_of(state: State, structure: Any) -> Course:
    (losses,), *looks = state.course
    players = jax.tree.unflatten(structure, state.sums)
    return Course(state.batches, players, list(losses), [(int(steps), at, shown) for steps, at, shown in looks])
