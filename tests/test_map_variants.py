import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from experiments import common, map_variants
from wna_jax import data, noise, responses
from wna_jax.maps import three_levels
from wna_jax.progress import silent
from wna_jax.reverse_correlation import draw_samples


def test_three_levels_are_those_of_the_paper() -> None:
    maps = np.ma.masked_array([0.0, 0.39, 0.4, 0.79, 0.8, 1.0])
    maps[1] = np.ma.masked
    np.testing.assert_array_equal(three_levels(maps).filled(-1), [0, -1, 0.5, 0.5, 1, 1])


def test_the_variants_are_those_of_the_samples_themselves(tmp_path: Path, digits: data.Dataset) -> None:
    settings = map_variants.Settings(
        dataset="digits",
        data_dir=None,
        model="logistic",
        epochs=3,
        noise="uniform",
        confidence=0.4,
        sampling="independent",
        num_samples=2000,
        batch_size=500,
        seed=4,
        train_seed=0,
        out_dir=str(tmp_path / "out"),
        checkpoint_dir=str(tmp_path / "checkpoints"),
        retrain=False,
    )
    map_variants.run(settings)
    arrays = np.load(tmp_path / "out" / "maps.npz")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (tmp_path / "out" / "map_variants.png").stat().st_size > 10_000

    network = common.trained_network(settings, digits, silent)
    samples = np.asarray(draw_samples(noise.uniform(digits.image_shape), 2000, seed=4), np.float64)
    p = np.asarray(responses.probability(network.logits_function(jnp.asarray(samples, jnp.float32))), np.float64)
    won = p.argmax(axis=1)
    sure = p.max(axis=1) > 0.4
    assert metrics["confident"] == sure.sum()
    k = int(np.bincount(won).argmax())
    own = samples[won == k]
    np.testing.assert_allclose(arrays[f"mean_map_{k}"], own.mean(axis=0), atol=1e-5)
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
