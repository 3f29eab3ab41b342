import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from wna_jax import ClassificationImages, InputError, classification_images, noise, responses
from wna_jax.correlation import Parts, reverse_correlate, reverse_correlate_in_parts
from wna_jax.noise import Noise
from wna_jax.studies import ensembles

SHAPE = (10, 10, 2)
NETWORKS = 3
WHITE = noise.gaussian(SHAPE, 0.0, 1.0)


def random(seed: int) -> np.ndarray:
    return np.asarray(jax.random.normal(jax.random.key(seed), SHAPE))


COMMON = random(0)
TEMPLATES = [COMMON + weight * random(seed) for seed, weight in ((1, 0.0), (2, 0.7), (3, 0.7))]


def linear(template: jax.Array, images: jax.Array) -> jax.Array:
    """A classifier of two classes that compares images with a template."""
    match = jnp.einsum("nhwc,hwc->n", images, template, precision="highest")
    return jnp.stack([match, -match], axis=1)


CLASSIFIERS = [Partial(linear, template) for template in TEMPLATES]


def noisier(key: jax.Array, drawn: jax.Array) -> jax.Array:
    return drawn + jax.random.normal(key, SHAPE)


def own_sample(white: Noise, i: jax.Array, key: jax.Array) -> jax.Array:
    return white.sample(jax.random.split(key, NETWORKS)[i])


def own_noisier(i: jax.Array, key: jax.Array, drawn: jax.Array) -> jax.Array:
    return noisier(jax.random.split(key, NETWORKS)[i], drawn)


def two_halves(num_samples: int) -> Parts:
    return reverse_correlate_in_parts(
        ensembles.side_by_side(WHITE, NETWORKS),
        ensembles.of_networks(CLASSIFIERS, ["decision"]),
        num_samples,
        sampling="independent",
    )


@pytest.fixture(scope="module")
def images() -> ClassificationImages:
    maps = classification_images(ensembles.apart(two_halves(600).first["decision"], NETWORKS)[0], WHITE)
    return replace(maps, origin=None)  # they stand for those of several networks


@pytest.mark.slow
@pytest.mark.parametrize("shown_otherwise", [False, True])
def test_a_network_in_an_ensemble_gives_the_moments_that_it_gives_alone_with_its_noise(shown_otherwise: bool) -> None:
    white = noise.gaussian(SHAPE, np.array([0.4, 0.6]), 0.3)
    white = replace(white, present=noisier if shown_otherwise else None)
    together = reverse_correlate(
        ensembles.side_by_side(white, NETWORKS),
        ensembles.of_networks(CLASSIFIERS),
        700,
        sampling="independent",
    )
    for i, classifier in enumerate(CLASSIFIERS):
        number = np.int32(i)  # traced, as the templates are: all networks share one program
        present = Partial(own_noisier, number) if shown_otherwise else None
        own = replace(white, sample=Partial(own_sample, white, number), present=present, draw=None)
        alone = reverse_correlate(own, responses.of_classifier(classifier), 700, sampling="independent")
        for name in ("decision", "probability"):
            got, expected = ensembles.apart(together[name], NETWORKS)[i], alone[name]
            np.testing.assert_array_equal(got.count, expected.count)
            assert got.num_samples == got.num_draws == 700
            for field in ("weight_sum", "weight_square_sum", "sum", "square_sum", "total_sum", "total_square_sum"):
                np.testing.assert_allclose(getattr(got, field), getattr(expected, field), atol=2e-3, rtol=1e-5)


def test_copies_of_a_noise_are_independent_and_have_its_mean_and_deviation() -> None:
    white = noise.gaussian(SHAPE, np.array([0.2, 0.7]), np.array([0.1, 0.4]))
    copies = ensembles.side_by_side(white, NETWORKS)
    x = np.asarray(jax.jit(jax.vmap(copies.sample))(jax.random.split(jax.random.key(0), 2000)))
    assert copies.shape == x.shape[1:] == (10, 10, 6)
    np.testing.assert_allclose(x.mean(axis=(0, 1, 2)), copies.mean, atol=0.005)
    np.testing.assert_allclose(x.std(axis=(0, 1, 2)), copies.deviation, rtol=0.01)
    correlations = np.corrcoef(x.reshape(-1, 6).T)
    assert np.abs(correlations - np.eye(6)).max() < 4 / np.sqrt(200_000)


def test_agreement_corrects_for_the_noise_in_maps_and_finds_how_alike_the_templates_are() -> None:
    """At 1,500 samples a map has a reliability of about .8 here; the corrected correlation is that of the templates."""
    parts = two_halves(1500)
    agreed = ensembles.agreement_of_halves(parts.first["decision"], parts.second["decision"], WHITE, NETWORKS)
    truth = np.corrcoef([template.ravel() for template in TEMPLATES])
    for k in (0, 1):
        np.testing.assert_allclose(np.diag(agreed.corrected[k]), 1, rtol=1e-9)
        pairs = list(itertools.combinations(range(NETWORKS), 2))
        for i, j in pairs:
            assert agreed.corrected[k, i, j] == pytest.approx(truth[i, j], abs=0.08)
            assert agreed.correlation[k, i, j] < 0.9 * truth[i, j]
        assert agreed.mean_corrected[k] == pytest.approx(np.mean([agreed.corrected[k, i, j] for i, j in pairs]))
    assert agreed.num_maps.tolist() == [NETWORKS, NETWORKS]
    assert agreed.reliability.shape == (NETWORKS, 2)


def test_the_error_across_networks_is_that_of_their_mean(images: ClassificationImages) -> None:
    others = [replace(images, images=images.images + shift) for shift in (0.0, 1.0, 5.0)]
    agreed = ensembles.agreement(others, [np.ma.array([0.5, 0.5])] * 3)
    np.testing.assert_allclose(agreed.mean, images.images + 2.0)
    np.testing.assert_allclose(agreed.standard_error, np.sqrt(7 / 3))  # variance 7 of {0, 1, 5}, three networks
    np.testing.assert_allclose(agreed.error_across_networks, np.sqrt(7 / 3))
    each = np.sqrt((images.standard_error**2).mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(agreed.error_of_measurement, each / np.sqrt(3))


def test_a_class_that_only_one_network_calls_has_no_mean_map(images: ClassificationImages) -> None:
    empty = images.images.copy()
    empty[1] = np.ma.masked
    known, unknown = np.ma.array([0.5, 0.5]), np.ma.array([0.5, 0.5], mask=[False, True])
    agreed = ensembles.agreement([images, replace(images, images=empty)], [known, unknown])
    assert agreed.num_maps.tolist() == [2, 1]
    for values in (agreed.mean, agreed.standard_error):
        assert values[0].count() == values[0].size
        assert values[1].count() == 0
    assert agreed.corrected[1, 0, 1] is np.ma.masked
    assert agreed.mean_corrected.mask.tolist() == [False, True]


def test_wrong_input_is_named(images: ClassificationImages) -> None:
    with pytest.raises(InputError, match="maps of 1 network: agreement needs two or more"):
        ensembles.agreement([images], [np.ma.array([0.5, 0.5])])
    with pytest.raises(InputError, match="unknown response 'decide'"):
        ensembles.of_networks(CLASSIFIERS, ["decide"])
