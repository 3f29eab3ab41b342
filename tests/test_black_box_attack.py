import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import black_box_attack
from wna_jax import figures
from wna_jax.errors import InputError


@pytest.fixture
def settings(network_settings: dict[str, Any], tmp_path: Path) -> black_box_attack.Settings:
    return black_box_attack.Settings(
        **network_settings,
        out_dir=str(tmp_path),
        pattern=("decision", "probability", "mean"),
        mix="blend",
        num_images=100,
        noise="uniform",
        num_samples=3_000,
        batch_size=None,
        seed=0,
    )


def test_success_runs_from_chance_to_that_of_the_patterns_themselves(
    settings: black_box_attack.Settings, tmp_path: Path
) -> None:
    black_box_attack.run(settings)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
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
    for name in ("success.png", "examples.png", "config.json"):
        assert (tmp_path / name).stat().st_size > 0


def test_the_authors_route_through_a_picture_squeezes_maps_to_the_range_that_they_got() -> None:
    squeezed = figures.colour_mapped(np.linspace(0, 1, 256))
    assert (squeezed.min().round(2), squeezed.max().round(2)) == (0.4, 0.76)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"pattern": ("bias",)}, "unknown pattern 'bias'"), ({"pattern": ()}, "no pattern given")],
)
def test_wrong_input_is_said(settings: black_box_attack.Settings, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        black_box_attack.run(replace(settings, **change))
