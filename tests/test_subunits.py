from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from experiments import launch
from experiments.subunits import Settings, run
from wna_jax import InputError
from wna_jax.networks import Network
from wna_jax.studies import subunits

SIDE = 6


def planted(number: int) -> np.ndarray:
    """Overlapping blobs of length 1, [m, SIDE, SIDE, 1]; neighbours correlate by .44."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    centres = [(1.5, 1.5), (3.5, 3.5), (1.5, 3.5), (3.5, 1.5)][:number]
    blobs = np.stack([np.exp(-((rows - r) ** 2 + (columns - c) ** 2) / 2.4) for r, c in centres])
    return (blobs / np.sqrt(np.square(blobs).sum(axis=(1, 2), keepdims=True)))[..., None]


def samples(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, SIDE, SIDE, 1), np.float32)


def rates(x: np.ndarray, number: int, threshold: float) -> np.ndarray:
    """What `planted` subunits of strengths 1, .8, .9 and .7 give together."""
    match = np.tensordot(x, planted(number), ((1, 2, 3), (1, 2, 3)))
    return np.maximum(match - threshold, 0) @ np.array([1, 0.8, 0.9, 0.7])[:number]


def overlap(found: np.ndarray, number: int) -> np.ndarray:
    """Correlations of the planted subunits with those that were found, in the best order."""
    ours, true = (kernels.reshape(len(kernels), -1) for kernels in (found, planted(number)))
    ours = ours / np.linalg.norm(ours, axis=1, keepdims=True)
    pairs = true @ ours.T
    return pairs[linear_sum_assignment(-pairs)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2, 4])
def test_planted_subunits_are_recovered_with_their_number_and_weights(number: int) -> None:
    x = samples(6_000)
    y = rates(x, number, 0.5)
    found = subunits.find(x, y)
    assert len(found.kernels) == number
    assert overlap(found.kernels, number).min() > 0.99
    assert found.explained[number] > 0.999
    strengths = np.sort([1, 0.8, 0.9, 0.7][:number])[::-1]
    np.testing.assert_allclose(found.weights * y.std(), strengths, atol=0.03)
    np.testing.assert_allclose(found.respond(x) * y.std(), y, atol=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2, 4])
def test_planted_subunits_are_recovered_from_numbers_of_spikes(number: int) -> None:
    """Poisson spikes, 20,000 samples: the right number in 9 or more of 10 runs."""
    right = []
    for seed in range(10):
        x = samples(20_000, seed)
        found = subunits.find(x, np.random.default_rng(seed).poisson(2 * rates(x, number, 0.5)))
        right.append(len(found.kernels) == number)
        if right[-1]:
            assert overlap(found.kernels, number).min() > 0.9
    assert sum(right) >= 9


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["activations", "spikes"])
def test_a_unit_that_does_not_look_has_no_subunit_in_95_of_100_runs(kind: str) -> None:
    """Without the least gain, so that the two standard errors alone decide: 400 runs of 500 samples."""
    wrong = 0
    for seed in range(400):
        random = np.random.default_rng(seed)
        x = random.standard_normal((500, 3, 3, 1), np.float32)
        y = np.maximum(random.standard_normal(500), 0) if kind == "activations" else random.poisson(0.5, 500)
        wrong += len(subunits.find(x, y, most=3, least_gain=0).kernels) > 0
    assert wrong <= 0.05 * 400 + 2 * np.sqrt(400 * 0.05 * 0.95)


def test_a_unit_that_does_not_look_has_no_subunit() -> None:
    found = subunits.find(samples(6_000), np.abs(np.random.default_rng(1).standard_normal(6_000)))
    assert len(found.kernels) == 0
    assert found.explained.max() < 0.05
    np.testing.assert_allclose(found.respond(samples(3)), found.baseline)


def test_shifted_filters_explain_a_kernel_that_is_made_of_them() -> None:
    filters = np.random.default_rng(0).standard_normal((4, 3, 3, 1))
    kernel = np.zeros((8, 8, 1))
    kernel[0:3, 1:4] += 2 * filters[1]
    kernel[4:7, 5:8] -= filters[3]
    explained = subunits.explained_by_filters(kernel, filters, 3)
    first = 4 * np.square(filters[1]).sum()
    assert explained[0] == pytest.approx(first / (first + np.square(filters[3]).sum()))
    assert explained[1] == pytest.approx(1)
    assert subunits.explained_by_filters(kernel, filters[:, ::-1], 2)[1] < 0.95
    with pytest.raises(InputError, match=r"filters \(3, 3, 1\) in a kernel \(2, 8, 1\): expected smaller ones"):
        subunits.explained_by_filters(kernel[:2], filters)


def test_a_subunit_matches_the_filters_where_the_weights_of_its_unit_are() -> None:
    """Kernels built from the filters by one unit's weights, at one place of each 2x2 pool."""
    random = np.random.default_rng(0)
    filters, weights = random.standard_normal((3, 3, 3, 1)), random.standard_normal((2, 4, 3, 5))
    kernel = np.zeros((6, 10, 1))
    for i, j, k in np.ndindex(2, 4, 3):
        kernel[2 * i : 2 * i + 3, 2 * j + 1 : 2 * j + 4] += weights[i, j, k, 4] * filters[k]
    r = subunits.weight_correlation(kernel, filters, weights)
    assert r is not None
    assert r.argmax() == 4
    match = np.empty((2, 4, 3))
    for i, j, k in np.ndindex(2, 4, 3):
        pool = [kernel[2 * i + a : 2 * i + a + 3, 2 * j + b : 2 * j + b + 3] for a, b in np.ndindex(2, 2)]
        match[i, j, k] = max((window * filters[k]).sum() for window in pool)
    np.testing.assert_allclose(r, [np.corrcoef(match.ravel(), of.ravel())[0, 1] for of in np.moveaxis(weights, -1, 0)])
    assert subunits.weight_correlation(kernel[:5], filters, weights) is None


