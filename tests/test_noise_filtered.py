"""Noise of one band of frequencies, and of a power law: its spectrum, its exact covariance, and what rests on it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from wna_jax import classification_images, draw_samples, noise, reverse_correlate, statistics
from wna_jax.data import Dataset
from wna_jax.maps import whitened_images
from wna_jax.noise import Noise, checks, filtered
from wna_jax.runs.errors import InputError
from wna_jax.studies import ensembles

SHAPE = (12, 10, 1)
CASES = {
    "octave": noise.band(SHAPE, 3.0),
    "colour": noise.band((9, 8, 2), 2.0, 1.5, np.array([0.2, 0.7]), np.array([0.1, 0.3])),
    "power": noise.power_law((7, 6, 1), 2.0, 0.0, 2.0),
}


@pytest.mark.parametrize("stimulus", CASES.values(), ids=CASES)
def test_the_exact_covariance_is_that_of_the_draws(stimulus: Noise) -> None:
    n = 20_000
    exact = noise.covariance(stimulus)
    flat = np.asarray(draw_samples(stimulus, n), np.float64).reshape(n, -1)
    power = np.diag(exact)
    error = np.sqrt((exact**2 + np.outer(power, power)) / n)
    assert np.abs((np.cov(flat.T) - exact) / error).max() < 5.5
    np.testing.assert_allclose(power, np.broadcast_to(stimulus.deviation, stimulus.shape).ravel() ** 2, rtol=1e-6)
    checks.check(stimulus)


def test_a_band_holds_its_frequencies_and_no_others_equally_strong() -> None:
    stimulus = noise.band((16, 16, 1), 3.0, 1.0, 0.25, 0.1)
    images = np.asarray(draw_samples(stimulus, 2_000), np.float64)[..., 0]
    power = np.mean(np.abs(np.fft.fft2(images - 0.25)) ** 2, axis=0)
    rows, columns = np.meshgrid(*[np.fft.fftfreq(16) * 16] * 2, indexing="ij")
    inside = (rows**2 + columns**2 >= 4.5) & (rows**2 + columns**2 < 18)
    assert inside.sum() == 44  # points of the lattice on the circles of 5, 8, 9, 10, 13, 16 and 17
    expected = 0.1**2 * 16**4 / inside.sum()  # Parseval: the mean over frequencies of the power is 16^2 s^2
    np.testing.assert_allclose(power[inside], expected, rtol=5 / np.sqrt(1_000))
    assert power[~inside].max() < 1e-8 * expected


def test_octaves_an_octave_apart_divide_all_frequencies_among_them() -> None:
    for shape in ((28, 28, 1), (20, 17, 1)):
        for lowest in (0.875, np.sqrt(0.5), 1 / 3):
            centres = lowest * 2.0 ** np.arange(8)
            count = np.sum([filtered.in_band(shape, centre) for centre in centres], axis=0)
            assert count[0, 0] == 0
            assert (count.ravel()[1:] == 1).all()


def test_a_frequency_means_the_same_in_all_directions_of_an_oblong_image() -> None:
    """Four cycles down 8 rows and six across 12 columns are the same grating, turned."""
    frequency = filtered.frequencies((8, 12, 1))
    assert frequency[2, 0] == pytest.approx(frequency[0, 3])
    assert frequency[2, 0] == pytest.approx(2)


def test_a_power_law_has_its_slope() -> None:
    stimulus = noise.power_law((16, 16, 1), 1.5)
    images = np.asarray(draw_samples(stimulus, 2_000), np.float64)[..., 0]
    power = np.mean(np.abs(np.fft.fft2(images - 0.5)) ** 2, axis=0).ravel()[1:]
    slope = np.polyfit(np.log(filtered.frequencies(stimulus.shape).ravel()[1:]), np.log(power), 1)[0]
    assert slope == pytest.approx(-1.5, abs=0.03)


def template_of(stimulus: Noise) -> np.ndarray:
    """A small patch, seen by what varies in the noise: the rest of a template cannot be known."""
    patch = np.zeros(stimulus.shape)
    patch[4:7, 3:6] = [[[1], [-1], [2]]]
    covariance = noise.covariance(stimulus)
    return (covariance @ np.linalg.pinv(covariance, rcond=1e-6) @ patch.ravel()).reshape(patch.shape)


def sees(template: jax.Array, images: jax.Array) -> jax.Array:
    return (jnp.einsum("nhwc,hwc->n", images - 0.5, template) > 0).astype(jnp.float32)[:, None]


@pytest.mark.parametrize("stimulus", [noise.band(SHAPE, 3.0), noise.power_law(SHAPE, 2.0)], ids=["band", "power"])
def test_the_whitened_map_of_a_linear_observer_is_its_template(stimulus: Noise) -> None:
    template = template_of(stimulus)
    moments = reverse_correlate(stimulus, Partial(sees, template.astype(np.float32)), 10_000)
    raw = classification_images(moments, stimulus)
    covariance = noise.covariance(stimulus)
    whitened = whitened_images(moments, stimulus, covariance, 1e-3).images[0].filled(0)
    assert np.corrcoef(whitened.ravel(), template.ravel())[0, 1] > 0.97
    seen = (covariance @ template.ravel()).reshape(SHAPE)
    assert np.corrcoef(raw.images[0].ravel(), seen.ravel())[0, 1] > 0.99
    found = statistics.findings(raw, permutations=19)
    strongest = np.unravel_index(np.abs(seen).argmax(), SHAPE)
    assert all(inside is not None and inside[0][strongest] for inside in found.significant.values())


def test_null_maps_have_the_covariance_of_a_band() -> None:
    stimulus = noise.band(SHAPE, 3.0)
    nulls = np.reshape(list(statistics.null_z_maps(SHAPE, 4000, dependence=stimulus)), (4000, -1))
    correlation = noise.covariance(stimulus) / stimulus.deviation**2
    np.testing.assert_allclose(np.cov(nulls.T), correlation, atol=5.5 * np.sqrt(1 / 4000 + 1 / 2048))


def test_each_is_made_again_from_its_name_and_moments(digits: Dataset) -> None:
    for text, name in (
        ("band:7", "band:7,1"),
        ("band:1.75,0.5,0.3", "band:1.75,0.5"),
        ("power:2", "power:2"),
        ("power:-1,0.1", "power:-1"),
    ):
        made = noise.create(text, digits)
        assert made.name == name
        assert (made.white, made.gaussian) == (False, True)
        again = noise.recreate(made.name, made.shape, made.mean, made.deviation)
        assert again is not None
        np.testing.assert_array_equal(draw_samples(again, 2), draw_samples(made, 2))
    odd = noise.band((28, 28, 1), 28 / 32 * np.sqrt(2))
    assert noise.recreate(odd.name, odd.shape, odd.mean, odd.deviation).name == odd.name  # type: ignore[union-attr]
    for own in ("band:of brothers", "band:1,2,3,4", "power", "band:-1"):
        assert noise.recreate(own, made.shape, made.mean, made.deviation) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("band", "expected band:CENTRE,OCTAVES,DEVIATION, such as band:7"),
        ("band:7,1,0.2,5", "expected band:CENTRE,OCTAVES,DEVIATION"),
        ("band:-7", "the centre of a band of noise is -7: it must be above 0"),
        ("band:7,0", "width in octaves of a band of noise is 0: it must be above 0"),
        ("band:nan", "centre of a band of noise is nan"),
        ("band:7,1,0", r"the noise's deviation is \[0\.0\]: it must be above 0"),
        (
            "band:40",
            r"band:40,1 noise: no frequency lies between 28\.3 and 56\.6 cycles per image height: images of "
            r"28x28 pixels have those from 1 to 19\.8",
        ),
        ("power:inf", "exponent of the noise's power is inf"),
        ("power:2/2", "power:2 noise exists only in the size"),
    ],
)
def test_what_is_no_such_noise_is_said(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        noise.of_shape(text, (28, 28, 1))


def test_networks_side_by_side_see_bands_of_their_own() -> None:
    three = ensembles.side_by_side(noise.band((8, 8, 1), 2.0), 3)
    checks.check(three)
    samples = np.asarray(draw_samples(three, 3_000)).reshape(3_000, 64, 3)
    between = np.einsum("npc,npd->cd", samples - 0.5, samples - 0.5) / 3_000 / 64 / 0.2**2
    np.testing.assert_allclose(between, np.eye(3), atol=0.05)
    checks.check(replace(three, name="again"))
