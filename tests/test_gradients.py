"""Mean gradients: by what is drawn, of any response, of functions of JAX and of black boxes that know theirs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wna_jax import noise, responses, reverse_correlate
from wna_jax.maps import gradient_images, regression_images
from wna_jax.runs.errors import InputError

FINE = noise.gaussian((8, 4, 2), 0.5, 0.3)
COARSE = noise.coarse(FINE, 2)
WEIGHTS = jax.random.normal(jax.random.key(0), (64, 3))


def linear(images: jax.Array) -> jax.Array:
    return images.reshape(len(images), -1) @ WEIGHTS


def curved(images: jax.Array) -> jax.Array:
    return jnp.tanh(linear(images))


def by_hand(images: np.ndarray) -> np.ndarray:
    return np.asarray(curved(jnp.asarray(images)))


def vjp_by_hand(images: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
    slope = (1 - by_hand(images) ** 2) * cotangents  # [m, n, K]
    return (slope @ np.asarray(WEIGHTS).T).reshape(len(cotangents), *images.shape)


def test_the_gradient_of_a_linear_network_in_coarse_noise_is_its_template_summed_over_squares() -> None:
    found = gradient_images(reverse_correlate(COARSE, responses.gradient_of(linear), 50))
    template = np.asarray(WEIGHTS).T.reshape(3, 4, 2, 2, 2, 2).sum(axis=(2, 4))
    np.testing.assert_allclose(found.images, template, rtol=1e-5, atol=1e-5)


def test_gradient_and_regression_maps_in_coarse_noise_agree_within_their_errors() -> None:
    slope = gradient_images(reverse_correlate(COARSE, responses.gradient_of(curved), 4_000))
    moments = reverse_correlate(COARSE, responses.of_classifier(curved, ["logit"]), 40_000, seed=1)["logit"]
    regression = regression_images(moments, COARSE)
    z = (slope.images - regression.images) / np.hypot(slope.standard_error, regression.standard_error)
    assert np.abs(z).max() < 4
    assert np.square(z).mean() == pytest.approx(1, abs=0.6)


@pytest.mark.slow
@pytest.mark.parametrize("stimulus", [FINE, COARSE], ids=["fine", "coarse"])
def test_a_black_box_that_knows_its_gradients_has_those_of_the_network(stimulus: noise.Noise) -> None:
    names, classes = ["probability", "logit"], [2, 0]
    box = responses.of_black_box(by_hand, names, "logits", classes, vjp_by_hand)
    traced = responses.of_classifier(curved, names, "logits", classes)
    ours, theirs = (reverse_correlate(stimulus, responses.gradient_of(of), 300) for of in (box, traced))
    for name in names:
        assert ours[name].sum.shape == (2, *stimulus.shape)
        for part in ("sum", "square_sum", "weight_sum"):
            expected = getattr(theirs[name], part)
            np.testing.assert_allclose(
                getattr(ours[name], part), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
            )


def test_a_module_of_pytorch_knows_its_gradients() -> None:
    torch: Any = pytest.importorskip("torch")

    class Network(torch.nn.Module):
        def forward(self, images_nchw: Any) -> Any:
            flat = images_nchw.permute(0, 2, 3, 1).reshape(len(images_nchw), -1)
            return torch.tanh(flat @ torch.tensor(np.array(WEIGHTS)))

    box = responses.of_torch(Network(), ["logit"], outputs="logits", batch_size=7)
    ours = reverse_correlate(COARSE, responses.gradient_of(box), 100)["logit"]
    theirs = reverse_correlate(COARSE, responses.gradient_of(curved), 100)
    np.testing.assert_allclose(ours.sum, theirs.sum, rtol=1e-4, atol=1e-3)


def test_gradients_that_are_none_are_said() -> None:
    with pytest.raises(InputError, match=r"no gradient: say it by of_black_box\(..., vjp=\)"):
        responses.gradient_of(responses.of_black_box(by_hand))
    wrong = responses.of_black_box(by_hand, ["logit"], "logits", vjp=lambda images, cotangents: images)
    with pytest.raises(InputError, match=r"gradients of shape \(\d+, 8, 4, 2\): expected \(3, \d+, 8, 4, 2\)"):
        reverse_correlate(FINE, responses.gradient_of(wrong), 10)
    broken: Any = lambda images, cotangents: 1 / 0  # noqa: E731
    box = responses.of_black_box(by_hand, ["logit"], "logits", vjp=broken)
    with pytest.raises(InputError, match="ZeroDivisionError"):
        reverse_correlate(FINE, responses.gradient_of(box), 10)
