from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import launch
from experiments.spike_triggered_covariance import Settings, run
from wna_jax import InputError, noise, reverse_correlate
from wna_jax.correlation import draw_samples
from wna_jax.networks import Network
from wna_jax.studies import spike_triggered


def energy(images: jax.Array) -> jax.Array:
    """A unit of two quadrature features, the sum of their squares, and one that a third feature silences."""
    pixels = images.reshape(len(images), -1)
    match = pixels @ FEATURES.T
    return jnp.stack([match[:, 0] ** 2 + match[:, 1] ** 2, jnp.exp(-2 * match[:, 2] ** 2)], axis=1)


FEATURES = jnp.asarray(np.linalg.qr(np.random.default_rng(0).normal(size=(64, 64)))[0][:3], jnp.float32)


def covariances_of(respond: Callable, white: noise.Noise, count: int, **options: int) -> dict:
    return reverse_correlate(white, spike_triggered.with_products(respond, white), count, **options)


def test_products_are_those_of_the_samples_themselves() -> None:
    white = noise.gaussian((3, 2, 1), 0.4, 0.2)
    moments = covariances_of(energy_of_two, white, 600)
    x = np.asarray(draw_samples(white, 600), np.float64)
    w = np.asarray(energy_of_two(jnp.asarray(x, jnp.float32)), np.float64)
    standard = (x.reshape(600, -1) - 0.4) / 0.2
    direction = np.linalg.qr((w[:, 0] @ standard)[:, None], mode="complete")[0][:, 1:]
    covariance = direction.T @ (standard.T @ (w[:, :1] * standard)) @ direction / w[:, 0].sum()
    found = spike_triggered.spike_triggered_covariance(moments, 0, white, nulls=19)
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(covariance), rtol=1e-4)
    assert found.effective_samples == pytest.approx(w[:, 0].sum() ** 2 / (w[:, 0] ** 2).sum())


def energy_of_two(images: jax.Array) -> jax.Array:
    return jnp.stack([images[:, 0, 0, 0] ** 2, images[:, 1, 1, 0] ** 2], axis=1)


def test_the_features_of_an_energy_unit_are_recovered_and_no_others() -> None:
    white = noise.gaussian((8, 8, 1), 0.0, 1.0)
    moments = covariances_of(energy, white, 20_000)
    found = spike_triggered.spike_triggered_covariance(moments, 0, white)
    assert (len(found.excitatory), len(found.suppressive)) == (2, 0)
    seen = found.features[found.excitatory].reshape(2, -1)
    overlap = np.linalg.svd(seen @ np.asarray(FEATURES[:2]).T)[1]
    assert overlap.min() > 0.95
    other = spike_triggered.spike_triggered_covariance(moments, 1, white)
    assert (len(other.excitatory), len(other.suppressive)) == (0, 1)
    assert abs(other.features[other.suppressive[0]].ravel() @ np.asarray(FEATURES[2])) > 0.95


@pytest.mark.slow
def test_a_unit_that_does_not_look_has_no_significant_feature_in_95_of_100_runs() -> None:
    white = noise.gaussian((5, 5, 1), 0.3, 0.2)

    def blind(images: jax.Array) -> jax.Array:
        """The bits of a pixel are the seed of its answers: they depend on no image, and are the same at each asking."""
        seeds = jax.lax.bitcast_convert_type(images[:, 0, 0, 0], jnp.uint32)
        return jnp.abs(jax.vmap(lambda seed: jax.random.normal(jax.random.key(seed), (4,)))(seeds))

    respond, hits = spike_triggered.with_products(blind, white), []
    for seed in range(100):
        moments = reverse_correlate(white, respond, 2000, seed=seed, batch_size=2000)
        for unit in range(4):
            found = spike_triggered.spike_triggered_covariance(moments, unit, white, nulls=199, seed=seed)
            hits.append(len(found.excitatory) + len(found.suppressive) > 0)
    assert np.mean(hits) == pytest.approx(0.05, abs=0.033)  # three standard errors of 400 runs


