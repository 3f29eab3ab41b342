from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import launch, map_variants, shared
from experiments.launch import Result
from wna_jax import data, draw_samples, noise, responses
from wna_jax.maps import three_levels
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import silent

pytestmark = pytest.mark.slow  # whole experiments

N, SURE = 2000, 0.4


@pytest.fixture(scope="module")
def settings(network_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> map_variants.Settings:
    return map_variants.Settings(
        **network_settings,
        noise="uniform",
        confidence=SURE,
        sampling="independent",
        num_samples=N,
        seed=4,
        out_dir=str(tmp_path_factory.mktemp("out")),
    )


@pytest.fixture(scope="module")
def result(settings: map_variants.Settings) -> Result:
    return launch.execute(map_variants.run, settings)


def test_three_levels_are_those_of_the_paper() -> None:
    maps = np.ma.masked_array([0.0, 0.39, 0.4, 0.79, 0.8, 1.0])
    maps[1] = np.ma.masked
    np.testing.assert_array_equal(three_levels(maps).filled(-1), [0, -1, 0.5, 0.5, 1, 1])


def test_the_variants_are_those_of_the_samples_themselves(
    settings: map_variants.Settings, result: Result, digits: data.Dataset
) -> None:
    network, arrays = shared.trained_network(settings, digits, silent).network, result.arrays["maps.npz"]
    samples = np.asarray(draw_samples(noise.uniform(digits.image_shape), N, seed=4), np.float64)
    p = np.asarray(responses.probability(network(jnp.asarray(samples, jnp.float32))), np.float64)
    won = p.argmax(axis=1)
    sure = p.max(axis=1) > SURE
    assert result.metrics["confident"] == sure.sum()
    k = int(np.bincount(won).argmax())
    own = samples[won == k]
    np.testing.assert_allclose(arrays[f"mean_map_{k}"], own.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(arrays[f"centred_map_{k}"], own.mean(axis=0) - samples.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(arrays[f"root_mean_square_map_{k}"], np.sqrt((own**2).mean(axis=0)), atol=1e-5)
    weighted = np.average(own, axis=0, weights=p[won == k].max(axis=1))
    np.testing.assert_allclose(arrays[f"weighted_by_confidence_map_{k}"], weighted, atol=1e-5)
    filtered = samples[(won == k) & sure]
    np.testing.assert_allclose(arrays[f"confidence_>_0.4_map_{k}"], filtered.mean(axis=0), atol=1e-5)
    assert {name.rpartition("_map_")[0] for name in arrays} == {
        "mean",
        "centred",
        "weighted_by_confidence",
        "confidence_>_0.4",
        "root_mean_square",
        "three_levels",
    }
    assert all(np.isin(arrays[name], (0, 0.5, 1)).all() for name in arrays if name.startswith("three"))
    for right, count in result.metrics["called_by_their_own_class"].values():
        assert 0 <= right <= count <= np.count_nonzero(np.bincount(won))


def test_files_are_whole(settings: map_variants.Settings, result: Result) -> None:
    with Image.open(settings.folder / "map_variants.png") as image:
        assert min(image.size) > 300
    assert {"metrics.json", "maps.npz", "config.json", "log.jsonl"} <= {path.name for path in settings.folder.iterdir()}
    assert not list(settings.folder.glob(".partial*"))


def test_a_confidence_that_is_no_probability_is_refused() -> None:
    with pytest.raises(InputError, match=r"confidence is 1\.5: expected a number from 0 to 1"):
        map_variants.Settings(confidence=1.5)
