"""Moments that do not belong together neither add up nor pass for independent."""

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wna_jax import InputError, Moments, noise, responses, reverse_correlate, statistics
from wna_jax.correlation import reverse_correlate_in_parts
from wna_jax.maps import classification_images, regression_images
from wna_jax.studies import ensembles

WHITE = noise.uniform((5, 5, 1))
KERNEL: Any = np.random.default_rng(0).standard_normal((5, 5, 1, 3)).astype(np.float32)
SHARED = r"share noise samples \(seed 0\), and must not: give each run a seed of its own"


def convolved(images: jax.Array, stride: int = 2) -> jax.Array:
    dimensions = ("NHWC", "HWIO", "NHWC")
    sums = jax.lax.conv_general_dilated(images, KERNEL, (stride,) * 2, "VALID", dimension_numbers=dimensions)
    return sums[:, 0, 0] if sums.shape[1:3] == (1, 1) else sums


def logits(images: jax.Array) -> jax.Array:
    return convolved(images)


def others(images: jax.Array) -> jax.Array:
    return 2 * convolved(images)


def run(seed: int = 0, of: Any = WHITE, network: Any = logits, n: int = 700, **options: Any) -> Any:
    names = options.pop("names", ("decision", "probability"))
    options = {"batch_size": 100, "sampling": "independent"} | options
    return reverse_correlate(of, responses.of_classifier(network, names), n, seed=seed, **options)


@pytest.fixture(scope="module")
def first() -> dict[str, Moments]:
    return run()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lambda: run()["decision"], SHARED),
        (lambda: run(batch_size=64)["decision"], SHARED),
        (lambda: run(1)["probability"], r"two responses \(decision, probability\) do not belong together: use those"),
        (lambda: run(1, network=others)["decision"], r"two networks \(each decision\)"),
        (lambda: run(1, noise.binary((5, 5, 1)))["decision"], r"two noises \(uniform, binary\)"),
        (lambda: run(1)["decision"] + run(0)["decision"], SHARED),
    ],
)
def test_moments_that_do_not_belong_together_do_not_add_up(
    first: dict[str, Moments], other: Callable[[], Moments], said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        first["decision"] + other()
    assert "\n" not in str(caught.value)


def test_two_noises_of_one_name_do_not_add_up() -> None:
    with pytest.raises(InputError, match=r"two noises \(gaussian, gaussian\)"):
        run(0, noise.gaussian((5, 5, 1)))["decision"] + run(1, noise.gaussian((5, 5, 1), 0.5, 0.6))["decision"]


def test_moments_of_two_seeds_add_up_whatever_else_was_asked_for(first: dict[str, Moments]) -> None:
    """Also with another batch size, and where another response was asked for in the same run."""
    other = run(1, n=500, batch_size=64, names=["confidence", "decision"])["decision"]
    both = first["decision"] + other
    assert both.num_samples == both.count.sum() == 1200
    np.testing.assert_array_equal(both.sum, first["decision"].sum + other.sum)
    assert both.origin is not None
    assert [(of.seed, of.draws, of.half) for of in both.origin.samples] == [(0, 700, "all"), (1, 500, "all")]


def test_the_two_halves_of_a_run_are_its_whole() -> None:
    parts = reverse_correlate_in_parts(WHITE, logits, 750, batch_size=100, sampling="independent")
    (whole,) = (parts.first + parts.second).origin.samples
    assert (whole.half, whole.draws) == ("all", 750)
    ends = [point.origin.samples[0].draws for point in parts.course]
    assert ends == [100, 200, 400]
    with pytest.raises(InputError, match=SHARED):
        parts.first + parts.course[0]
    again = reverse_correlate_in_parts(WHITE, logits, 350, batch_size=100, sampling="independent")
    assert (parts.first + again.second).num_samples == 375 + 175  # even and odd draws have none in common


def test_a_run_that_was_extended_is_that_of_all_its_samples(tmp_path: Path, first: dict[str, Moments]) -> None:
    run(n=300, state_dir=tmp_path / "state")
    assert run(state_dir=tmp_path / "state")["decision"].origin == first["decision"].origin


def test_another_sampling_of_a_seed_is_not_independent_of_it() -> None:
    field = run(n=25 * 1024, sampling="field", batch_size=None)["decision"]
    assert field.origin is not None
    assert field.origin.samples[0].draws == 25
    white = run()["decision"]
    with pytest.raises(InputError, match=SHARED):
        statistics.contrast(classification_images(field, WHITE), classification_images(white, WHITE))


def test_moments_made_by_hand_add_up(first: dict[str, Moments]) -> None:
    """Those that came through a program or `jax.tree.map` have no origin; a sum with them has none."""
    by_hand = jax.tree.map(operator.add, first["decision"], first["decision"])
    assert by_hand.origin is None
    assert (by_hand + first["decision"]).origin is None
    compiled = jax.jit(lambda m: jax.tree.map(lambda leaf: 2 * jnp.asarray(leaf), m))(first["decision"])
    np.testing.assert_allclose(compiled.sum, by_hand.sum, rtol=1e-6)


def test_maps_of_the_same_samples_are_not_contrasted(first: dict[str, Moments]) -> None:
    clean, other = (classification_images(m["decision"], WHITE) for m in (first, run(network=others)))
    with pytest.raises(InputError, match=f"the maps to contrast {SHARED}"):
        statistics.contrast(clean, other)
    of_another_seed = classification_images(run(1, network=others)["decision"], WHITE)
    z = statistics.contrast(clean, of_another_seed).z
    expected = (clean.images - of_another_seed.images) / np.hypot(clean.standard_error, of_another_seed.standard_error)
    np.testing.assert_allclose(z, expected)


def test_what_must_be_independent_is_checked_wherever_it_is_used(first: dict[str, Moments]) -> None:
    m = first["decision"]
    maps = regression_images(m, WHITE)
    with pytest.raises(InputError, match=SHARED):
        statistics.split_half(m, m, WHITE)
    with pytest.raises(InputError, match=r"two responses"):
        statistics.split_half(m, run(1)["probability"], WHITE)
    with pytest.raises(InputError, match=SHARED):
        statistics.convergence([m], WHITE, maps, 1.0)
    with pytest.raises(InputError, match=SHARED):
        statistics.signal_contrast([(m.of_responses(slice(0, 2)), WHITE)] * 2)
    with pytest.raises(InputError, match=SHARED):
        ensembles.agreement([maps, maps], [np.ma.ones(3)] * 2)


def test_networks_side_by_side_have_noise_of_their_own() -> None:
    options = {"batch_size": 100, "sampling": "independent"}
    together = ensembles.of_networks([logits, others], ["decision"])
    moments = reverse_correlate(ensembles.side_by_side(WHITE, 2), together, 300, **options)["decision"]
    one, two = ensembles.apart(moments, 2)
    statistics.contrast(classification_images(one, WHITE), classification_images(two, WHITE))
    with pytest.raises(InputError, match=r"two responses \(decision of network 0, decision of network 1\)"):
        one + two
    with pytest.raises(InputError, match=SHARED):
        one + one
