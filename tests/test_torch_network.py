"""Networks of PyTorch; without it these tests are skipped."""

import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wna_jax import draw_samples, noise, responses, reverse_correlate
from wna_jax.networks.torch_network import TorchNetwork
from wna_jax.runs.errors import InputError
from wna_jax.runs.fingerprints import fingerprint
from wna_jax.templates import feed_back

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own, while it is imported
    torch: Any = pytest.importorskip("torch")
nn: Any = torch.nn

WHITE = noise.gaussian((4, 5, 3), 0.4, 0.3)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def linear(first: Any = None) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(*([first] if first else []), nn.Flatten(), nn.Linear(60, 4))


def the_same_in_jax(module: Any) -> Callable[[jax.Array], jax.Array]:
    weights, bias = (np.asarray(each.detach()) for each in module[-1].parameters())

    def logits(images: jax.Array) -> jax.Array:
        normal = (images - jnp.asarray(MEAN)[None, None, None]) / jnp.asarray(STD)[None, None, None]
        return jnp.moveaxis(normal, -1, 1).reshape(len(images), -1) @ weights.T + bias[None]

    return logits


def test_a_module_has_the_maps_of_the_same_network_in_jax() -> None:
    module = linear()
    ours = reverse_correlate(WHITE, responses.of_torch(module, mean=MEAN, std=STD), 5_000)
    theirs = reverse_correlate(WHITE, responses.of_classifier(the_same_in_jax(module)), 5_000)
    np.testing.assert_array_equal(ours["decision"].count, theirs["decision"].count)
    np.testing.assert_allclose(ours["probability"].sum, theirs["probability"].sum, rtol=1e-4, atol=1e-2)


def test_arrays_are_handed_over_without_a_copy() -> None:
    images = jax.random.uniform(jax.random.key(0), (4, 4, 5, 3))
    seen: list[int] = []

    class Watching(nn.Module):
        def forward(self, x: Any) -> Any:
            seen.append(x.data_ptr())
            self.answers = x[:, :, 0, 0].contiguous()
            return self.answers

    module = Watching()
    answers = TorchNetwork(module, batch_size=100)(images)
    assert seen[-1] == images.unsafe_buffer_pointer()
    np.testing.assert_array_equal(answers, images[:, 0, 0])
    assert isinstance(answers, jax.Array)
    assert isinstance(TorchNetwork(module)(np.asarray(images)), np.ndarray)


def test_a_module_that_writes_into_its_images_leaves_the_noise_as_it_is() -> None:
    class Clipping(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.clamp_(0.2, 0.6).mean(dim=(2, 3))

    ours = reverse_correlate(WHITE, responses.of_torch(Clipping(), ["decision"]), 3_000)["decision"]
    clipped = responses.of_classifier(lambda x: jnp.clip(x, 0.2, 0.6).mean(axis=(1, 2)), ["decision"])
    theirs = reverse_correlate(WHITE, clipped, 3_000)["decision"]
    np.testing.assert_allclose(ours.total_sum, theirs.total_sum, rtol=1e-6)
    np.testing.assert_allclose(ours.count, theirs.count, atol=2)  # means of 20 numbers, in another order


def test_a_module_in_training_mode_is_asked_in_evaluation_mode_and_is_then_as_it_was() -> None:
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(60, 4))
    module[0].eval()
    statistics = module[0].running_mean.clone()
    moments = reverse_correlate(WHITE, responses.of_torch(module), 1_000)["decision"]  # else refused as random
    assert moments.count.sum() == 1_000
    assert [each.training for each in module.modules()] == [True, False, True, True, True]
    assert torch.equal(module[0].running_mean, statistics)


def test_the_batch_size_is_kept_or_found_out() -> None:
    sizes: list[int] = []

    class Counting(nn.Module):
        def forward(self, x: Any) -> Any:
            sizes.append(len(x))
            return x[:, :, 0, 0]

    images = np.zeros((100, 4, 5, 3), np.float32)
    network = TorchNetwork(Counting(), batch_size=30)
    assert network(images).shape == (100, 3)
    assert [size for size in sizes if size > 1] == [30, 30, 30, 10]
    tuned = TorchNetwork(Counting())
    for _ in range(2):
        sizes.clear()
        assert tuned(images).shape == (100, 3)
    assert sum(sizes) == 100  # nothing is tried twice
    assert max(sizes) <= 64


def test_what_is_shown_first_does_not_decide_the_batch_size_of_a_run() -> None:
    sizes: list[int] = []

    class Waiting(nn.Module):  # a call takes as long for 1 image as for 100
        def forward(self, x: Any) -> Any:
            sizes.append(len(x))
            time.sleep(0.001)
            return x[:, :, 0, 0]

    network = TorchNetwork(Waiting())
    network(np.zeros((9, 4, 5, 3), np.float32))  # as before a run
    network(np.zeros((256, 4, 5, 3), np.float32))
    sizes.clear()
    network(np.zeros((256, 4, 5, 3), np.float32))
    assert max(sizes) >= 64


