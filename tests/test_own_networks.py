"""Networks of one's own on the command line: --model=file.py:create."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments import (
    black_box_attack,
    fgsm,
    insertion_deletion,
    local_maps,
    map_classifier,
    microstimulation,
    noise_maps,
    shared,
    signal_in_noise,
)
from experiments import spike_triggered_average as averages
from experiments.settings import Settings
from wna_jax import data, responses
from wna_jax.networks import Foreign
from wna_jax.runs.errors import InputError

HEAD = """
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
import jax
from wna_jax import data, networks, responses

digits = data.load("digits")
TEMPLATES = (digits.class_means.reshape(10, -1) - digits.class_means.mean(axis=0).ravel()).T.astype(np.float32)
BIAS = -(TEMPLATES**2).sum(axis=0) / 2 - TEMPLATES.T @ digits.class_means.mean(axis=0).ravel()

def jax_logits(images):
    return images.reshape(len(images), -1) @ TEMPLATES + BIAS[None]

def numpy_logits(images):
    assert isinstance(images, np.ndarray)
    return images.reshape(len(images), -1) @ TEMPLATES + BIAS

class Convolutional(nn.Module):
    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(3, (5, 5), strides=3, padding="VALID", name="first")(images))
        return nn.Dense(10)(x.reshape(len(x), -1))

def of_jax():
    return jax_logits

def of_numpy():
    return networks.Foreign(responses.of_black_box(numpy_logits), (28, 28, 1), digits.class_names)

def of_linen():
    return networks.of_linen(Convolutional(), Convolutional().init(jax.random.key(0), jnp.zeros((1, 28, 28, 1))))

def of_labels():
    return networks.Foreign(jax_logits, outputs="label_logits")

def broken():
    raise OSError("weights.pt is missing\\nand more")

def nothing():
    return {"a": 1}

def small():
    return networks.Foreign(jax_logits, (8, 8, 1))

def two():
    return lambda images: jax_logits(images)[:, :2]

def others():
    return networks.Foreign(jax_logits, class_names=list("abcdefghij"))

def value():
    return networks.Foreign(lambda images: images.reshape(len(images), -1)[:, :10], outputs="value")
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "my_networks.py"
    path.write_text(HEAD)
    return path


def settings_of(of: type[Settings], file: Path, create: str, folder: Path, **others: Any) -> Any:
    return of(**{"model": f"{file}:{create}", "dataset": "digits", "out_dir": str(folder)} | others)


SMALL: dict[str, Any] = {"num_samples": 2_000, "permutations": 19, "gradient_samples": 0}


@pytest.mark.slow
def test_maps_of_a_jax_and_of_a_numpy_network_are_the_same(file: Path, tmp_path: Path) -> None:
    found = {}
    for create in ("of_jax", "of_numpy"):
        settings = settings_of(noise_maps.Settings, file, create, tmp_path / create, **SMALL)
        found[create] = noise_maps.run(settings)
    ours, theirs = (each.metrics for each in found.values())
    assert ours["test_accuracy"] == pytest.approx(theirs["test_accuracy"], abs=0.003)  # ties of rounding
    assert ours["test_accuracy"] > 0.85  # nearest class mean
    assert np.abs(np.subtract(ours["counts"], theirs["counts"])).sum() <= 4
    assert ours["classes"] == list("0123456789")


@pytest.mark.slow
def test_no_data_are_needed(file: Path, tmp_path: Path) -> None:
    how = {"dataset": "none", "noise": "uniform", **SMALL}
    with_shape = settings_of(noise_maps.Settings, file, "of_numpy", tmp_path / "a", **how)
    said = settings_of(noise_maps.Settings, file, "of_labels", tmp_path / "b", image_shape=(28, 28, 1), **how)
    result, of_labels = noise_maps.run(with_shape), noise_maps.run(said)
    assert result.metrics["test_accuracy"] is None
    assert sum(result.metrics["counts"]) == 2_000
    assert sum(of_labels.metrics["counts"]) != 2_000  # each label by itself
    assert next(name for name, _ in result.draw()) == "classification_images.png"


@pytest.mark.slow
def test_experiments_take_networks_that_jax_cannot_trace(file: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"num_samples": 500}
    metrics = {}
    for experiment, more in (
        (signal_in_noise, {**how, "gammas": (0.3,), "classes": ("3", "4")}),
        (black_box_attack, {**how, "num_images": 50, "pattern": ("probability",)}),
        (map_classifier, {**how, "noises": ("matched",)}),
    ):
        for create in ("of_jax", "of_numpy"):
            name = f"{experiment.__name__}_{create}"
            settings = settings_of(experiment.Settings, file, create, tmp_path / name, **more)
            metrics[name] = experiment.run(settings).metrics
    shares = [
        np.array(metrics[f"experiments.signal_in_noise_{create}"]["psychometric"]["share_called_4"]["4"])
        for create in ("of_jax", "of_numpy")
    ]
    np.testing.assert_allclose(shares[0], shares[1], atol=0.01)
    assert shares[0][-1] > 0.9
    success = [
        np.array(metrics[f"experiments.black_box_attack_{create}"]["success"]["noise images"]["probability"]["mean"])
        for create in ("of_jax", "of_numpy")
    ]
    np.testing.assert_allclose(success[0], success[1], atol=0.05)
    with pytest.raises(InputError, match="JAX knows neither its gradient nor its layers"):
        fgsm.run(settings_of(fgsm.Settings, file, "of_numpy", tmp_path / "fgsm", epsilons=(0.1,)))


