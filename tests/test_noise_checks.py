"""What a noise declares is compared with its draws: wrong declarations are named, right ones always pass."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from jax.tree_util import Partial

from wna_jax import data, noise, reverse_correlate
from wna_jax.data import Dataset
from wna_jax.noise import Decoder, Noise, checks
from wna_jax.noise.base import of_any_size
from wna_jax.runs.errors import InputError
from wna_jax.studies import ensembles, interventions

SHAPE = (8, 6, 2)
HALF, FIFTH = np.full(2, 0.5), np.full(2, 0.2)


def own(draw: Callable[[jax.Array], Any], **said: Any) -> Noise:
    """Noise of one's own that says of itself that it is white, with the moments of N(.5, .2) where nothing is given."""
    return replace(Noise("own", SHAPE, HALF, FIFTH, draw, white=True), **said)


def normal(key: jax.Array, shape: tuple[int, ...] = SHAPE) -> jax.Array:
    return 0.5 + 0.2 * random.normal(key, shape)


def but(where: tuple[int, ...], value: float) -> np.ndarray:
    """.2 for every pixel but one."""
    deviation = np.full(SHAPE, 0.2)
    deviation[where] = value
    return deviation


def smooth(key: jax.Array) -> jax.Array:
    z = random.normal(key, (9, *SHAPE[1:]))
    return 0.5 + 0.2 * (0.99 * z[1:] + np.sqrt(1 - 0.99**2) * z[:-1])


def diagonal(key: jax.Array) -> jax.Array:
    z = random.normal(key, (9, 7, 2))
    return 0.5 + 0.2 / np.sqrt(2) * (z[1:, :-1] + z[:-1, 1:])


def tiles(key: jax.Array) -> jax.Array:
    return jnp.tile(normal(key, (8, 3, 2)), (1, 2, 1))


def brightness(key: jax.Array) -> jax.Array:
    """A common part of .5% of the variance: neighbours hardly show it, the image as a whole does."""
    first, second = random.split(key)
    common = jnp.broadcast_to(random.normal(second, (1, 1, 1)), SHAPE)
    return 0.5 + 0.2 * (np.sqrt(0.995) * random.normal(first, SHAPE) + np.sqrt(0.005) * common)


def frozen(key: jax.Array) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(0.5, 0.2, SHAPE), jnp.float32)


def by_numpy(key: jax.Array) -> jax.Array:
    return jnp.asarray(np.random.default_rng(np.asarray(random.key_data(key))).normal(0.5, 0.2, SHAPE))


NUMPY = "use jax.random with the key, and jax.numpy"
WRONG = {
    "smooth": (own(smooth), r"white=True, but neighbours below have the correlation 0\.14: declare white=False"),
    "diagonal": (own(diagonal), r"white=True, but diagonal neighbours have the correlation 0\.5"),
    "tiles": (own(tiles), r"white=True, but all pairs of pixels have the correlation"),
    "brightness": (own(brightness), r"white=True, but all pairs of pixels have the correlation 0\.00"),
    "grey": (own(lambda key: jnp.repeat(normal(key, (8, 6, 1)), 2, axis=2)), "but channels have the correlation 1:"),
    "mirrored": (
        own(lambda key: (lambda z: jnp.concatenate([z, 1 - z[:, ::-1]], axis=1))(normal(key, (8, 3, 2)))),
        "white=True, but",
    ),
    "deviation": (own(normal, deviation=FIFTH / 10), r"the deviation 0\.02, but 2,048 draws have 0\.1997 \(root"),
    "mean": (own(normal, mean=HALF + 0.01), r"the mean 0\.51, but 2,048 draws have 0\.4997 \(mean"),
    "one deviation": (own(normal, deviation=but((3, 4, 1), 0.3)), r"0\.3, but .* at pixel \(3, 4, 1\): declare what"),
    "one mean": (own(normal, mean=but((2, 0, 0), 0.6) + 0.3 * (but((2, 0, 0), 0.6) == 0.2)), r"mean 0\.6, .* at pixel"),
    "still": (own(normal, deviation=but((0, 0, 0), 0)), r"the deviation 0, but 2,048 draws have 0\.\d+ at pixel"),
    "not still": (
        own(lambda key: normal(key).at[1, 1, 1].set(0.5)),
        r"0\.2, but 2,048 draws have 0 at pixel \(1, 1, 1",
    ),
    "frozen": (own(frozen), f"draws the same image for every key: {NUMPY}"),
    "by numpy": (own(by_numpy), f"raised TracerArrayConversionError: JAX cannot trace it; {NUMPY}"),
    "uniform": (
        own(lambda key: 0.5 + np.sqrt(0.12) * (random.uniform(key, SHAPE) - 0.5), gaussian=True, deviation=FIFTH / 2),
        r"gaussian=True, but has the kurtosis 1\.8: declare False",
    ),
    "bool": (
        own(lambda key: random.bernoulli(key, 0.5, SHAPE)),
        r"draws bool of shape \(8, 6, 2\): expected a float32 image",
    ),
    "shape": (
        own(lambda key: normal(key, (8, 6))),
        r"draws float32 of shape \(8, 6\): expected a float32 image of shape \(8, 6, 2",
    ),
    "pair": (own(lambda key: (normal(key), normal(key))), "draws tuple of shape"),
    "raises": (
        own(lambda key: normal(key) @ key),
        "own noise raised ValueError: .*; expected a function of a random key",
    ),
    "nan": (own(lambda key: jnp.sqrt(normal(key))), "draws NaN or infinite numbers"),
    "moments": (own(normal, mean=np.zeros(3)), r"a mean of shape \(3,\): expected finite numbers of shape \(2,\) or"),
    "negative": (own(normal, deviation=-FIFTH), r"a deviation of shape \(2,\): expected finite numbers"),
}


