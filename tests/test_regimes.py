from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial
from scipy import ndimage

from experiments import classify, noise_maps, shared
from wna_jax.data import Dataset
from wna_jax.networks import Network, checkpoints, models, regimes, training
from wna_jax.networks.augmentation import augmenter
from wna_jax.networks.training import Trained, TrainingSpec, fit
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import silent
from wna_jax.runs.seeds import key_of
from wna_jax.studies import interventions


def spec(digits: Dataset, augmentation: str | None, epochs: int = 5) -> TrainingSpec:
    return TrainingSpec("digits", digits.fingerprint, "mlp", epochs=epochs, augmentation=augmentation)


def under_attack(digits: Dataset, trained: Trained, epsilon: float) -> float:
    network = Network(models.create("mlp", digits.image_shape, 10), trained.parameters)
    images, labels = digits.test_images, digits.test.labels
    hits = interventions.hits(network, Partial(interventions.fgsm, network), [epsilon], (images, labels), labels)
    return float(hits[0]) / len(labels)


@pytest.mark.slow
def test_a_network_trained_against_steps_withstands_them_better(digits: Dataset) -> None:
    plain, adversarial = (fit(spec(digits, regime), digits) for regime in (None, "adversarial:0.1"))
    assert min(plain.metrics["test_accuracy"], adversarial.metrics["test_accuracy"]) > 0.9
    assert under_attack(digits, adversarial, 0.1) > under_attack(digits, plain, 0.1) + 0.2


def test_the_step_is_that_of_its_formula() -> None:
    """Of a linear network, whose loss gradient is (softmax - one-hot) weights, in NumPy."""
    random = np.random.default_rng(0)
    weights = random.standard_normal((12, 3)).astype(np.float32)
    x, labels, epsilon = random.random((50, 12)).astype(np.float32), random.integers(0, 3, 50), 0.2
    key = jax.random.key(1)

    def linear(images: jax.Array) -> jax.Array:
        return jnp.dot(images.reshape(len(images), -1), weights, precision="highest")

    images = jnp.asarray(x.reshape(50, 2, 6, 1))
    got = np.asarray(jax.jit(partial(regimes.adversarial, linear, epsilon=epsilon))(key, images, jnp.asarray(labels)))
    start = np.clip(x + np.asarray(jax.random.uniform(key, images.shape)).reshape(50, 12) * 2 * epsilon - epsilon, 0, 1)
    scores = np.exp(start @ weights)
    gradient = (scores / scores.sum(axis=1, keepdims=True) - np.eye(3)[labels]) @ weights.T
    expected = np.clip(
        start + 1.25 * epsilon * np.sign(gradient), np.maximum(x - epsilon, 0), np.minimum(x + epsilon, 1)
    )
    clear = np.abs(gradient) > 1e-5  # of others the sign is that of a rounding error
    np.testing.assert_allclose(got.reshape(50, 12)[clear], expected[clear], atol=1e-6)
    assert clear.mean() > 0.99


def test_no_gradient_flows_through_the_step() -> None:
    def loss(scale: jax.Array) -> jax.Array:
        images, labels = jnp.full((2, 1, 2, 1), 0.5), jnp.array([0, 1])
        return regimes.adversarial(lambda x: scale * x[:, 0, :, 0], jax.random.key(0), images, labels, 0.1).sum()

    assert float(jax.grad(loss)(jnp.float32(2))) == 0


def test_plain_training_takes_the_steps_of_adam_on_the_images_as_they_are(digits: Dataset) -> None:
    trained = fit(spec(digits, None, epochs=1), digits)
    module = models.create("mlp", digits.image_shape, 10)
    parameters = models.initial_parameters(module, key_of(0))
    size = len(digits.train.labels)
    rule = training.one_cycle(3e-3, size // 128)
    state, order = rule.init(parameters), np.random.default_rng((0, 0)).permutation(size)

    @jax.jit
    def step(parameters: dict, state: tuple, images_u8: jax.Array, labels: jax.Array) -> tuple[dict, tuple]:
        def loss(parameters: dict) -> jax.Array:
            logits = module.apply({"params": parameters}, training.to_unit_range(images_u8))
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        with jax.numpy_dtype_promotion("standard"):
            updates, state = rule.update(jax.grad(loss)(parameters), state, parameters)
        return optax.apply_updates(parameters, updates), state

    for i in range(size // 128):
        batch = order[128 * i : 128 * (i + 1)]
        parameters, state = step(parameters, state, digits.train.images[batch], digits.train.labels[batch])
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), trained.parameters, jax.device_get(parameters))


