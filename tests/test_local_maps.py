from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import wna_jax
from experiments import launch, local_maps
from experiments.launch import Result
from experiments.local_maps import Settings
from wna_jax import data
from wna_jax.runs.errors import InputError
from wna_jax.studies import attributions


@pytest.fixture(scope="module")
def settings(network_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    out = str(tmp_path_factory.mktemp("local_maps"))
    return Settings(**network_settings, out_dir=out, index=3, num_samples=2_000, permutations=19)


@pytest.fixture(scope="module")
def result(settings: Settings) -> Result:
    return launch.execute(local_maps.run, settings)


@pytest.mark.slow
def test_at_its_threshold_contrast_the_answer_is_given_as_often_as_was_asked_for(result: Result) -> None:
    metrics, n = result.metrics, 2_000
    assert metrics["classes"][0] == metrics["answer"]
    share = metrics["counts"][0] / n
    error = np.sqrt(0.75 * 0.25 * (1 / n + 1 / 500))  # that of the threshold, of 500 draws, too
    assert abs(share - 0.75) < 5 * error
    assert metrics["threshold"]["low"] < metrics["contrast"] < metrics["threshold"]["high"]


@pytest.mark.slow
@pytest.mark.usefixtures("result")
def test_what_it_wrote_is_read_as_a_run(settings: Settings, result: Result) -> None:
    read = wna_jax.load(settings.folder)
    assert list(read.class_names) == result.metrics["classes"]
    assert read.moments["decision"].num_samples == 2_000
    picture = np.load(settings.folder / "contributions.npz")["picture"]
    np.testing.assert_array_equal(picture, data.load("digits").test_images[3])
    assert (settings.folder / "local_maps.png").stat().st_size > 0


@pytest.mark.slow
def test_an_image_file_is_the_picture_at_the_size_of_the_network(settings: Settings, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cat.png")
    own = Settings(**vars(settings) | {"image": str(tmp_path / "cat.png"), "contrast": 0.5, "num_samples": 300})
    found = local_maps.run(Settings(**vars(own) | {"out_dir": str(tmp_path / "out"), "classes": ("3", "8")}))
    assert found.metrics["picture"] == "cat.png"
    assert found.metrics["classes"] == ["3", "8"]
    assert found.metrics["threshold"] is None
    expected = data.read_image(tmp_path / "cat.png", (28, 28, 1))[0] / np.float32(255)
    np.testing.assert_array_equal(found.arrays["contributions.npz"]["picture"], expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"index": 100_000}, "index is 100000: the test images of digits are numbered 0 to"),
        ({"image": "none.png"}, "none.png: not a readable image (no such file)"),
        ({"classes": ("3", "eight")}, "unknown class 'eight'"),
    ],
)
def test_wrong_input_is_said(settings: Settings, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        local_maps.run(Settings(**vars(settings) | {"out_dir": str(tmp_path)} | change))
    assert said in str(error.value)


def test_an_image_is_brought_to_the_shape_asked_for(tmp_path: Path) -> None:
    red = np.zeros((40, 60, 3), np.uint8)
    red[..., 0] = 200
    Image.fromarray(red).save(tmp_path / "red.png")
    coloured, _ = data.read_image(tmp_path / "red.png", (9, 7, 3))
    np.testing.assert_array_equal(coloured, np.full((9, 7, 3), (200, 0, 0)))
    grey, _ = data.read_image(tmp_path / "red.png", (9, 7, 1))
    np.testing.assert_array_equal(grey, np.full((9, 7, 1), round(200 * 0.299)))


def test_the_middle_of_a_wide_or_a_high_image_is_taken_and_said(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 16, 1), np.uint8)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "wide.png")
    wide, said = data.read_image(tmp_path / "wide.png", (10, 10, 1))
    np.testing.assert_array_equal(wide, pixels[:, 3:13])
    assert said == "the middle 10x10 of 16x10 pixels"
    high, said = data.read_image(tmp_path / "wide.png", (10, 4, 1))
    np.testing.assert_array_equal(high, pixels[:, 6:10])
    small, said = data.read_image(tmp_path / "wide.png", (5, 5, 1))
    assert small.shape == (5, 5, 1)
    assert said == "the middle 10x10 of 16x10 pixels, resized from 10x10 to 5x5"
    assert data.read_image(tmp_path / "wide.png", (10, 16, 1))[1] == ""


def test_the_median_reference_is_the_most_ordinary_pixel(digits: data.Dataset) -> None:
    image = digits.test_images[0]
    expected = np.median(digits.train.images) / 255
    np.testing.assert_allclose(attributions.reference("median", image, digits), np.full(image.shape, expected))
    blurred = attributions.reference("blur", image, digits)
    assert np.abs(np.diff(blurred, axis=0)).max() < np.abs(np.diff(image, axis=0)).max() / 4
    assert abs(blurred.mean() - image.mean()) < 0.05
    with pytest.raises(InputError, match="unknown reference 'black'"):
        attributions.reference("black", image, digits)