def test_extremes_of_the_null_are_those_of_covariances_of_gaussian_samples() -> None:
    low, high = spike_triggered._null_extremes(30, 200.0, 500, 0)
    random = np.random.default_rng(1)
    samples = random.standard_normal((500, 200, 30))
    eigenvalues = np.linalg.eigvalsh(np.swapaxes(samples, 1, 2) @ samples / 200)
    for ours, direct in ((low, eigenvalues[:, 0]), (high, eigenvalues[:, -1])):
        assert ours.mean() == pytest.approx(direct.mean(), abs=5 * direct.std() / np.sqrt(250))
        assert ours.std() == pytest.approx(direct.std(), rel=0.2)


def test_wrong_units_are_named() -> None:
    white = noise.gaussian((8, 8, 1), 0.0, 1.0)
    silent = covariances_of(lambda x: jnp.zeros((len(x), 2)), white, 100)
    for unit, said in ((2, "unit 2: expected one from 0 to 1"), (0, "unit 0 never fired")):
        with pytest.raises(InputError, match=said):
            spike_triggered.spike_triggered_covariance(silent, unit, white)
    with pytest.raises(InputError, match="needs Gaussian noise"):
        spike_triggered.with_products(energy, noise.stripes((8, 8, 1)))


def test_covariances_of_too_few_samples_or_of_other_noise_are_refused() -> None:
    white = noise.gaussian((8, 8, 1), 0.0, 1.0)
    moments = covariances_of(energy, white, 1000)
    with pytest.raises(
        InputError, match="effective samples of 64 pixels: expected at least 20 per pixel, take 3 times"
    ):
        spike_triggered.spike_triggered_covariance(moments, 0, white)
    with pytest.raises(InputError, match="needs Gaussian noise of independent pixels"):
        spike_triggered.with_products(energy, noise.uniform((8, 8, 1)))


@pytest.fixture(scope="module")
def settings(network: Network, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        model="paper_cnn",
        epochs=8,
        checkpoint_dir=str(shared_folder / "network"),
        out_dir=str(tmp_path_factory.mktemp("run")),
        layer="conv1",
        num_samples=40_000,
    )


@pytest.mark.slow
def test_units_that_only_add_have_no_features_beside_their_average(settings: Settings) -> None:
    result = launch.execute(run, settings)
    found = result.metrics["units"]
    assert len(found) == 12
    significant = [len(unit["excitatory"]) + len(unit["suppressive"]) > 0 for unit in found.values()]
    assert sum(significant) <= 3  # of 12 at .05: P(more) = .002
    for name in ("spectra.png", "features.png", "features.npz"):
        assert (settings.folder / name).stat().st_size > 0
    assert not list(settings.folder.glob(".partial*"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer": "conv9"}, "unknown layer 'conv9'"),
        ({"noise": "uniform"}, "needs Gaussian noise"),
        ({"units": (20,)}, "units is 20: expected numbers from 0 to 19"),
        ({"units": (-1,)}, "units is -1"),
        ({"model": "logistic", "epochs": 1, "layer": "fc1", "dataset": "FOLDER"}, "1200 pixels.*expected at most 1024"),
    ],
)
def test_wrong_input_is_named(settings: Settings, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    if changes.get("dataset") == "FOLDER":
        for name in "ab":
            (tmp_path / "images" / name).mkdir(parents=True)
            for i in range(8):
                Image.fromarray(np.full((40, 30), 10 * i + 100 * (name == "b"), np.uint8)).save(
                    tmp_path / "images" / name / f"{i}.png"
                )
        changes = changes | {"dataset": f"folder:{tmp_path / 'images'}"}
    with pytest.raises(InputError, match=said):
        run(replace(settings, num_samples=100, out_dir=str(tmp_path / "out"), **changes))


def test_units_that_are_no_numbers_are_named() -> None:
    with pytest.raises(InputError, match="units is 'x': expected whole numbers"):
        launch._items("units", ["x"], int, None)
