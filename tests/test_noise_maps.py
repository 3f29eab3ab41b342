import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from experiments import compare, launch, noise_maps
from experiments.noise_maps import Settings
from wna_jax import data, load, statistics
from wna_jax.runs.errors import InputError

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
        model="logistic",
        epochs=5,
        num_samples=3000,
        permutations=19,
        gradient_samples=100,
        out_dir=str(folder / "first"),
        checkpoint_dir=str(folder / "checkpoints"),
    )


@pytest.fixture(scope="module")
def first(settings: Settings) -> Path:
    launch.execute(noise_maps.run, settings)
    return Path(settings.folder)


def read(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text())


def test_it_leaves_metrics_that_agree_with_its_arrays(first: Path, digits: data.Dataset) -> None:
    metrics = read(first, "metrics.json")
    assert 0.8 < metrics["test_accuracy"] <= 1
    assert sum(metrics["counts"]) == metrics["num_samples"] == 3000
    assert metrics["empty_classes"] == [k for k, count in enumerate(metrics["counts"]) if count == 0]
    assert metrics["samples_per_second"] > 0
    arrays, saved = np.load(first / "maps.npz"), load(first)
    for name in ("decision", "probability"):
        moments = saved.moments[name]
        np.testing.assert_array_equal(arrays[f"{name}_count"], moments.count)
        assert len(metrics["feedback"][name]) == digits.num_classes
        for k, answer in enumerate(metrics["feedback"][name]):
            has_map = f"{name}_map_{k}" in arrays
            assert has_map == (answer is not None) == (moments.weight_sum[k] > 0)
            if answer is not None:
                assert answer["correct"] == (answer["predicted"] == k)
                assert 0.1 <= answer["confidence"] <= 1
                expected = moments.sum[k] / moments.weight_sum[k] - moments.total_sum / 3000
                np.testing.assert_allclose(arrays[f"{name}_map_{k}"], expected)
                assert np.isfinite(arrays[f"{name}_standard_error_{k}"]).all()
    np.testing.assert_array_equal(arrays["decision_count"], metrics["counts"])
    assert saved.class_names == digits.class_names
    assert saved.settings["model"] == "logistic"


@pytest.mark.slow
def test_two_runs_add_up_and_are_compared(first: Path, settings: Settings, tmp_path: Path) -> None:
    """Two seeds of one network: its maps are the same, and their sum is more reliable than either."""
    second = replace(settings, seed=1, num_samples=4000, gradient_samples=0, out_dir=str(tmp_path / "second"))
    launch.execute(noise_maps.run, second)
    one, two = load(first), load(second.folder)
    both = one + two
    assert both.moments["decision"].num_samples == 7000
    assert (both.reliability["probability"].reliability > one.reliability["probability"].reliability).all()

    how: dict[str, Any] = {"first": str(first), "second": str(second.folder), "permutations": 19}
    result = launch.execute(compare.run, compare.Settings(**how, out_dir=str(tmp_path / "out")))
    found = result.metrics["probability"]
    expected = statistics.contrast(one.maps["probability"], two.maps["probability"])
    pixels = statistics.significant_pixels(expected.z, num_maps=10).sum(axis=(1, 2, 3))
    assert found["significant_pixels"]["pixels"] == pixels.tolist()
    assert pixels.sum() <= 2
    assert np.mean(found["corrected_correlation"]) == pytest.approx(1, abs=0.1)
    assert f"3 {found['corrected_correlation'][3]:.2f}, " in "\n".join(result.summary)
    arrays = np.load(tmp_path / "out" / "contrast.npz")
    np.testing.assert_array_equal(arrays["probability_z_3"], expected.z[3])
    with Image.open(tmp_path / "out" / "comparison.png") as image:
        assert min(image.size) > 100


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"second": None}, "two runs are compared: give their folders"),
        ({}, r"share noise samples \(seed 0\), and must not: give each run a seed of its own"),
        ({"second": "nowhere"}, "nowhere is not there: give the output folder of a finished run"),
        ({"response": ("logit",)}, "has no logit maps: it has decision, probability"),
    ],
)
def test_runs_that_cannot_be_compared_are_one_line(first: Path, changed: dict[str, Any], said: str) -> None:
    settings = compare.Settings(**{"first": str(first), "second": str(first)} | changed)
    with pytest.raises(InputError, match=said):
        compare.run(settings)


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


@pytest.mark.slow
def test_a_second_run_with_another_noise_seed_does_not_train(first: Path, settings: Settings, tmp_path: Path) -> None:
    jobs = set()
    result = noise_maps.run(replace(settings, seed=1, out_dir=str(tmp_path)), lambda progress: jobs.add(progress.job))
    assert result.metrics["network_was_loaded"]
    assert jobs == {"noise", "gradients"}
    assert result.metrics["counts"] != read(first, "metrics.json")["counts"]


@pytest.mark.slow
def test_the_same_flags_give_the_same_arrays_to_the_bit(first: Path, settings: Settings, tmp_path: Path) -> None:
    here = noise_maps.run(replace(settings, out_dir=str(tmp_path))).arrays["maps.npz"]
    there = np.load(first / "maps.npz")
    assert set(here) == set(there)
    for name in here:
        np.testing.assert_array_equal(here[name], there[name])


def test_one_response_is_enough(settings: Settings, first: Path, tmp_path: Path) -> None:
    result = noise_maps.run(replace(settings, response=("probability",), num_samples=500, out_dir=str(tmp_path)))
    assert sum(result.metrics["counts"]) == 500