def test_noise_and_blur_of_a_number_are_what_they_say() -> None:
    keys = jax.random.split(jax.random.key(0), 2_000)
    grey = jnp.full((4, 4, 1), 0.5)
    noisy = np.asarray(jax.jit(jax.vmap(augmenter("noise:0.1"), (0, None)))(keys, grey))
    assert noisy.mean() == pytest.approx(0.5, abs=4 * 0.1 / np.sqrt(noisy.size))
    assert noisy.std() == pytest.approx(0.1, rel=0.02)
    correlations = np.corrcoef(noisy.reshape(2_000, -1).T)
    assert np.abs(correlations - np.eye(16)).max() < 5 / np.sqrt(2_000)
    image = np.random.default_rng(0).random((14, 14, 1), np.float32)
    blurred = jax.jit(augmenter("blur:1.5"))(keys[0], image)
    expected = ndimage.gaussian_filter(image, (1.5, 1.5, 0), radius=(5, 5, 0), mode="nearest")
    np.testing.assert_allclose(blurred, expected, atol=1e-5)


def test_each_regime_has_a_checkpoint_of_its_own_and_adds_to_what_is_usual(digits: Dataset) -> None:
    names = [None, "noise:0.3", "noise:0.1", "blur:1", "blur", "adversarial:0.1", "shift_adversarial:0.1"]
    assert len({checkpoints.path_of(spec(digits, name), Path("x")) for name in names}) == len(names)
    assert training.in_regime("plain", "mnist") is None
    assert training.in_regime("noise:0.3", "mnist") == "noise:0.3"
    assert training.in_regime("plain", "cifar10") == "flip_shift"
    assert training.in_regime("adversarial:0.03", "cifar10:cat,dog") == "flip_shift_adversarial:0.03"


def test_what_needs_the_network_is_no_augmentation_of_an_image() -> None:
    with pytest.raises(InputError, match=r"unknown augmentation 'adversarial': choose one of flip, .*noise:DEVIATION$"):
        augmenter("adversarial:0.1")


@pytest.mark.parametrize(
    ("regime", "said"),
    [
        ("noise", "training with 'noise': expected a number above 0 and at most 1, such as noise:0.1"),
        ("blur:0", "training with 'blur:0': expected a number above 0 and at most 10"),
        ("adversarial:x", "training with 'adversarial:x': expected a number above 0 and at most 1"),
        ("adversarial:0.1_adversarial:0.2", "expected one adversarial step"),
        ("shift:2", "augmentation 'shift:2': shift takes no number, write shift"),
        (
            "adversaria:0.1",
            r"unknown augmentation 'adversaria' \(did you mean 'adversarial:EPSILON'\?\): choose one of",
        ),
    ],
)
def test_wrong_regimes_are_named(regime: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        training.in_regime(regime, "mnist")


def test_an_experiment_trains_in_the_regime_that_its_flag_names(tmp_path: Path, digits: Dataset) -> None:
    """A checkpoint of its own; "none" is what digits have by default."""
    of_all: dict = {"epochs": 1, "model": "logistic", "checkpoint_dir": str(tmp_path)}
    settings = [classify.Settings(**of_all, augmentation=name) for name in (None, "none", "shift_noise:0.1")]
    plain, none, shifted = (shared.trained_network(each, digits, silent) for each in settings)
    assert (plain.was_loaded, none.was_loaded, shifted.was_loaded) == (False, True, False)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {
        "digits-logistic-seed0",
        "digits-logistic-seed0-shift_noise_0.1",
    }
    expected = fit(replace(spec(digits, "shift_noise:0.1", 1), model="logistic"), digits).metrics["test_accuracy"]
    assert shifted.test_accuracy == expected
    assert shared.title_of(settings[2], digits) == "logistic (augmentation: shift_noise:0.1) on digits"
    folders = [str(each.placed("classify", ["augmentation"]).folder) for each in settings[1:]]
    assert folders[1].endswith("augmentation_shift_noise_0.1")
    assert folders[0] != folders[1]


def test_an_augmentation_is_checked_before_anything_is_loaded() -> None:
    with pytest.raises(InputError, match="unknown augmentation 'turn'"):
        classify.Settings(augmentation="turn")
    with pytest.raises(InputError, match="'flip,shift': join several by _, as in flip_shift"):
        classify.Settings(augmentation="flip,shift")
    with pytest.raises(InputError, match="is trained already: leave it out"):
        noise_maps.Settings(model="my.module:create", augmentation="flip")
