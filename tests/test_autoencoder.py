import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import autoencoder
from experiments.launch import execute
from wna_jax import data
from wna_jax.networks import autoencoders, checkpoints
from wna_jax.networks.models import generative
from wna_jax.networks.training import TrainingSpec
from wna_jax.runs.errors import InputError


@pytest.fixture(scope="module")
def few_digits(digits: data.Dataset) -> Iterator[data.Dataset]:
    """Some digits at 16x16 pixels, which train several times as fast; "digits" loads them."""
    sizes, load = {"train": 572, "validation": 143, "test": 143}, data.load
    splits = {name: data.Split(*(part[:count] for part in getattr(digits, name))) for name, count in sizes.items()}
    small = replace(digits, **splits).resized(16)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autoencoders, "_BATCH", 143)  # one size of batches, so one program
        patch.setattr(data, "load", lambda name, *rest: small if name == "digits" else load(name, *rest))
        yield small


def settings(folder: Path, **changes: Any) -> autoencoder.Settings:
    own: dict[str, Any] = {"autoencoders": ("conv_autoencoder",), "denoise": 0.3, "epochs": 25}
    return autoencoder.Settings(**(own | {"out_dir": str(folder), "checkpoint_dir": str(folder / "ck")} | changes))


@pytest.mark.slow
def test_a_denoised_digit_is_nearer_than_a_noisy_one_and_its_code_knows_its_class(
    few_digits: data.Dataset, tmp_path: Path
) -> None:
    metrics = execute(autoencoder.run, settings(tmp_path)).metrics
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    found = metrics["conv_autoencoder"]
    assert found["epochs"][-1]["validation_mse"] < 0.5 * found["epochs"][0]["validation_mse"]
    assert found["code_size"] == 64
    assert found["linear_probe"]["accuracy"] > 0.85
    low, high = found["linear_probe"]["interval"]
    assert low < found["linear_probe"]["accuracy"] < high
    noise_mse = 0.3**2 * np.mean((few_digits.test.images / 255 - 0.5) ** 2 + 1 / 12)
    assert found["test_mse"] < 0.7 * noise_mse
    assert metrics["principal components"]["linear_probe"]["accuracy"] > 0.85
    for name in ("reconstructions", "errors", "walk"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 100
    assert not list(tmp_path.glob(".partial*"))
    with np.load(tmp_path / "codes.npz") as arrays:
        assert arrays["codes_conv_autoencoder"].shape == (len(few_digits.test.labels), 64)


@pytest.mark.slow
def test_codes_of_another_size_are_trained_and_kept_by_themselves(few_digits: data.Dataset, tmp_path: Path) -> None:
    made = settings(tmp_path, autoencoders=("autoencoder",), denoise=0.0, epochs=1, code_size=3)
    metrics = autoencoder.run(made).metrics
    assert [metrics[name]["code_size"] for name in ("autoencoder", "principal components")] == [3, 3]
    older = TrainingSpec(few_digits.name, few_digits.fingerprint, "autoencoder", 0, 1, peak_learning_rate=1e-3)
    spec = autoencoders.default_spec(few_digits, "autoencoder", epochs=1)
    kept = [
        checkpoints.load_or_train(each, few_digits, Path(made.checkpoint_dir), train=autoencoders.fit)
        for each in (older, spec)
    ]
    assert [was_loaded for _, was_loaded in kept] == [False, True]  # a spec that says no size is that of older versions


@pytest.mark.slow
def test_a_code_of_two_scales_is_decoded_to_both(few_digits: data.Dataset, tmp_path: Path) -> None:
    result = autoencoder.run(settings(tmp_path, autoencoders=("two_scale_autoencoder",), denoise=0.0, epochs=30))
    found = result.metrics["two_scale_autoencoder"]
    images = jnp.asarray(few_digits.test_images)
    small = np.asarray(autoencoders.thumbnails(images, 10))
    assert small.shape[1:] == (10, 10, 1)
    np.testing.assert_allclose(small.mean(axis=(1, 2)), images.mean(axis=(1, 2)), atol=0.03)
    assert found["thumbnail_test_mse"] < 0.4 * small.var(axis=0).mean()  # of the mean thumbnail
    assert found["test_mse"] < 0.4 * np.var(images, axis=0).mean()
    assert dict(result.draw())["reconstructions.png"].axes  # the thumbnails are drawn, too


@pytest.mark.slow
def test_a_folder_of_one_well_filled_class_is_enough(tmp_path: Path) -> None:
    for name, count in (("many", 40), ("few", 2)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((8, 8), 5 * i, np.uint8)).save(tmp_path / "images" / name / f"{i}.png")
    dataset = f"folder:{tmp_path / 'images'}"
    result = autoencoder.run(settings(tmp_path, dataset=dataset, autoencoders=("autoencoder",), denoise=0.0, epochs=1))
    assert result.metrics["autoencoder"]["test_mse"] > 0
    assert dict(result.draw())["reconstructions.png"].axes


def test_wrong_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown autoencoder 'conv_vea' .did you mean 'conv_vae'"):
        settings(tmp_path, autoencoders=("conv_vea",))
    with pytest.raises(InputError, match="autoencoders is empty"):
        settings(tmp_path, autoencoders=())
    with pytest.raises(InputError, match=r"denoise is 0.95: expected a number from 0 to 0.9"):
        settings(tmp_path, denoise=0.95)
    with pytest.raises(InputError, match="epochs is 0"):
        autoencoder.run(settings(tmp_path, epochs=0))
    with pytest.raises(InputError, match=r"noise_weight is 1.0"):
        autoencoders.AutoencoderSpec("digits", "", "conv_vae", noise_weight=1.0)
    with pytest.raises(InputError, match=r"code_size is 0: it must be above 0"):
        autoencoders.AutoencoderSpec("digits", "", "conv_vae", code_size=0)
    with pytest.raises(InputError, match=r"code_size is -3"):
        settings(tmp_path, code_size=-3)
    module = generative.create("conv_autoencoder", (30, 30, 1))
    with pytest.raises(InputError, match=r"30x30 cannot be halved 2 times.*multiples of 4"):
        module.init(jax.random.key(0), jnp.zeros((1, 30, 30, 1)))


def test_the_noise_has_its_weight() -> None:
    images = jnp.full((50, 10, 10, 1), 0.25)
    shown = np.asarray(autoencoders.noisy(images, 0.4, jax.random.key(0)))
    assert shown.mean() == pytest.approx(0.6 * 0.25 + 0.4 * 0.5, abs=0.01)
    assert shown.std() == pytest.approx(0.4 / np.sqrt(12), rel=0.03)
    assert autoencoders.noisy(images, 0.0, jax.random.key(0)) is images


def test_an_autoencoder_takes_bytes_and_fractions() -> None:
    module = generative.create("vae", (4, 4, 1))
    rng, shapes = np.random.default_rng(0), jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 4, 4, 1)))
    images_u8 = rng.integers(0, 256, (5, 4, 4, 1), np.uint8)
    parameters = jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), shapes["params"])
    coder = autoencoders.Autoencoder(module, parameters)
    codes = coder.encode(images_u8)
    assert codes.shape == (5, module.code_size)
    np.testing.assert_allclose(codes, coder.encode(images_u8 / np.float32(255)), atol=1e-5)
    assert coder.decode(codes).shape == (5, 4, 4, 1)
    assert coder.decode_thumbnail(codes) is None


def test_all_principal_components_give_the_images_back() -> None:
    images = np.random.default_rng(0).random((8, 3, 3, 1))
    components = autoencoders.PrincipalComponents(images, 100)
    codes = components.encode(images)
    assert codes.shape == (8, 7)
    np.testing.assert_allclose(components.decode(codes), images, atol=1e-6)


def test_a_linear_probe_finds_classes_that_lie_apart() -> None:
    labels = np.arange(60) % 3
    codes = np.eye(3)[labels] * 1e-3 + np.random.default_rng(0).normal(0, 1e-5, (60, 3)) + 7
    np.testing.assert_array_equal(autoencoders.linear_probe(codes[:30], labels[:30], codes[30:]), labels[30:])
