"""Critical-band masking: observers of a known channel have it found, and the experiment measures what it says."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy import optimize, stats

from experiments import launch
from experiments.critical_bands import Settings, run
from wna_jax import data
from wna_jax.networks import checkpoints
from wna_jax.networks.training import TrainingSpec
from wna_jax.noise.filtered import frequencies
from wna_jax.runs.errors import InputError
from wna_jax.statistics import Interval
from wna_jax.studies import critical_bands, psychometrics
from wna_jax.studies.critical_bands import Bands, Masking

SHAPE = (16, 16, 1)
DEVIATIONS = tuple((2.0 ** np.arange(-7, 2.1, 0.5)).tolist())


def gain_at(frequency: np.ndarray, centre: float, octaves: float) -> np.ndarray:
    """A Gaussian of log frequency, by hand: half as high half a width away."""
    distance = np.log2(np.where(frequency > 0, frequency, 1e-9) / centre)
    return 0.5 ** ((distance / (octaves / 2)) ** 2)


def templates(centre: float, octaves: float, count: int = 4) -> np.ndarray:
    """Random images of unit length whose spectrum has the amplitude of a channel: [count, H, W, 1]."""
    white = np.random.default_rng(0).standard_normal((count, *SHAPE[:2]))
    phase = np.fft.fft2(white)
    spectrum = phase / np.abs(phase) * gain_at(frequencies(SHAPE), centre, octaves)
    images = np.fft.ifft2(spectrum).real[..., None]
    return (images / np.sqrt(np.sum(images**2, axis=(1, 2, 3), keepdims=True))).astype(np.float32)


def matched(of: jax.Array, images: jax.Array) -> jax.Array:
    """Matches images with templates [K, H, W, C]: logits [n, K]."""
    return jnp.einsum("nhwc,khwc->nk", images - 0.5, of, precision="highest")


@pytest.mark.parametrize(("centre", "octaves"), [(3.0, 1.0), (2.0, 2.5), (5.0, 1.5)])
def test_the_channel_of_a_template_matcher_is_found(centre: float, octaves: float) -> None:
    of, generator = templates(centre, octaves), np.random.default_rng(1)
    labels = np.arange(600) % len(of)
    strength = generator.lognormal(0, 0.4, (600, 1, 1, 1)).astype(np.float32)
    images = 0.5 + strength * of[labels]
    network = Partial(matched, of)
    masking = critical_bands.measure(network, images, labels, len(of), Bands.of(SHAPE), DEVIATIONS)
    assert masking.clean.all()
    found = critical_bands.channel(masking, resamples=100)
    assert found.centre.low <= centre <= found.centre.high
    assert found.centre.at == pytest.approx(centre, rel=0.08)
    assert found.bandwidth.at == pytest.approx(octaves, rel=0.15)


@pytest.mark.parametrize(("centre", "octaves"), [(3.5, 1.0), (7.0, 0.5), (2.0, 4.0)])
def test_the_fit_is_of_the_channel_not_of_the_bands_that_blur_it(centre: float, octaves: float) -> None:
    bands = Bands.of((28, 28, 1))
    gain = gain_at(frequencies(bands.shape), centre, octaves)
    sensitivity = np.array([3 * np.sqrt(np.mean(gain[inside] ** 2)) for inside in bands.inside])
    rows = np.ma.masked_array([sensitivity, 5 * sensitivity])
    rows[1, 2] = np.ma.masked
    peak, at, width = critical_bands.fit(bands, rows)
    np.testing.assert_allclose(peak, [3, 15], rtol=0.02)
    np.testing.assert_allclose(np.log2(at / centre), 0, atol=1 / 40)
    np.testing.assert_allclose(width, octaves, rtol=0.03)
    blurred = optimize.curve_fit(gain_at, bands.centres, sensitivity / 3, [centre, octaves])[0][1]
    assert blurred > 1.05 * octaves or octaves > 2  # what a fit to the bands' centres would have said


def test_sensitivities_without_a_peak_have_no_channel() -> None:
    bands = Bands.of((28, 28, 1), step=1)
    rows = np.ma.masked_array([2.0 ** np.arange(5.0, 0, -1) * 2 ** np.arange(5.0, 0, -1), np.ones(5), [1, 2, 1, 0, 0]])
    rows[2, 2:] = np.ma.masked
    for of in critical_bands.fit(bands, rows):
        assert of.mask.all()


def test_noise_outside_the_band_that_is_used_does_no_harm() -> None:
    """A matcher of one octave: of noise of other octaves no threshold is reached, however strong."""
    of = templates(3.0, 1.0)
    spectrum = np.fft.fft2(of, axes=(1, 2)) * Bands(SHAPE, (4.0,)).inside[0][..., None]
    of = np.fft.ifft2(spectrum, axes=(1, 2)).real.astype(np.float32)
    labels = np.arange(200) % len(of)
    bands = Bands(SHAPE, (1.0, 2.0, 4.0, 8.0))
    masking = critical_bands.measure(Partial(matched, of), 0.5 + of[labels], labels, 4, bands, DEVIATIONS)
    assert masking.accuracy[2, -1] < 0.5
    assert masking.accuracy[[0, 1, 3]].min() == 1
    found = critical_bands.channel(masking, resamples=20)
    np.testing.assert_array_equal(found.sensitivity[[0, 1, 3]], 0)
    assert found.sensitivity[2] > 1


def test_bands_reach_from_the_lowest_frequency_to_the_finest() -> None:
    assert Bands.of((28, 28, 1), step=1).centres == (0.875, 1.75, 3.5, 7.0, 14.0)
    bands = Bands.of((32, 32, 3), step=1)
    assert bands.centres == (1.0, 2.0, 4.0, 8.0, 16.0)
    assert (bands.inside.sum(axis=0).ravel()[1:] <= 1).all()
    assert all(inside.any() for inside in Bands.of((20, 30, 1), 0.25, 0.3).inside)
    assert Bands.of((16, 16, 1)).centres[0] == 1  # the band about .71 would end just below the frequency of 1


def test_thresholds_are_those_of_the_largest_likelihood() -> None:
    x, n = np.asarray(DEVIATIONS), 300
    generator = np.random.default_rng(0)
    for at, width, clean, chance in ((0.1, 1.0, 0.97, 0.1), (0.7, 0.3, 1.0, 0.5), (0.3, 2.0, 0.8, 0.1)):
        p = chance + (clean - chance) * stats.norm.cdf(np.log2(at / x) / width)
        share = generator.binomial(n, p) / n

        def loss(of: np.ndarray) -> float:
            p = chance + (clean - chance) * stats.norm.cdf((of[0] - np.log2(x)) * np.exp(of[1]))  # noqa: B023
            return -np.sum(stats.binom.logpmf(np.round(n * share), n, np.clip(p, 1e-9, 1 - 1e-9)))  # noqa: B023

        best = optimize.minimize(loss, [np.log2(at), -np.log(width)], method="Nelder-Mead").x[0]
        found = psychometrics.fitted_thresholds(DEVIATIONS, share, n, clean, chance)
        assert np.log2(found) == pytest.approx(best, abs=2e-3)
        assert found == pytest.approx(at, rel=0.25)


def test_a_threshold_that_was_not_reached_is_masked() -> None:
    share = np.array([[1.0] * 5, [0.1] * 5, [1, 1, 0.6, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1, 0.1]])
    found = psychometrics.fitted_thresholds((0.1, 0.2, 0.4, 0.8, 1.6), share, 100, np.array([1.0, 1.0, 1.0, 0.1]), 0.1)
    assert found.mask.tolist() == [True, True, False, True]
    assert found[2] == pytest.approx(0.4, rel=0.1)


@pytest.mark.parametrize(
    ("deviations", "images", "said"),
    [
        ((0.1, 0.2), 4, "deviations of the noise are 0.1, 0.2: expected three or more that rise from above 0"),
        ((0.0, 0.1, 0.2), 4, "that rise from above 0"),
        ((0.1, 0.4, 0.2), 4, "that rise from above 0"),
        ((0.1, 0.2, 0.4), 1, "1 images: expected at least 2"),
    ],
)
def test_what_cannot_be_measured_is_said(deviations: tuple[float, ...], images: int, said: str) -> None:
    of, labels = templates(3.0, 1.0), np.zeros(images, int)
    with pytest.raises(InputError, match=said):
        critical_bands.measure(Partial(matched, of), of[labels], labels, 4, Bands.of(SHAPE), deviations)


def quick(network_settings: dict[str, Any], folder: Path, **changes: Any) -> Settings:
    few = {"num_images": 150, "deviations": (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2), "step": 1.0, "resamples": 20}
    return Settings(**(network_settings | {"out_dir": str(folder), "num_train_seeds": 1} | few | changes))


@pytest.mark.slow
def test_a_linear_network_is_as_sensitive_as_its_weights_are_strong(
    network_settings: dict[str, Any], digits: data.Dataset, tmp_path: Path
) -> None:
    result = launch.execute(run, quick(network_settings, tmp_path))
    spec = TrainingSpec("digits", digits.fingerprint, "logistic", epochs=5)
    trained, _ = checkpoints.load_or_train(spec, digits, Path(network_settings["checkpoint_dir"]))
    weights = max(jax.tree.leaves(trained.parameters), key=np.size).reshape(28, 28, 10)
    power = np.mean(np.abs(np.fft.fft2(weights - weights.mean(axis=2, keepdims=True), axes=(0, 1))) ** 2, axis=2)
    expected = [np.sqrt(power[inside].mean()) for inside in Bands.of((28, 28, 1), step=1).inside]
    found = result.metrics["channels"]["plain"][0]["sensitivity"]
    ratio = np.array(found) / expected
    assert ratio.max() / ratio.min() < 1.5
    assert max(expected) / min(expected) > 2
    assert (tmp_path / "channels.png").exists()


def test_a_network_without_a_peak_is_told_to_have_no_channel(network_settings: dict[str, Any], tmp_path: Path) -> None:
    """Digits by a linear network: the lower the frequency, the more sensitive."""
    result = run(quick(network_settings, tmp_path))
    assert result.metrics["channels"]["plain"][0]["bandwidth"] == {"at": None, "low": None, "high": None}
    assert result.metrics["mean_over_seeds"]["plain"] == {"log2 centre": None, "bandwidth": None}
    assert any("cannot be told" in line for line in result.summary)


@pytest.mark.slow
def test_regimes_are_compared_by_seed_in_octaves(
    network_settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, seen = iter([(2.0, 3.0), (4.0, 3.5), (4.0, 2.0), (8.0, 3.0)]), []

    def channel(masking: Masking, **_: Any) -> critical_bands.Channel:
        seen.append(masking)
        at, width = (critical_bands.Estimate(value, value, value) for value in next(found))
        ones = np.ma.ones(len(masking.bands.centres))
        return critical_bands.Channel(masking.bands, ones, Interval(ones, ones), 1.0, at, width)

    monkeypatch.setattr(critical_bands, "channel", channel)
    short = quick(network_settings, tmp_path, regimes=("plain", "noise:0.3"), num_train_seeds=2, num_images=20)
    differences = run(short).metrics["differences_from_first"]["noise:0.3"]
    assert differences["log2 centre"]["values"] == (1, 1)
    assert differences["bandwidth"]["values"] == (-1, -0.5)
    assert len({tuple(masking.masked.ravel()) for masking in seen}) == 4


def test_a_network_of_ones_own_is_not_trained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a network of your own is not trained, leave --regimes out"):
        run(Settings(model="own.py:create", regimes=("plain", "blur:1"), out_dir=str(tmp_path)))


@pytest.mark.slow
def test_intervals_hold_the_true_channel_in_95_of_100_runs() -> None:
    """400 runs of an observer of a known channel; three binomial standard errors, and 1% for the grid of the fit."""
    centre, octaves, n = 3.0, 1.5, 300
    bands = Bands.of(SHAPE)
    gain = gain_at(frequencies(SHAPE), centre, octaves)
    sensitivity = np.array([4 * np.sqrt(np.mean(gain[inside] ** 2)) for inside in bands.inside])
    inside = []
    for run_number in range(400):
        generator = np.random.default_rng(run_number)
        margin = generator.lognormal(0, 0.5, n)
        noise = sensitivity[:, None] * generator.standard_normal((len(sensitivity), n))
        masked = margin > np.asarray(DEVIATIONS)[:, None] * noise[:, None]
        found = critical_bands.channel(Masking(bands, DEVIATIONS, 0.5, np.ones(n, bool), masked), resamples=200)
        inside.append(
            (found.centre.low <= centre <= found.centre.high, found.bandwidth.low <= octaves <= found.bandwidth.high)
        )
    coverage = np.mean(inside, axis=0)
    np.testing.assert_allclose(coverage, 0.95, atol=3 * np.sqrt(0.95 * 0.05 / 400) + 0.01)
