import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import noise_maps
from experiments.common import Settings
from wna_jax import data
from wna_jax.errors import InputError

FIGURES = (
    "classification_images.png",
    "noise_histogram.png",
    "noise_examples.png",
    "class_gallery.png",
    "significance.png",
    "convergence.png",
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("runs")
    return Settings(
        dataset="digits",
        data_dir=None,
        model="logistic",
        epochs=5,
        noise="matched",
        response=("decision", "probability"),
        sampling="auto",
        num_samples=3000,
        batch_size=None,
        permutations=19,
        gradient_samples=100,
        seed=0,
        train_seed=0,
        out_dir=str(folder / "first"),
        checkpoint_dir=str(folder / "checkpoints"),
        retrain=False,
    )


@pytest.fixture(scope="module")
def first(settings: Settings) -> Path:
    noise_maps.run(settings)
    return Path(settings.out_dir)


def read(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text())


def test_it_leaves_metrics_that_agree_with_its_arrays(first: Path, digits: data.Dataset) -> None:
    metrics = read(first, "metrics.json")
    assert 0.8 < metrics["test_accuracy"] <= 1
    assert sum(metrics["counts"]) == metrics["num_samples"] == 3000
    assert metrics["empty_classes"] == [k for k, count in enumerate(metrics["counts"]) if count == 0]
    assert metrics["samples_per_second"] > 0
    arrays = np.load(first / "maps.npz")
    np.testing.assert_array_equal(arrays["decision_count"], metrics["counts"])
    for name in ("decision", "probability"):
        assert len(metrics["feedback"][name]) == digits.num_classes
        for k, answer in enumerate(metrics["feedback"][name]):
            has_map = f"{name}_map_{k}" in arrays
            assert has_map == (answer is not None) == (arrays[f"{name}_weight_sum"][k] > 0)
            if answer is not None:
                assert answer["correct"] == (answer["predicted"] == k)
                assert 0.1 <= answer["confidence"] <= 1
                mean = arrays[f"{name}_sum"][k] / arrays[f"{name}_weight_sum"][k]
                expected = mean - arrays["total_sum"] / arrays["num_samples"]
                np.testing.assert_allclose(arrays[f"{name}_map_{k}"], expected)
                assert np.isfinite(arrays[f"{name}_standard_error_{k}"]).all()


def test_it_leaves_its_flags_a_log_and_figures(first: Path, settings: Settings) -> None:
    config = read(first, "config.json")
    assert config["dataset"] == "digits"
    assert config["seed"] == settings.seed
    assert {"jax", "python", "device", "random_generator"} <= config["environment"].keys()
    jobs = {json.loads(line)["job"] for line in (first / "log.jsonl").read_text().splitlines()}
    assert jobs == {"training logistic", "noise", "gradients"}
    for name in FIGURES:
        with Image.open(first / name) as image:
            assert min(image.size) > 100
    assert not list(first.glob(".partial*"))


def test_a_second_run_with_another_noise_seed_does_not_train(first: Path, settings: Settings, tmp_path: Path) -> None:
    noise_maps.run(replace(settings, seed=1, out_dir=str(tmp_path)))
    assert read(tmp_path, "metrics.json")["network_was_loaded"]
    assert {json.loads(line)["job"] for line in (tmp_path / "log.jsonl").read_text().splitlines()} == {
        "noise",
        "gradients",
    }
    assert read(tmp_path, "metrics.json")["counts"] != read(first, "metrics.json")["counts"]


def test_the_same_flags_give_the_same_arrays_to_the_bit(first: Path, settings: Settings, tmp_path: Path) -> None:
    noise_maps.run(replace(settings, out_dir=str(tmp_path)))
    here, there = np.load(tmp_path / "maps.npz"), np.load(first / "maps.npz")
    assert set(here) == set(there)
    for name in here:
        np.testing.assert_array_equal(here[name], there[name])


def test_one_response_is_enough(settings: Settings, first: Path, tmp_path: Path) -> None:
    noise_maps.run(replace(settings, response=("probability",), num_samples=500, out_dir=str(tmp_path)))
    assert sum(read(tmp_path, "metrics.json")["counts"]) == 500


def test_colour_images_of_a_folder_are_analysed_like_any_other(settings: Settings, tmp_path: Path) -> None:
    images = tmp_path.joinpath(*["a long name"] * 12, "images")  # figures have room for titles all the same
    random = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 190)):
        (images / name).mkdir(parents=True)
        for i in range(20):
            pixels = random.integers(level - 50, level + 50, (16, 18, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(images / name / f"{i}.png")
    noise_maps.run(replace(settings, dataset=f"folder:{images}", num_samples=500, out_dir=str(tmp_path / "out")))
    assert read(tmp_path / "out", "metrics.json")["classes"] == ["dark", "light"]
    assert np.load(tmp_path / "out" / "maps.npz")["probability_sum"].shape == (2, 16, 18, 3)


def test_a_folder_of_one_class_is_refused(settings: Settings, tmp_path: Path) -> None:
    for i in range(12):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(tmp_path / f"{i}.png")
    with pytest.raises(InputError, match="has one class: put images of two or more classes into a subfolder each"):
        noise_maps.run(replace(settings, dataset=f"folder:{tmp_path}", out_dir=str(tmp_path / "out")))


def run(*flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "experiments.noise_maps", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_names_every_flag_with_its_default() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    for flag in Settings.__dataclass_fields__:
        assert f"  --{flag}" in shown.stdout
    assert "[1000000]" in shown.stdout


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--dataset=mnits"], "unknown data set 'mnits' (did you mean mnist?)"),
        (["--num_samples=0"], "num_samples"),
        (["--batch_size=-5"], "batch_size"),
        (["--num_sample=5"], "Unknown command line flag 'num_sample'"),
        (["extra"], "unexpected argument 'extra'"),
        (["--response="], "no response given"),
        (["--model=resnet"], "unknown model 'resnet'"),
        (["--noise=pink"], "unknown noise 'pink'"),
        (["--response=decision,loudness"], "unknown response 'loudness'"),
        (["--epochs=0"], "epochs is 0"),
        (["--out_dir=FILE/below"], "cannot be written"),
        (["--checkpoint_dir=FILE/below"], "cannot be written"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(tmp_path: Path, flags: list[str], said: str) -> None:
    (tmp_path / "file").touch()
    flags = [flag.replace("FILE", str(tmp_path / "file")) for flag in flags]
    short = ["--model=logistic", "--num_samples=100", f"--out_dir={tmp_path / 'out'}", f"--checkpoint_dir={tmp_path}"]
    ended = run(*short, *flags)
    assert ended.returncode == 2, ended.stderr
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert said in last
    assert "Traceback" not in ended.stderr


def test_any_number_of_samples_gives_maps(settings: Settings, tmp_path: Path) -> None:
    """One batch has no second half: its reliability is not known, and nothing else is lost."""
    noise_maps.run(replace(settings, num_samples=100, out_dir=str(tmp_path)))
    metrics = read(tmp_path, "metrics.json")
    assert set(metrics["reliability"]["probability"]) == {None}
    assert (tmp_path / "classification_images.png").exists()
