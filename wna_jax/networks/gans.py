"""Generative adversarial networks: a generator learns to make images that a discriminator takes for real ones.

The two are a DCGAN (Radford et al. 2016, arXiv 1511.06434): the decoder and the encoder of `models.generative`. Each
training step first updates the discriminator, on half real and half generated images, and then the generator.
"""

import contextlib
import functools
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import register_dataclass
from jaxtyping import Float

from wna_jax.data import Dataset
from wna_jax.networks.gan_scores import HELD_OUT, sliced_wasserstein
from wna_jax.networks.models import initialised
from wna_jax.networks.models.generative import ConvolutionalDecoder, ConvolutionalEncoder
from wna_jax.networks.models.layers import fold_statistics
from wna_jax.networks.network import Parameters
from wna_jax.networks.training import check_positive, moved, to_unit_range
from wna_jax.runs.accumulate import map_over
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Progress, Report, silent
from wna_jax.runs.seeds import key_of
from wna_jax.runs.store import State, Store

NETWORKS = ("discriminator", "generator")
"""The order of losses."""
_STEPS_PER_REPORT = 20
_FIRST_LOOK = 64
_SHOWN = 12
_STATISTICS_CODES = 512
_BATCH = 250
_STEPS_PER_PENALTY = 4


@dataclass(frozen=True)
class AdversarialSpec:
    """Everything that determines the training of a GAN on data of a fingerprint, except for its length.

    `batch_size` counts the real images of a step; as many are generated. Rate and momentum are those of Adam, for both
    networks; with a `beta1` of .9, the usual value, the two oscillate (arXiv 1511.06434). `width` is the number of
    channels at half the image's size; each further halving doubles them. Both networks have a dense layer of `hidden`
    units next to the code or the answer (0 for none, as in the DCGAN): without it the discriminator adds up what it
    sees at each place, and lets strokes pass that make no digit. With it the discriminator soon wins, so its slope at
    real images is penalised, by the weight `penalty` (0 for none). Images are generated from an exponential average of
    the generator's parameters, whose decay is `averaging`.
    """

    dataset: str
    fingerprint: str
    seed: int = 0
    batch_size: int = 64
    learning_rate: float = 4e-4
    beta1: float = 0.5
    beta2: float = 0.999
    width: int = 32
    code_size: int = 64
    hidden: int = 256
    penalty: float = 1.0
    averaging: float = 0.999

    def __post_init__(self) -> None:
        """Validates the fields."""
        check_positive(self, "batch_size", "learning_rate", "width", "code_size")
        for name in ("hidden", "penalty"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}: it must be 0 or above")
        for name in ("beta1", "beta2", "averaging"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: it must be from 0 to below 1")

    def optimiser(self) -> optax.GradientTransformation:
        """Adam, for either network."""
        return optax.adam(self.learning_rate, self.beta1, self.beta2)


class Players(NamedTuple):
    """What a step changes: the parameters of both networks, the generator's average, and the optimiser states."""

    generator: Parameters
    discriminator: Parameters
    average: Parameters
    generator_state: Any
    discriminator_state: Any


Look = tuple[np.ndarray, np.ndarray, np.ndarray]
"""The number of steps, the distance of generated from validation images, and some generated images."""


class Course(NamedTuple):
    """A training after some steps, with the losses [2] of each, and looks after 0, 64, 128, 256, ... steps."""

    steps: int
    players: Players
    losses: list[jax.Array]
    looks: list[Look]

    def state(self) -> State:
        """As it is stored."""
        losses = np.asarray(self.losses, np.float32).reshape(-1, 2)
        return State(self.steps, (self.players, losses, self.looks), len(self.looks))


@register_dataclass
@dataclass(frozen=True, eq=False)
class Generator:
    """A trained generator as a value, a pytree whose leaves are the parameters; an image depends on its code alone."""

    module: ConvolutionalDecoder = field(metadata={"static": True})
    code_size: int = field(metadata={"static": True})
    parameters: Parameters

    def __call__(self, count: int, seed: int) -> np.ndarray:
        """Images [count, H, W, C] in [0, 1] of random codes, the same for the same seed."""
        codes = jax.random.normal(jax.random.fold_in(key_of(seed), 1), (count, self.code_size))
        return map_over(functools.partial(_decode, self.module, self.parameters), (codes,), _BATCH)


class Trained(NamedTuple):
    """A trained GAN, and how it came to be.

    `generate` has the averaged parameters. `losses` are those of discriminator and generator, in nats. After 0, 64,
    128, 256, ... steps and at the end, `snapshots` are images of the same 12 codes, [12, H, W, C] in [0, 1], and
    `distances` are the `sliced_wasserstein` of generated from as many validation images, at most 1,000.
    """

    generate: Generator
    players: Players
    steps: int
    losses: Float[np.ndarray, "steps 2"]
    snapshots: dict[int, np.ndarray]
    distances: dict[int, float]

    @property
    def parameter_counts(self) -> dict[str, int]:
        """The number of scalars in the parameters of each network."""
        parameters = {"generator": self.players.generator, "discriminator": self.players.discriminator}
        return {name: sum(leaf.size for leaf in jax.tree.leaves(of)) for name, of in parameters.items()}


def networks(
    spec: AdversarialSpec, image_shape: tuple[int, int, int]
) -> tuple[ConvolutionalDecoder, ConvolutionalEncoder]:
    """Generator and discriminator, with one halving of the images for as long as their sides are even and above 7.

    Raises:
        InputError: images that cannot be halved down to 15 pixels or fewer.
    """
    halvings, sides = 0, list(image_shape[:2])
    while min(sides) > 7 and not any(side % 2 for side in sides):
        halvings, sides = halvings + 1, [side // 2 for side in sides]
    if not halvings or min(sides) > 15:
        size = f"{image_shape[1]}x{image_shape[0]}"
        raise InputError(f"images of {size} cannot be halved down to 15 pixels or fewer: resize them, such as to 64x64")
    widths = tuple(spec.width * 2**i for i in range(halvings))
    makes = ConvolutionalDecoder(image_shape, widths, normalised=True, hidden=spec.hidden)
    return makes, ConvolutionalEncoder(image_shape, widths, 1, spec.hidden)


def fit(
    spec: AdversarialSpec, dataset: Dataset, epochs: int, state_dir: Path | None = None, report: Report = silent
) -> Trained:
    """Trains a GAN by Adam on the non-saturating losses (Goodfellow et al. 2014, arXiv 1406.2661).

    With D the discriminator's logit, x real and G(z) generated images, and means over a batch, the discriminator's loss
    is softplus(-D(x)) + softplus(D(G(z))) + p/2 |dD/dx|^2, p the `penalty` (R1, Mescheder et al. 2018, arXiv
    1801.04406; as it varies slowly, it is taken at each fourth step, four times, arXiv 1912.04958); then the
    generator's, against the updated D, is softplus(-D(G(z))). Losses are reported without the penalty. During
    training the generator is normalised by the statistics of its batch, for `Generator` by those of 512 codes.

    The state is kept in `state_dir`: a run that was stopped, or is given more epochs, resumes from it, and ends with
    the same bits. `report` is called every few steps with both losses.

    Raises:
        InputError: too few images, images that cannot be halved, a state of another spec, or divergence.
    """
    if epochs < 1:
        raise InputError(f"epochs is {epochs}: it must be above 0")
    images = dataset.train.images
    steps_per_epoch = len(images) // spec.batch_size
    total = epochs * steps_per_epoch
    if not total:
        problem = f"{dataset.name} has {len(images)} training images, which makes no batch of {spec.batch_size}"
        raise InputError(f"{problem}: add some, or take fewer real images in a step")
    generator, _ = networks(spec, dataset.image_shape)
    step, key, shown = _step_of(spec, dataset.image_shape), key_of(spec.seed), jnp.asarray(images)
    held_out = dataset.validation.images[:HELD_OUT] / np.float32(255)

    def generator_of(players: Players) -> Generator:
        return Generator(generator, spec.code_size, _folded(generator, spec, players.average))

    def look(steps: int, players: Players) -> Look:
        generate = generator_of(players)
        distance = sliced_wasserstein(generate(len(held_out), spec.seed), held_out)
        return np.asarray(steps), np.asarray(distance), generate(_SHOWN, spec.seed + 1)

    with contextlib.ExitStack() as stack:
        players = _start(spec, dataset.image_shape)
        store = stack.enter_context(Store(state_dir, asdict(spec))) if state_dir else None
        if store and (state := store.load(lambda looks: (players, 0, [(0, 0, 0)] * looks))):
            players, losses, looks = state.tree
            course = Course(state.step, players, list(losses), looks)
        else:
            course = Course(0, players, [], [look(0, players)])
        if course.steps > total:
            problem = f"{state_dir} holds a run of {course.steps:,} steps, {epochs} epochs are {total:,}"
            raise InputError(f"{problem}: ask for at least as many, or give another output directory")
        if store:
            stack.callback(lambda: _save_if_sound(store, course))  # on any exit; `course` is always consistent
        while course.steps < total:
            epoch, i = divmod(course.steps, steps_per_epoch)
            batch = _order(spec.seed, epoch, len(images))[i * spec.batch_size : (i + 1) * spec.batch_size]
            players, loss = step(course.players, shown, batch, key, np.uint32(course.steps))
            done = course.steps + 1
            looked = [look(done, players)] if done >= _FIRST_LOOK and done.bit_count() == 1 else []
            course = Course(done, players, [*course.losses, loss], [*course.looks, *looked])
            if done % _STEPS_PER_REPORT and done < total:
                continue
            recent = np.mean(course.losses[-_STEPS_PER_REPORT:], axis=0)
            if not np.isfinite(recent).all():
                problem = f"training diverged at step {done}: a learning_rate of {spec.learning_rate} is too high here"
                raise InputError(f"{problem}, give a lower one and another output directory")
            if store:
                store.save_now_and_then(course.state())
            seen, figures = done * spec.batch_size, dict(zip(NETWORKS, map(float, recent), strict=True))
            report(Progress("training the GAN", seen, total * spec.batch_size, "images", figures))
    looks = course.looks if course.looks[-1][0] == total else [*course.looks, look(total, course.players)]
    snapshots = {int(steps): snapshot for steps, _, snapshot in looks}
    distances = {int(steps): float(distance) for steps, distance, _ in looks}
    players = jax.tree.map(np.asarray, course.players)
    return Trained(generator_of(course.players), players, total, np.asarray(course.losses), snapshots, distances)


@functools.lru_cache(maxsize=1)
def _order(seed: int, epoch: int, size: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(size).astype(np.int32)


def _save_if_sound(store: Store, course: Course) -> None:
    if np.isfinite(course.losses[-1:]).all():
        store.save(course.state())


def _start(spec: AdversarialSpec, image_shape: tuple[int, int, int]) -> Players:
    generator, discriminator = networks(spec, image_shape)
    keys, optimiser = jax.random.split(key_of(spec.seed)), spec.optimiser()
    makes = initialised(generator, keys[0], jnp.zeros((1, spec.code_size)))
    judges = initialised(discriminator, keys[1], jnp.zeros((1, *image_shape)))
    return Players(makes, judges, makes, optimiser.init(makes), optimiser.init(judges))


@functools.lru_cache(maxsize=16)
def _step_of(spec: AdversarialSpec, image_shape: tuple[int, int, int]) -> Callable[..., tuple[Players, jax.Array]]:
    """The jitted step, compiled once per spec and image shape."""
    (generator, discriminator), optimiser = networks(spec, image_shape), spec.optimiser()

    def made(parameters: Parameters, codes: jax.Array) -> jax.Array:
        logits, _ = generator.apply({"params": parameters}, codes, mutable=["batch_statistics"])
        return jax.nn.sigmoid(logits)

    def judged(parameters: Parameters, images: jax.Array) -> jax.Array:
        return discriminator.apply({"params": parameters}, images)[:, 0]

    def discriminator_loss(
        parameters: Parameters, real: jax.Array, fake: jax.Array, index: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        logits = judged(parameters, jnp.concatenate([real, fake]))
        loss = jax.nn.softplus(-logits[: len(real)]).mean() + jax.nn.softplus(logits[len(real) :]).mean()
        if not spec.penalty:
            return loss, loss

        def slope(parameters: Parameters, real: jax.Array) -> jax.Array:
            return mean_square_slope(functools.partial(judged, parameters), real)

        is_due = index % _STEPS_PER_PENALTY == 0
        steep = jax.lax.cond(is_due, slope, lambda *_: jnp.float32(0), parameters, real)
        return loss + _STEPS_PER_PENALTY * spec.penalty / 2 * steep, loss

    def generator_loss(fake: jax.Array, parameters: Parameters) -> jax.Array:
        return jax.nn.softplus(-discriminator.apply({"params": parameters}, fake)).mean()

    @jax.jit
    def step(
        players: Players, images: jax.Array, batch: jax.Array, seed_key: jax.Array, index: jax.Array
    ) -> tuple[Players, jax.Array]:
        codes = jax.random.normal(jax.random.fold_in(seed_key, index), (spec.batch_size, spec.code_size))
        fake, back_to_generator = jax.vjp(lambda parameters: made(parameters, codes), players.generator)
        real = to_unit_range(images[batch])
        gradient, loss_d = jax.grad(discriminator_loss, has_aux=True)(players.discriminator, real, fake, index)
        judges, state_d = moved(optimiser, players.discriminator, players.discriminator_state, gradient)
        loss_g, back_to_images = jax.value_and_grad(generator_loss)(fake, judges)
        (gradient,) = back_to_generator(back_to_images)
        makes, state_g = moved(optimiser, players.generator, players.generator_state, gradient)
        t = index.astype(jnp.float32)
        decay = jnp.minimum(spec.averaging, (1 + t) / (10 + t))  # a short average soon forgets the random start
        average = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, players.average, makes)
        return Players(makes, judges, average, state_g, state_d), jnp.stack([loss_d, loss_g])

    return step


def mean_square_slope(judge: Callable[[jax.Array], jax.Array], images: jax.Array) -> jax.Array:
    """The squared length of the gradient of a logit by its image, mean over images, in 1 / pixel intensity^2."""
    logits, back = jax.vjp(judge, images)
    (slopes,) = back(jnp.ones_like(logits))
    return jnp.square(slopes).sum(axis=(1, 2, 3)).mean()


@functools.partial(jax.jit, static_argnums=(0, 1))
def _folded(generator: ConvolutionalDecoder, spec: AdversarialSpec, parameters: Parameters) -> Parameters:
    codes = jax.random.normal(key_of(spec.seed), (_STATISTICS_CODES, spec.code_size))
    _, state = generator.apply({"params": parameters}, codes, mutable=["batch_statistics"])
    return fold_statistics(parameters, state["batch_statistics"])


@functools.partial(jax.jit, static_argnums=0)
def _decode(generator: ConvolutionalDecoder, parameters: Parameters, codes: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(generator.apply({"params": parameters}, codes))
