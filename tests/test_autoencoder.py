import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import autoencoder
from wna_jax.data import Dataset
from wna_jax.networks import autoencoders as autoencoding
from wna_jax.networks.models import generative
from wna_jax.runs.errors import InputError


@pytest.fixture
def settings(network_settings: dict[str, Any], tmp_path: Path) -> autoencoder.Settings:
    common = {name: value for name, value in network_settings.items() if name not in ("model", "epochs")}
    own = {"autoencoders": ("conv_autoencoder",), "denoise": 0.3, "epochs": 10, "out_dir": str(tmp_path)}
    return autoencoder.Settings(**(common | own))


def test_a_denoised_digit_is_nearer_than_a_noisy_one_and_its_code_knows_its_class(
    settings: autoencoder.Settings, digits: Dataset, tmp_path: Path
) -> None:
    autoencoder.run(settings)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    found = metrics["conv_autoencoder"]
    assert found["epochs"][-1]["validation_mse"] < 0.5 * found["epochs"][0]["validation_mse"]
    assert found["code_size"] == 64
    assert found["linear_probe"]["accuracy"] > 0.85
    low, high = found["linear_probe"]["interval"]
    assert low < found["linear_probe"]["accuracy"] < high
    noise_mse = 0.3**2 * np.mean((digits.test.images / 255 - 0.5) ** 2 + 1 / 12)
    assert found["test_mse"] < 0.7 * noise_mse
    assert metrics["principal components"]["linear_probe"]["accuracy"] > 0.85
    for name in ("reconstructions", "errors", "walk"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 100


def test_a_code_of_two_scales_is_decoded_to_both(
    settings: autoencoder.Settings, digits: Dataset, tmp_path: Path
) -> None:
    autoencoder.run(replace(settings, autoencoders=("two_scale_autoencoder",), denoise=0.0))
    found = json.loads((tmp_path / "metrics.json").read_text())["two_scale_autoencoder"]
    images = jnp.asarray(digits.test.images / np.float32(255))
    small = np.asarray(autoencoding.thumbnails(images, 10))
    assert small.shape[1:] == (10, 10, 1)
    np.testing.assert_allclose(small.mean(axis=(1, 2)), images.mean(axis=(1, 2)), atol=0.03)
    assert found["thumbnail_test_mse"] < 0.4 * small.var(axis=0).mean()  # of the mean thumbnail
    assert found["test_mse"] < 0.4 * np.var(images, axis=0).mean()


def test_a_folder_of_one_well_filled_class_is_enough(settings: autoencoder.Settings, tmp_path: Path) -> None:
    for name, count in (("many", 40), ("few", 2)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((8, 8), 5 * i, np.uint8)).save(tmp_path / "images" / name / f"{i}.png")
    autoencoder.run(replace(settings, dataset=f"folder:{tmp_path / 'images'}", epochs=1))
    assert (tmp_path / "reconstructions.png").stat().st_size > 0


def test_wrong_input_is_named(settings: autoencoder.Settings) -> None:
    with pytest.raises(InputError, match=r"unknown autoencoder 'conv_vea' .did you mean 'conv_vae'"):
        autoencoder.run(replace(settings, autoencoders=("conv_vea",)))
    with pytest.raises(InputError, match="autoencoders is empty"):
        autoencoder.run(replace(settings, autoencoders=()))
    with pytest.raises(InputError, match="epochs is 0"):
        autoencoder.run(replace(settings, epochs=0))
    with pytest.raises(InputError, match=r"noise_weight is 1.0"):
        autoencoding.DenoisingSpec("digits", "", "conv_vae", noise_weight=1.0)
    module = generative.create("conv_autoencoder", (30, 30, 1))
    with pytest.raises(InputError, match=r"30x30 cannot be halved 2 times.*multiples of 4"):
        module.init(jax.random.key(0), jnp.zeros((1, 30, 30, 1)))


def test_the_noise_has_its_weight() -> None:
    images = jnp.full((50, 10, 10, 1), 0.25)
    shown = np.asarray(autoencoding.noisy(images, 0.4, jax.random.key(0)))
    assert shown.mean() == pytest.approx(0.6 * 0.25 + 0.4 * 0.5, abs=0.01)
    assert shown.std() == pytest.approx(0.4 / np.sqrt(12), rel=0.03)
    assert autoencoding.noisy(images, 0.0, jax.random.key(0)) is images