@pytest.mark.slow
def test_a_picture_is_explained_to_networks_that_jax_cannot_trace_without_gradients(file: Path, tmp_path: Path) -> None:
    found = {}
    for create in ("of_jax", "of_numpy"):
        how: dict[str, Any] = {"num_samples": 2_000, "index": 3}
        own = settings_of(local_maps.Settings, file, create, tmp_path / create, **how)
        found[create] = local_maps.run(own)
    of_jax, of_numpy = (found[create].metrics for create in found)
    assert of_jax["classes"] == of_numpy["classes"]
    np.testing.assert_allclose(of_jax["counts"], of_numpy["counts"], atol=2)
    methods = [set(of.arrays["contributions.npz"]) for of in found.values()]
    assert {name.split(",")[0] for name in methods[0] - methods[1]} == {"SmoothGrad", "integrated gradients"}
    how = {"num_images": 2, "num_passes": 600, "contrast": 0.3}
    scores = insertion_deletion.run(
        settings_of(insertion_deletion.Settings, file, "of_numpy", tmp_path / "scores", **how)
    ).metrics["scores"]
    assert len(scores) == 8


@pytest.mark.slow
def test_a_picture_needs_no_data(file: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    how: dict[str, Any] = {"dataset": "none", "num_samples": 500, "contrast": 0.3}
    settings = settings_of(local_maps.Settings, file, "of_numpy", tmp_path / "a", **how)
    with pytest.raises(InputError, match="--dataset=none has no test images: give --image"):
        local_maps.run(settings)
    with_image = replace(settings, image=str(tmp_path / "a.png"))
    with pytest.raises(InputError, match="there are no training images: give --reference=blur"):
        local_maps.run(replace(with_image, reference="median"))
    result = local_maps.run(with_image)
    assert result.metrics["test_accuracy"] is None
    assert result.metrics["reference"] == "blur"
    assert "reference       removed pixels are those of the picture behind a blur" in result.summary
    assert next(name for name, _ in result.draw()) == "local_maps.png"


@pytest.mark.slow
def test_pictures_of_ones_own_are_scored_without_data(file: Path, tmp_path: Path) -> None:
    folder, digits = tmp_path / "pictures", data.load("digits")
    folder.mkdir()
    for i in range(3):
        Image.fromarray(np.pad(digits.test.images[i, ..., 0], ((0, 0), (6, 6)))).save(folder / f"{i}.png")
    how: dict[str, Any] = {"dataset": "none", "num_passes": 1_100, "steps": 10, "contrast": 0.3}
    with pytest.raises(InputError, match="--dataset=none has no test images: give --image"):
        insertion_deletion.run(settings_of(insertion_deletion.Settings, file, "of_numpy", tmp_path / "a", **how))
    one = {**how, "image": (str(folder / "0.png"),)}
    with pytest.raises(InputError, match="1 image files: expected two or more"):
        insertion_deletion.run(settings_of(insertion_deletion.Settings, file, "of_numpy", tmp_path / "a", **one))
    given = {**how, "image": (str(folder / "0.png"), str(folder))}
    found = insertion_deletion.run(settings_of(insertion_deletion.Settings, file, "of_numpy", tmp_path / "a", **given))
    assert found.metrics["num_images"] == 4
    assert found.metrics["images"][0] == "0.png (the middle 28x28 of 40x28 pixels)"
    deletion = found.arrays["scores.npz"]["deletion"]
    first = list(found.arrays["scores.npz"]["methods"]).index("classification image, logit")
    np.testing.assert_array_equal(deletion[0, first, [0, -1]], deletion[1, first, [0, -1]])  # one picture, given twice
    chance = found.metrics["scores"]["random order"]["deletion"]["mean"]
    assert found.metrics["scores"]["classification image, logit"]["deletion"]["mean"] < chance
    assert found.summary[0].startswith("0.png (the middle 28x28 of 40x28 pixels), called ")


@pytest.mark.parametrize(
    ("model", "dataset", "title"),
    [
        ("path/to/net.py:create", "mnist", "net on mnist"),
        ("my_package.nets:create", "none", "nets"),
        ("my_package.nets:resnet18", "none", "resnet18"),
        ("paper_cnn", "mnist", "paper_cnn on mnist"),
    ],
)
def test_titles_name_a_network_by_its_function_or_its_module(
    model: str, dataset: str, title: str, digits: data.Dataset
) -> None:
    shown = replace(digits, name=dataset)
    assert shared.title_of(noise_maps.Settings(model=model), shown) == title


def test_a_differentiable_network_is_attacked_along_its_gradient(file: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"epsilons": (0.0, 0.3), "shown_epsilons": (0.3,)}
    accuracy = fgsm.run(settings_of(fgsm.Settings, file, "of_jax", tmp_path, **how)).metrics["accuracy"]
    assert accuracy["sign of the gradient"][1] < 0.2 < 0.8 < accuracy["random signs"][1]


@pytest.mark.slow
def test_layers_of_an_own_network_have_averages(file: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"num_samples": 2_000, "natural_samples": 0, "sampling": "independent"}
    with pytest.warns(
        UserWarning, match=r"calls .* of the test images right, hardly more than chance: images are given in"
    ):
        found = averages.run(settings_of(averages.Settings, file, "of_linen", tmp_path, **how)).metrics["layers"]
    assert list(found) == ["first"]
    assert found["first"]["receptive_field"]["size"] == (5, 5)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("{file}:of_nothing", "unknown function of .* 'of_nothing' .did you mean 'nothing'"),
        ("{file}:broken", r"broken\(\) raised OSError: weights.pt is missing and more; expected a function without"),
        ("{file}:nothing", r"nothing\(\) returned a dict: expected a network that can be called, or networks.Foreign"),
        ("{file}:numpy_logits", r"numpy_logits\(\) raised TypeError: .*; expected a function without arguments"),
        ("{file}:small", r"takes images \(8, 8, 1\), those of digits are \(28, 28, 1\): give --image_size"),
        ("{file}:two", "answers 2 classes, digits has 10: expected as many; choose classes as in"),
        ("{file}:others", "the classes of .*others are a, b, c, d, ..., of digits 0, 1, 2, 3, ...: expected one order"),
        ("{file}:value", "a regression has no logits, and its maps are made by"),
        ("no/such/file.py:create", "there is no file .*no/such/file.py"),
        ("no_such_package.module:create", "raised ModuleNotFoundError: No module named 'no_such_package'; expected pa"),
        ("wna_jax.data.images:None", "unknown function of wna_jax.data.images 'None'"),
        (":create", "raised ValueError: Empty module name; expected package.module:function"),
    ],
)
def test_wrong_networks_are_told_in_one_line(file: Path, tmp_path: Path, model: str, said: str) -> None:
    settings = settings_of(noise_maps.Settings, file, "", tmp_path, model=model.format(file=file), **SMALL)
    with pytest.raises(InputError, match=said) as refused:
        noise_maps.run(settings)
    assert "\n" not in str(refused.value)