@pytest.mark.parametrize(
    ("responses", "options", "said"),
    [
        (np.ones(300), {}, "all responses are the same: subunits need at least 100"),
        (np.eye(300)[0], {}, "1 of 300 responses are above 0"),
        (-np.arange(300.0), {}, "negative or not finite: expected activations after ReLU"),
        (np.ones(200), {}, r"responses \(200,\) to 300 samples: expected one response per sample"),
        (np.arange(300.0), {"most": 0}, "most is 0"),
        (np.arange(300.0), {"least_gain": 1.5}, "least_gain 1.5"),
    ],
)
def test_responses_without_subunits_are_named(responses: np.ndarray, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        subunits.find(samples(300), responses, **options)


@pytest.fixture(scope="module")
def settings(network: Network, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        model="paper_cnn",
        epochs=8,
        checkpoint_dir=str(shared_folder / "network"),
        out_dir=str(tmp_path_factory.mktemp("run")),
        layer="conv1",
        units=(0, 1, 2),
        num_samples=5_000,
        most=2,
    )


@pytest.mark.slow
def test_units_of_the_first_layer_have_one_subunit_their_kernel(settings: Settings, network: Network) -> None:
    result = launch.execute(run, settings)
    kernels = np.moveaxis(np.asarray(network.parameters["conv1"]["kernel"]), -1, 0)
    for unit in settings.units or ():
        assert result.metrics["units"][str(unit)]["subunits"] == 1
        assert result.metrics["units"][str(unit)]["explained"][1] > 0.999
        (ours,) = result.arrays["subunits.npz"][f"kernels_{unit}"]
        assert np.corrcoef(ours.ravel(), kernels[unit].ravel())[0, 1] > 0.999
    for name in ("subunits.png", "subunits.npz", "metrics.json"):
        assert (settings.folder / name).stat().st_size > 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer": "conv9"}, "unknown layer 'conv9'"),
        ({"noise": "uniform"}, "uniform noise: subunits need Gaussian noise of independent pixels"),
        ({"units": (20,)}, "units is 20: expected numbers from 0 to 19"),
        ({"num_samples": 10**12}, "1,000,000,000,000 samples of 25 pixels take .* take fewer samples"),
    ],
)
def test_wrong_input_is_named(settings: Settings, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(replace(settings, out_dir=str(tmp_path), **changes))
