import operator
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wna_jax import Moments, correlation, draw_samples, noise, responses, reverse_correlate
from wna_jax.correlation.fields import draw
from wna_jax.correlation.loop import Sampling
from wna_jax.networks import Network, untrained
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Progress

SHAPE = (18, 17, 1)


@pytest.fixture(scope="module")
def network() -> Callable:
    """Random parameters, with sharper logits than they would give: several classes are called."""
    small = untrained("paper_cnn", SHAPE, 10, 14)
    last = jax.tree.map(lambda leaf: 4 * leaf, small.parameters["fc2"])
    return Network(small.module, small.parameters | {"fc2": last})


def windows_of(field: np.ndarray, grid: int, stride: int) -> np.ndarray:
    return np.stack(
        [field[stride * i :, stride * j :][: SHAPE[0], : SHAPE[1]] for i in range(grid) for j in range(grid)]
    )


@pytest.mark.parametrize("white", [noise.uniform(SHAPE), noise.gaussian(SHAPE, 0.1, 0.3)], ids=["uniform", "gaussian"])
@pytest.mark.parametrize("how", ["independent", "field"])
def test_moments_are_those_of_a_float64_oracle(network: Callable, white: noise.Noise, how: Sampling) -> None:
    n = 20_500  # not a whole number of batches or fields
    moments = reverse_correlate(white, responses.of_classifier(network), n, seed=7, batch_size=3000, sampling=how)
    if how == "independent":
        samples = np.asarray(draw_samples(white, n, seed=7))
    else:
        fields = np.asarray(draw(white.resized((142, 141)), jax.random.key(7), 0, 0, 21))
        samples = np.concatenate([windows_of(field, 32, 4) for field in fields])[:n]
    logits = np.concatenate([np.asarray(jax.jit(network)(x), np.float64) for x in np.array_split(samples, 41)])
    samples = samples.astype(np.float64)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights = {
        "decision": np.eye(10)[logits.argmax(axis=1)],
        "probability": exponentials / exponentials.sum(axis=1, keepdims=True),
    }
    np.testing.assert_array_equal(moments["decision"].count, weights["decision"].sum(axis=0))
    assert (moments["decision"].count > 0).sum() >= 2  # or there would be little to compare
    size = 1 if how == "independent" else 1024
    for name, w in weights.items():
        m = moments[name]
        assert (m.num_samples, m.num_draws) == (n, -(-n // size))
        by_draw = [w[start : start + size].sum(axis=0) for start in range(0, n, size)]
        flat = samples.reshape(n, -1)
        expected = {
            "total_sum": flat.sum(axis=0),
            "total_square_sum": (flat**2).sum(axis=0),
            "weight_sum": w.sum(axis=0),
            "weight_square_sum": (w**2).sum(axis=0),
            "draw_square_sum": np.square(by_draw).sum(axis=0),
            "sum": w.T @ flat,
            "square_sum": w.T @ flat**2,
        }
        if how == "field":
            parts = [(w[start : start + size], flat[start : start + size] - white.mean) for start in range(0, n, size)]
            s = np.array([own.sum(axis=0) for own, _ in parts])
            q = np.array([np.square(own).sum(axis=0) for own, _ in parts])
            a = np.array([own.T @ pixels for own, pixels in parts])
            t = np.array([pixels.sum(axis=0) for _, pixels in parts])
            sizes = np.array([float(len(own)) for own, _ in parts])
            expected |= {
                "field_sums.aa": np.square(a).sum(axis=0),
                "field_sums.aq": (a * q[..., None]).sum(axis=0),
                "field_sums.a_s": (a * s[..., None]).sum(axis=0),
                "field_sums.an": np.tensordot(sizes, a, 1),
                "field_sums.at": (a * t[:, None]).sum(axis=0),
                "field_sums.st": s.T @ t,
                "field_sums.tt": np.square(t).sum(axis=0),
                "field_sums.tq": q.T @ t,
                "field_sums.tn": sizes @ t,
                "field_sums.qq": np.square(q).sum(axis=0),
                "field_sums.qs": (q * s).sum(axis=0),
                "field_sums.qn": (q * sizes[:, None]).sum(axis=0),
                "field_sums.sn": (s * sizes[:, None]).sum(axis=0),
                "field_sums.nn": np.square(sizes).sum(),
            }
        assert (m.field_sums is None) == (how == "independent")
        for field, value in expected.items():
            got = operator.attrgetter(field)(m).reshape(value.shape)
            np.testing.assert_allclose(got, value, rtol=1e-6, atol=1e-6 * np.abs(value).max(), err_msg=field)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(network: Callable) -> None:
    white, respond = noise.uniform(SHAPE), responses.of_classifier(network)
    first, again, other = (reverse_correlate(white, respond, 700, seed=seed)["probability"] for seed in (1, 1, 2))
    for field in fields(Moments):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(again, field.name))
    assert not (first.sum == other.sum).any()


def test_the_batch_size_does_not_change_the_result(network: Callable) -> None:
    white, respond = noise.uniform(SHAPE), responses.of_classifier(network)
    small, large = (reverse_correlate(white, respond, 700, batch_size=size) for size in (64, 5000))
    for name in small:
        np.testing.assert_array_equal(small[name].count, large[name].count)
        np.testing.assert_allclose(small[name].sum, large[name].sum, rtol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 701])