def test_sizes_that_are_no_faster_are_not_tried_further() -> None:
    sizes: list[int] = []

    class Slow(nn.Module):  # as long for each image, however many there are
        def forward(self, x: Any) -> Any:
            sizes.append(len(x))
            time.sleep(0.0005 * len(x))
            return x[:, :, 0, 0]

    TorchNetwork(Slow())(np.zeros((512, 4, 5, 3), np.float32))
    assert max(sizes) <= 64
    assert sum(sizes) < 512 + 2 * (8 + 16 + 32 + 64) + 10


@pytest.mark.parametrize("mean", [None, 0.2])
def test_a_module_that_changes_its_images_is_asked_about_each_once(mean: float | None) -> None:
    class Normalising(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.mul_(2).sub_(1)[:, :, 0, 0]

    images = np.random.default_rng(0).random((100, 4, 5, 3), np.float32)
    kept, network = images.copy(), TorchNetwork(Normalising(), mean=mean)
    for _ in range(2):  # the first call looks for a batch size
        np.testing.assert_allclose(network(images), 2 * (kept[:, 0, 0] - (mean or 0)) - 1, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(images, kept)


def test_images_may_be_a_view_that_runs_backwards() -> None:
    images = np.random.default_rng(0).random((20, 4, 5, 3), np.float32)
    network = TorchNetwork(linear())  # PyTorch, given such a view, ended the process
    np.testing.assert_array_equal(network(images[:, ::-1, ::-1]), network(images[:, ::-1, ::-1].copy()))


def test_which_network_it_is_depends_on_parameters_and_normalisation_not_on_the_mode() -> None:
    module = linear()
    same = fingerprint(TorchNetwork(module))
    module.eval()
    assert fingerprint(TorchNetwork(module)) == same == fingerprint(TorchNetwork(linear()))
    asked = TorchNetwork(module)
    asked(np.zeros((100, 4, 5, 3), np.float32))
    assert fingerprint(asked) == same  # whatever batch size was found
    assert fingerprint(TorchNetwork(module, mean=0.5)) != same
    with torch.no_grad():
        module[-1].bias += 1
    assert fingerprint(TorchNetwork(module)) != same


def test_any_network_goes_through_one_door() -> None:
    module = linear()
    assert isinstance(responses.of_network(module, outputs="logits").function, TorchNetwork)
    assert responses.of_network(module, ["logit"], classes=[2]).classes == (2,)
    images = draw_samples(WHITE, 5)
    with torch.inference_mode():
        expected = module(torch.from_dlpack(images).permute(0, 3, 1, 2))
    np.testing.assert_allclose(responses.logits_of(module, images), expected, rtol=1e-5, atol=1e-6)
    (answer,) = feed_back(module, np.ma.masked_array(images[:1]), stretch=False)
    assert answer is not None
    assert answer.predicted == int(expected[0].argmax())


def test_halves_and_whole_numbers_are_what_the_parameters_say() -> None:
    module = linear().to(torch.bfloat16)
    answers = TorchNetwork(module)(np.zeros((2, 4, 5, 3), np.float32))
    assert answers.dtype == np.float32
    assert fingerprint(module) == fingerprint(linear().to(torch.bfloat16))


@pytest.mark.parametrize(
    ("module", "options", "said"),
    [
        (lambda x: x, {}, "a function is no torch.nn.Module"),
        (linear(), {"mean": (0.1, 0.2)}, "mean and std are of 2 channels, the images have 3"),
        (linear(), {"mean": (0.1, float("nan"))}, r"mean is \(0.1, nan\): expected one number, or one per channel"),
        (linear(), {"std": 0.0}, "std is 0.0: expected numbers above 0"),
        (linear(), {"batch_size": 0}, "batch_size is 0: expected a number of at least 1"),
        (nn.LSTM(5, 2), {}, "the network raised .*; expected a torch module of images"),
        (nn.Conv2d(1, 4, 3), {}, "the network raised RuntimeError .*; expected a torch module of images"),
        (nn.Conv2d(3, 4, 3), {}, r"an array of shape \(9, 4, 2, 3\) .*: expected \(9, classes\)"),
        (nn.Sequential(nn.AdaptiveMaxPool2d(1, return_indices=True)), {}, "the module returned a tuple: expected a te"),
    ],
)
def test_wrong_modules_are_named(module: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        reverse_correlate(WHITE, responses.of_torch(module, **options), 100)