def test_what_no_data_have_is_asked_for(file: Path, tmp_path: Path) -> None:
    for how, said in (
        ({}, "noise 'matched' is made of a data set's images, of which there are none: choose uniform"),
        ({"model": f"{file}:of_jax"}, "--dataset=none needs an image shape, none is given, .*: give --image_shape"),
        ({"image_shape": (28, 28)}, r"image_shape is 28,28, the network takes \(28, 28, 1\): give --image_shape"),
        (
            {"image_shape": (8, 8, 1)},
            r"is 8,8,1, the network takes \(28, 28, 1\): give --image_shape=28,28,1",
        ),
        ({"model": str(file)}, "name the function in it that returns the network, as in .*py:create"),
        ({"model": "paper_cnn"}, "unknown data set 'none'"),
        ({"dataset": "digits", "image_shape": (8, 8, 1)}, r"images of digits \(28, 28, 1\): leave it out"),
    ):
        with pytest.raises(InputError, match=said):
            noise_maps.run(
                settings_of(noise_maps.Settings, file, "of_numpy", tmp_path, **{"dataset": "none"} | SMALL | how)
            )
    with pytest.raises(InputError, match="this experiment takes one of logistic, mlp"):
        microstimulation.run(settings_of(microstimulation.Settings, file, "of_jax", tmp_path))


def test_a_network_has_the_shape_of_images_and_different_classes() -> None:
    with pytest.raises(InputError, match=r"image_shape is \(28, 28\): expected \(height, width, channels\)"):
        Foreign(abs, (28, 28))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="class_names has 2 names, of which some are the same"):
        Foreign(abs, class_names=["a", "a"])


def _three(images: Any) -> Any:
    return images.reshape(len(images), -1)[:, :3]


def test_an_image_shape_may_be_a_list() -> None:
    own = Foreign(_three, [28, 28, 1])  # type: ignore[arg-type]
    assert own.image_shape == (28, 28, 1)
    assert shared.without_data(own, None).image_shape == (28, 28, 1)


def test_a_regression_is_sent_where_its_maps_are_made() -> None:
    with pytest.raises(InputError, match=r"a regression has no logits, and its maps are made by wna_jax\.analyse"):
        responses.as_logits(Foreign(_three, (28, 28, 1), outputs="value"))
