from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from experiments import black_box_attack, launch
from experiments.black_box_attack import Settings
from experiments.launch import Result
from wna_jax import figures
from wna_jax.runs.errors import InputError

pytestmark = pytest.mark.slow  # whole experiments


@pytest.fixture(scope="module")
def settings(network_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        **network_settings,
        out_dir=str(tmp_path_factory.mktemp("black_box_attack")),
        pattern=("decision", "probability", "mean"),
        num_images=100,
        noise="uniform",
        num_samples=3_000,
    )


@pytest.fixture(scope="module")
def result(settings: Settings) -> Result:
    return launch.execute(black_box_attack.run, settings)


def test_success_runs_from_chance_to_that_of_the_patterns_themselves(result: Result) -> None:
    metrics = result.metrics
    for source, by_pattern in metrics["success"].items():
        for name, success in by_pattern.items():
            assert len(success["by_target"]) + len(metrics["classes_without_pattern"][name]) == 10
            np.testing.assert_allclose(np.mean(list(success["by_target"].values()), axis=0), success["mean"])
            ends = np.array(list(success["by_target"].values()))[:, -1]
            assert set(ends) <= {0, 1}, source  # at g = 1 all images are the pattern
        assert by_pattern["mean"]["mean"][0] == pytest.approx(0.1)  # every image is called something
        assert by_pattern["mean"]["mean"][-1] > 0.8
        assert by_pattern["probability"]["mean"][-1] > 0.8
    empty = [str(k) for k in np.flatnonzero(np.array(metrics["counts"]) == 0)]
    assert metrics["classes_without_pattern"]["decision"] == empty


@pytest.mark.usefixtures("result")
def test_it_writes_its_files(settings: Settings) -> None:
    for name in ("success.png", "examples.png", "metrics.json", "config.json", "log.jsonl"):
        assert (settings.folder / name).stat().st_size > 0
    assert not list(settings.folder.glob(".partial*"))


def test_the_authors_route_through_a_picture_squeezes_maps_to_the_range_that_they_got() -> None:
    squeezed = figures.colour_mapped(np.linspace(0, 1, 256))
    assert (squeezed.min().round(2), squeezed.max().round(2)) == (0.4, 0.76)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pattern": ("bias",)}, "unknown pattern 'bias'"),
        ({"pattern": ()}, "pattern is empty: choose from decision"),
        ({"mix": "stir"}, "unknown mix 'stir'"),
    ],
)
def test_wrong_input_is_said(settings: Settings, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        replace(settings, **change)


def test_a_pattern_that_no_class_has_is_said(settings: Settings) -> None:
    """All of one constant image are called one class, which so has no contrast."""
    with pytest.raises(InputError, match=r"no class has a map of the pattern decision: add --pattern=probability"):
        black_box_attack.run(replace(settings, pattern=("decision",), num_samples=1, out_dir=f"{settings.folder}/one"))


def test_the_example_is_an_image_that_is_not_called_the_target_already() -> None:
    images = np.zeros((5, 2, 2, 1), np.float32)
    images[2:] = 1

    def network(images: Any) -> Any:
        return np.stack([1 - images[:, 0, 0, 0], images[:, 0, 0, 0]], axis=1)

    assert black_box_attack.first_to_attack(network, images, 0).all()
    assert not black_box_attack.first_to_attack(network, images, 1).any()
    assert black_box_attack.first_to_attack(network, images[2:], 1).all()  # all are called the target