def test_the_halves_are_the_even_and_the_odd_draws_whatever_the_batch_size(network: Callable, n: int) -> None:
    white, respond = noise.uniform((16, 16, 1)), responses.of_classifier(network)
    drawn = np.asarray(draw_samples(white, n), np.float64)
    for size in (1, 64, 5000):
        parts = correlation.reverse_correlate_in_parts(white, respond, n, batch_size=size)
        for own, half in ((drawn[::2], parts.first), (drawn[1::2], parts.second)):
            moments = half["decision"]
            assert moments.num_samples == moments.num_draws == moments.count.sum() == len(own)
            np.testing.assert_allclose(moments.total_sum, own.sum(axis=0), rtol=1e-6)
            np.testing.assert_allclose(moments.sum.sum(axis=0), own.sum(axis=0), rtol=1e-6)


def test_moments_add_up() -> None:
    white = noise.uniform((3, 3, 1))
    respond = lambda x: x.reshape(len(x), -1)[:, :2]  # noqa: E731
    one, two = (reverse_correlate(white, respond, 400, seed=seed, batch_size=100) for seed in (0, 1))
    both = one + two
    assert both.num_samples == 800
    for field in fields(Moments):
        if field.name not in ("field_sums", "origin"):
            np.testing.assert_array_equal(
                getattr(both, field.name), getattr(one, field.name) + getattr(two, field.name)
            )


def test_any_pytree_of_weights_comes_back_as_one_of_moments() -> None:
    respond = lambda x: (x[:, 0, 0], {"all": jnp.ones((len(x), 3), bool)})  # noqa: E731
    first, rest = reverse_correlate(noise.uniform((2, 2, 1)), respond, 300, batch_size=128)
    assert first.sum.shape == (1, 2, 2, 1)
    np.testing.assert_array_equal(rest["all"].count, [300, 300, 300])
    np.testing.assert_array_equal(rest["all"].sum[1], first.total_sum)


def test_progress_ends_at_the_number_of_samples() -> None:
    reports: list[Progress] = []
    reverse_correlate(noise.uniform((2, 2, 1)), lambda x: x[:, 0, 0], 1001, batch_size=100, report=reports.append)
    assert (reports[-1].done, reports[-1].total, reports[-1].unit) == (1001, 1001, "samples")


def test_wrong_input_is_named() -> None:
    white = noise.uniform((4, 4, 1))
    flat = lambda x: x.reshape(len(x), -1)  # noqa: E731
    for options, said in [
        ({"num_samples": 0}, "num_samples is 0: it must be a whole number of at least 1"),
        ({"num_samples": 10, "batch_size": -1}, "batch_size is -1"),
        ({"seed": -1}, r"seed is -1: it must be a whole number from 0 to 2\^32 - 1"),
        ({"sampling": "fields"}, r"unknown sampling 'fields' \(did you mean 'field'\?\)"),
        ({"sampling": "field"}, "sampling is .field., but the network takes .*: use --sampling=independent"),
    ]:
        with pytest.raises(InputError, match=said):
            reverse_correlate(white, flat, **options)  # type: ignore[arg-type]
    for respond, said in [
        (lambda x: x, r"weights of shape \(2, 4, 4, 1\) .*: expected \(2, number of responses\)"),
        (lambda x: flat(x)[:1], r"weights of shape \(1, 16\)"),
        (lambda x: flat(x)[:, 0], r"weights of shape \(2,\)"),
        (lambda x: None, "returned no weights"),
        (
            lambda x: jnp.where(flat(x) > 0.5, jnp.nan, 1.0),
            "NaN, infinite or far too large weights for noise samples 0 to 9 of seed 0",
        ),
        (lambda x: 1 / (flat(x) * 0), "NaN, infinite or far too large weights"),
    ]:
        with pytest.raises(InputError, match=said):
            reverse_correlate(white, respond, 10)


def test_a_network_that_fails_on_some_noise_alone_is_caught() -> None:
    def logits(images: jax.Array) -> jax.Array:
        flat = images.reshape(len(images), -1)
        return jnp.where(flat[:, :1] > 0.999, jnp.nan, flat)

    with pytest.raises(InputError, match="NaN"):
        reverse_correlate(noise.uniform((4, 4, 1)), responses.of_classifier(logits), 20_000, batch_size=100)


@pytest.mark.parametrize("sampling", ["independent", "field"])
def test_how_many_batches_a_dispatch_takes_does_not_change_a_bit(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on an accelerator, where many batches go to the device at a time."""
    kernel = jnp.asarray(np.random.default_rng(0).standard_normal((5, 5, 1, 3)).astype(np.float32))

    def respond(images: jax.Array) -> Any:
        sums = jax.lax.conv_general_dilated(images, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return sums[:, 0, 0] if sums.shape[1:3] == (1, 1) else sums

    def run(num_samples: int = 20_900, state_dir: Path | None = None) -> correlation.Parts:
        return correlation.reverse_correlate_in_parts(
            noise.uniform((5, 5, 1)),
            respond,
            num_samples,
            sampling=sampling,
            batch_size=1_024,
            state_dir=state_dir,
        )

    expected = run()
    for most in (2, 5):
        monkeypatch.setattr(correlation.loop, "_most_at_once", lambda _, most=most: most)
        jax.tree.map(np.testing.assert_array_equal, run(), expected)
    run(9_300, tmp_path / "state")
    jax.tree.map(np.testing.assert_array_equal, run(state_dir=tmp_path / "state"), expected)