@pytest.mark.parametrize(("wrong", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_declaration_is_named_with_what_was_found(wrong: Noise, said: str) -> None:
    with pytest.raises(InputError, match=said):
        checks.check(wrong)


def test_a_run_asks_the_noise_first() -> None:
    with pytest.raises(InputError, match="own noise declares the deviation"):
        reverse_correlate(own(normal, deviation=FIFTH / 10), lambda x: x[:, 0, :1, 0], 100)


@pytest.mark.slow
def test_what_is_drawn_for_fields_is_asked_too() -> None:
    def of_any(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return normal(key, shape) if shape == SHAPE else 2 * normal(key, shape)

    lying = of_any_size("own", SHAPE, HALF, FIFTH, of_any)

    def respond(images: jax.Array) -> jax.Array:
        answers = (images[:, 7:, 5:] + images[:, :-7, :-5])[:, ::2, ::2]
        return answers[:, 0, 0] if images.shape[1:] == SHAPE else answers

    reverse_correlate(lying, respond, 100, sampling="independent")
    with pytest.raises(InputError, match=r"own noise declares the deviation 0\.2, but 110 draws have 0\.4"):
        reverse_correlate(lying, respond, 100, sampling="field")


def test_whether_a_noise_is_white_must_be_said() -> None:
    with pytest.raises(TypeError, match="white"):
        Noise("own", SHAPE, HALF, FIFTH, normal)  # type: ignore[call-arg]


def test_a_noise_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, draws = [], checks._draws

    def counting(*arguments: Any) -> jax.Array:
        asked.append(arguments)
        return draws(*arguments)

    monkeypatch.setattr(checks, "_draws", counting)
    for _ in range(2):
        checks.check(noise.gaussian((3, 4, 1), 0.25, 0.125))
    checks.check(noise.gaussian((3, 4, 1), 0.25, 0.126))
    assert len(asked) == 2


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 3), (12, 12, 3), (80, 80, 3)], ids=str)
def test_noises_of_the_package_are_what_they_declare(shape: tuple[int, int, int]) -> None:
    blocks = noise.blocks(shape), noise.blocks(shape, all_places=False)
    for right in (noise.uniform(shape), noise.gaussian(shape), noise.binary(shape), noise.stripes(shape), *blocks):
        checks.check(right)


@pytest.mark.slow
def test_noises_of_data_are_what_they_declare(digits: Dataset) -> None:
    some = data.Split(digits.train.images[:300, 9:19, 9:19], digits.train.labels[:300])
    small = replace(digits, train=some)
    random_root = np.random.default_rng(0).normal(size=(4, 4))
    for root in (np.diag([1.0, 2.0, 0.0, 3.0]), random_root):
        checks.check(noise.codes(Decoder("decoder", lambda codes: codes, np.arange(4.0), root, (2, 2, 1))))
    white = noise.matched(small)
    for right in (white, noise.natural(digits), noise.gabor_pca(small)):
        checks.check(right)
    checks.check(ensembles.side_by_side(white, 3))
    checks.check(interventions.embedded(white, small.train.images / 255, 0.4))


def test_right_declarations_pass_however_rare_the_events() -> None:
    """Independent pixels of many kinds, 40 sets of draws each: not one is refused."""
    generator = np.random.default_rng(0)
    rare = np.geomspace(1e-6, 0.5, 144).reshape(12, 12, 1)
    kinds: dict[str, tuple[np.ndarray, np.ndarray, Callable[[tuple[int, ...]], np.ndarray]]] = {
        "two pixels": (np.zeros((2, 1, 1)), np.ones((2, 1, 1)), lambda size: generator.normal(size=(*size, 2, 1, 1))),
        "heavy": (np.ones((6, 6, 1)), np.ones((6, 6, 1)), lambda size: generator.exponential(size=(*size, 6, 6, 1))),
        "rare": (rare, np.sqrt(rare * (1 - rare)), lambda size: generator.random((*size, 12, 12, 1)) < rare),
    }
    for name, (mean, deviation, draw) in kinds.items():
        for number in range(40):
            draws = draw((1024,)).astype(np.float32)
            standard = ((draws - mean) / deviation).astype(np.float32)
            found = [*checks._wrong_moments(draws, mean, deviation), *checks._dependent(standard, deviation > 0)]
            assert not found, (name, number)


def test_a_constant_noise_and_one_that_is_shown_otherwise_pass() -> None:
    checks.check(own(lambda key: jnp.full(SHAPE, 0.1), mean=HALF / 5, deviation=0 * FIFTH))
    checks.check(replace(own(normal), present=Partial(lambda key, drawn: 0 * drawn)))
