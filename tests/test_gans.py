import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from PIL import Image

from experiments import gan, launch
from wna_jax import data
from wna_jax.data.dataset import Source, Split, assemble
from wna_jax.networks import gans
from wna_jax.networks.gan_scores import confident_answers, repeated_distances, sliced_wasserstein
from wna_jax.networks.gans import AdversarialSpec
from wna_jax.networks.models.layers import DoublingConvolution, HalvingConvolution, space_to_depth
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Progress

# Orbax leaves readers of damaged files unfinished, and Python warns when it collects them: here, in the same test.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collect_garbage"),
]


@pytest.fixture(scope="module")
def bars() -> data.Dataset:
    """8x8 images of one bright bar each, upright (class 0) or level (class 1)."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 40, (300, 8, 8, 1), np.uint8)
    labels = rng.integers(0, 2, 300, np.int32)
    for image, label, place in zip(images, labels, rng.integers(1, 6, 300), strict=True):
        (image if label else image.swapaxes(0, 1))[place : place + 2] = 230
    return assemble("bars", Source(Split(images, labels), None, ("upright", "level")))


@pytest.fixture(scope="module")
def spec(bars: data.Dataset) -> AdversarialSpec:
    return AdversarialSpec(
        "bars", bars.fingerprint, batch_size=16, learning_rate=2e-3, width=8, code_size=8, averaging=0.9
    )


def test_convolutions_over_blocks_are_the_strided_and_the_transposed_one() -> None:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, 6, 8, 3), np.float32))
    halving, doubling = HalvingConvolution(5), DoublingConvolution(5)
    layout = ("NHWC", "HWIO", "NHWC")

    def random_kernel(module: nn.Module) -> Any:
        shapes = jax.eval_shape(module.init, jax.random.key(0), x)["params"]["conv"]
        kernel = rng.standard_normal(shapes["kernel"].shape, np.float32) / 10
        return {"conv": {"kernel": kernel, "bias": np.zeros(shapes["bias"].shape, np.float32)}}

    parameters = random_kernel(halving)
    kernel = parameters["conv"]["kernel"].reshape(2, 2, 2, 2, 3, 5).transpose(0, 2, 1, 3, 4, 5).reshape(4, 4, 3, 5)
    strided = lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=layout)
    np.testing.assert_allclose(halving.apply({"params": parameters}, x), strided, atol=1e-5)

    # A transposed convolution is the gradient of the strided one: <strided(y), x> = <y, transposed(x)>.
    parameters = random_kernel(doubling)
    blocks = parameters["conv"]["kernel"].reshape(2, 2, 3, 2, 2, 5)  # [input block, c, pixel of the output block, f]
    kernel = blocks[::-1, ::-1].transpose(0, 3, 1, 4, 5, 2).reshape(4, 4, 5, 3)

    def strided_of(y: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(y, kernel, (2, 2), "SAME", dimension_numbers=layout)

    _, transpose = jax.vjp(strided_of, jnp.zeros((2, 12, 16, 5)))
    np.testing.assert_allclose(doubling.apply({"params": parameters}, x), transpose(x)[0], atol=1e-5)
    assert space_to_depth(x).shape == (2, 3, 4, 4, 3)


def test_the_distance_of_shifted_images_is_the_shift() -> None:
    rng = np.random.default_rng(0)
    images = rng.random((200, 6, 6, 1), np.float32)
    assert sliced_wasserstein(images, images[::-1]) < 1e-6  # the order does not matter, but for rounding
    assert sliced_wasserstein(images, images + np.float32(0.3), directions=4096) == pytest.approx(0.3, rel=0.05)
    other = rng.random((200, 6, 6, 1), np.float32)
    assert 0 < sliced_wasserstein(images, other) < sliced_wasserstein(images, other**3) / 3


def test_repeated_distances_are_of_other_draws_and_directions() -> None:
    images = np.random.default_rng(0).random((50, 4, 4, 1), np.float32)
    draws = {"same": lambda _: images, "shifted": lambda draw: images + np.float32(0.1 * draw)}
    found = repeated_distances(draws, images, repeats=3)
    assert found["same"] == (0, 0)
    values = [sliced_wasserstein(images + np.float32(0.1 * draw), images, seed=draw) for draw in range(3)]
    assert found["shifted"] == pytest.approx((np.mean(values), np.std(values, ddof=1)))


def test_confident_answers_are_counted_by_class() -> None:
    found = confident_answers(np.array([[0.95, 0.05], [0.92, 0.08], [0.5, 0.5], [0.1, 0.9]]), 0.9)
    assert found == (0.5, [2, 0], 1)


def test_the_slope_of_a_linear_judge_is_the_length_of_its_weights() -> None:
    numbers = np.random.default_rng(0).random((7, 4, 5, 1), np.float32)
    weights, images = jnp.asarray(numbers[:1]), jnp.asarray(numbers[1:])

    def judge(images: jax.Array) -> jax.Array:
        return 3 + (images * jnp.broadcast_to(weights, images.shape)).sum(axis=(1, 2, 3))

    assert gans.mean_square_slope(judge, images) == pytest.approx(float((weights**2).sum()), rel=1e-5)


@pytest.mark.slow
def test_without_a_hidden_layer_the_discriminator_adds_up_what_it_sees_at_each_place(spec: AdversarialSpec) -> None:
    """Then changes at two far places change the logit by their sum, however strong they are; with it they do not."""
    images = np.random.default_rng(0).random((1, 32, 32, 1), np.float32)
    both, one, other = (images.copy() for _ in range(3))
    for image in (both, one):
        image[:, :3, :3] = 1
    for image in (both, other):
        image[:, -3:, -3:] = 1

    def surplus(hidden: int) -> float:
        _, judge = gans.networks(replace(spec, hidden=hidden), (32, 32, 1))
        parameters = judge.init(jax.random.key(0), jnp.asarray(images))
        together, first, second, none = (float(judge.apply(parameters, x)[0, 0]) for x in (both, one, other, images))
        return abs(together - first - second + none)

    assert surplus(0) < 1e-6
    assert surplus(64) > 1e-4


@pytest.mark.slow
def test_a_penalty_makes_the_discriminator_less_steep(bars: data.Dataset, spec: AdversarialSpec) -> None:
    real = jnp.asarray(bars.train.images[:64] / np.float32(255))

    def slope(penalty: float) -> float:
        trained = gans.fit(replace(spec, hidden=16, penalty=penalty), bars, 2)
        _, judge = gans.networks(replace(spec, hidden=16), bars.image_shape)
        of = {"params": trained.players.discriminator}
        return float(gans.mean_square_slope(lambda x: judge.apply(of, x)[:, 0], real))

    assert slope(10.0) < slope(0.0) / 4


@pytest.fixture(scope="module")
def trained(bars: data.Dataset, spec: AdversarialSpec) -> gans.Trained:
    return gans.fit(spec, bars, 15)


@pytest.mark.slow
def test_the_generator_nears_the_data(trained: gans.Trained) -> None:
    assert list(trained.snapshots) == [0, 64, 128, trained.steps]
    assert trained.losses.shape == (trained.steps, 2)
    assert trained.distances[trained.steps] < 0.8 * trained.distances[0]
    images = trained.generate(40, 3)
    assert images.shape == (40, 8, 8, 1)
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.std(axis=0).mean() > 0.05  # codes give different images


class StoppedError(Exception):
    """Thrown into a run from its progress report, as a signal would be."""


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_bits(
    bars: data.Dataset, spec: AdversarialSpec, trained: gans.Trained, tmp_path: Path
) -> None:
    def stop(progress: Progress) -> None:
        if progress.done >= 100 * spec.batch_size:
            raise StoppedError

    with pytest.raises(StoppedError):
        gans.fit(spec, bars, 10, tmp_path, stop)
    resumed = gans.fit(spec, bars, 15, tmp_path)  # and on, as it is given more epochs
    jax.tree.map(np.testing.assert_array_equal, trained.players, resumed.players)
    np.testing.assert_array_equal(trained.losses, resumed.losses)
    assert resumed.distances == trained.distances
    np.testing.assert_array_equal(trained.generate(5, 1), resumed.generate(5, 1))

    for change, said in (({"width": 4}, "width 8 .now 4"), ({"beta1": 0.9}, "beta1 0.5 .now 0.9")):
        with pytest.raises(InputError, match=said):
            gans.fit(replace(spec, **change), bars, 15, tmp_path)
    with pytest.raises(InputError, match="ask for at least as many"):
        gans.fit(spec, bars, 1, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"beta1": 1.0}, "beta1 is 1.0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"batch_size": 1000}, "bars has .* training images, which makes no batch of 1000"),
    ],
)
def test_what_cannot_be_trained_is_named(
    bars: data.Dataset, spec: AdversarialSpec, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        gans.fit(replace(spec, **change), bars, 1)


def test_image_sizes_decide_the_depth() -> None:
    spec = AdversarialSpec("x", "", width=4)
    for shape, widths in (((28, 28, 1), (4, 8)), ((64, 64, 3), (4, 8, 16, 32)), ((32, 48, 3), (4, 8, 16))):
        generator, discriminator = gans.networks(spec, shape)
        assert generator.widths == discriminator.widths == widths
    for shape in ((45, 45, 1), (62, 62, 3)):
        with pytest.raises(InputError, match="resize them"):
            gans.networks(spec, shape)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, network_settings: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {"image_size": 16, "width": 4, "code_size": 8, "real_images": 64, "learning_rate": 1e-3}
    checkpoints = {"checkpoint_dir": str(tmp_path_factory.mktemp("checkpoints"))}  # the classifier sees other images
    return network_settings | own | checkpoints | {"epochs": 1}


@pytest.mark.slow
def test_generated_digits_are_judged(settings: dict[str, Any], tmp_path: Path) -> None:
    metrics = launch.execute(gan.run, gan.Settings(**settings, out_dir=str(tmp_path))).metrics
    distance = {kind: mean for kind, (mean, _) in metrics["sliced_wasserstein"].items()}
    assert distance["training"] < min(distance["generated"], distance["noise"])
    assert 0 <= metrics["judged"]["generated"]["confident"] <= 1
    assert metrics["judged"]["test"]["classes_present"] == 10
    assert json.loads((tmp_path / "metrics.json").read_text())["judged"] == metrics["judged"]
    for name in ("samples", "training", "losses", "distance"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 100
    assert not list(tmp_path.glob(".partial*"))


@pytest.mark.slow
def test_a_folder_of_too_few_images_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "few"
    folder.mkdir()
    for i in range(20):
        Image.fromarray(np.full((16, 16), i, np.uint8)).save(folder / f"{i}.png")
    of_folder = settings | {"dataset": f"folder:{folder}", "out_dir": str(tmp_path / "out")}
    with pytest.raises(InputError, match="15 training images, which makes no batch of 64"):
        gan.run(gan.Settings(**of_folder))
    result = gan.run(gan.Settings(**(of_folder | {"real_images": 8})))  # 4 test images
    assert result.metrics["judged"] == {}
    assert min(dict(result.draw())["samples.png"].get_size_inches()) > 0.5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"model": "papercnn"}, "unknown model 'papercnn'"),
        ({"image_size": 4}, "image_size is 4"),
    ],
)
def test_wrong_input_is_named(settings: dict[str, Any], change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        gan.run(gan.Settings(**(settings | change)))