@pytest.mark.slow
def test_colour_images_of_a_folder_are_analysed_like_any_other(settings: Settings, tmp_path: Path) -> None:
    images = tmp_path.joinpath(*["a long name"] * 12, "images")  # figures have room for titles all the same
    random = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 190)):
        (images / name).mkdir(parents=True)
        for i in range(20):
            pixels = random.integers(level - 50, level + 50, (16, 18, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(images / name / f"{i}.png")
    of_folder = replace(settings, dataset=f"folder:{images}", num_samples=500, out_dir=str(tmp_path / "out"))
    result = launch.execute(noise_maps.run, of_folder)
    assert result.metrics["classes"] == ["dark", "light"]
    assert load(tmp_path / "out").moments["probability"].sum.shape == (2, 16, 18, 3)


def test_a_folder_of_one_class_is_refused(settings: Settings, tmp_path: Path) -> None:
    for i in range(12):
        Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(tmp_path / f"{i}.png")
    with pytest.raises(InputError, match="has one class: put images of two or more classes into a subfolder each"):
        noise_maps.run(replace(settings, dataset=f"folder:{tmp_path}", out_dir=str(tmp_path / "out")))


@pytest.mark.slow
def test_a_region_of_interest_changes_the_tests_and_not_the_sums(
    first: Path, settings: Settings, tmp_path: Path
) -> None:
    result = launch.execute(noise_maps.run, replace(settings, roi=(8, 8, 12, 12), out_dir=str(tmp_path / "out")))
    whole = read(first, "metrics.json")
    assert result.metrics["counts"] == whole["counts"]
    assert read(tmp_path / "out", "config.json")["roi"] == [8, 8, 12, 12]
    for name, of_region in result.metrics["significant_pixels"].items():
        assert max(of_region["pixels"]) <= 144
        assert np.sum(of_region["pixels"]) > 0
        assert result.metrics["info_val"][name] != whole["info_val"][name]
        assert result.metrics["reliability"][name] != whole["reliability"][name]
    for roi, said in [
        ((8, 8, 12), "roi is 8,8,12: expected ROW,COLUMN,HEIGHT,WIDTH"),
        ((20, 8, 12, 12), "12x12 pixels at row 20, column 8: expected one inside images of 28x28"),
    ]:
        with pytest.raises(InputError, match=said):
            noise_maps.run(replace(settings, roi=roi, out_dir=str(tmp_path / "none")))


def test_any_number_of_samples_gives_maps(settings: Settings, tmp_path: Path) -> None:
    """One has no second half: its reliability is not known, and nothing else is lost."""
    few = replace(settings, num_samples=1, out_dir=str(tmp_path))
    result = launch.execute(noise_maps.run, few)
    assert set(result.metrics["reliability"]["probability"]) == {None}
    assert (tmp_path / "classification_images.png").exists()


@pytest.mark.slow
def test_of_many_classes_figures_show_the_most_reliable_and_say_so(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wna_jax.figures.MOST_CLASSES", 4)
    result = noise_maps.run(replace(settings, response=("probability",), out_dir=str(tmp_path)))
    reliability = np.array(result.metrics["reliability"]["probability"], float)
    best = [f"{k}" for k in np.sort(np.argsort(-reliability)[:4])]
    for name, figure in result.draw():
        texts = [text.get_text().replace("\n", " ") for text in figure.findobj(Text)]
        if name in ("classification_images.png", "significance.png", "class_gallery.png"):
            assert [text for text in texts if len(text) == 1 and text.isdigit()][:4] == best, name
        if name != "noise_examples.png":
            assert any("the 4 of 10 classes with the most reliable probability maps" in text for text in texts), name


@pytest.mark.slow
def test_of_listed_classes_shares_are_those_of_all_samples_and_say_so(
    settings: Settings, first: Path, tmp_path: Path
) -> None:
    counts = np.array(read(first, "metrics.json")["counts"])
    chosen = np.argsort(-counts)[:2]
    most, rest = f"{counts[chosen[0]] / 3000:.1%}", f"{1 - counts[chosen].sum() / 3000:.1%}"
    result = noise_maps.run(replace(settings, classes=tuple(map(str, chosen)), out_dir=str(tmp_path)))
    assert f"called most     {chosen[0]} ({most}), of these classes; {rest} went to others" in result.summary
    titles = {name: figure.get_suptitle().replace("\n", " ") for name, figure in result.draw()}
    assert titles["noise_histogram.png"].endswith(f"; {rest} of the samples are called one of the 8 classes not shown")


def test_process_0_alone_writes(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    second: Any = replace(settings, num_samples=100, out_dir=str(tmp_path / "out"))
    result = launch.execute(lambda settings, report: launch.Result({"all": "of it"}, ["line"]), second)
    assert result.metrics == {"all": "of it"}
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_in_noise_that_is_not_white_every_test_is_done(settings: Settings, first: Path, tmp_path: Path) -> None:
    coloured = replace(settings, noise="stripes", response=("decision",), num_samples=600, out_dir=str(tmp_path))
    metrics = noise_maps.run(coloured).metrics
    for test, counts in metrics["significant_pixels"]["decision"].items():
        assert sum(counts) % 28 == 0, test  # stripes are significant as a whole
    assert sum(value is not None for value in metrics["info_val"]["decision"]) == 10 - len(metrics["empty_classes"])
