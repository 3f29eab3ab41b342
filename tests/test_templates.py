import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wna_jax import InputError, data, feed_back
from wna_jax.statistics import confusion_matrix
from wna_jax.templates import AUTHORS, RULES, Rule, template_classifier


def brightest_pixel(images: jax.Array) -> jax.Array:
    """Calls an image by the place of its brightest pixel."""
    return 5 * images.reshape(len(images), -1)


def test_each_map_is_stretched_and_classified_by_its_own_network() -> None:
    maps = np.ma.masked_array(0.01 * np.eye(4).reshape(4, 2, 2, 1))
    maps[3] *= -1  # darkest, not brightest, at its own place
    answers = feed_back(brightest_pixel, maps)
    confidence = float(jax.nn.softmax(jnp.array([5.0, 0, 0, 0]))[0])
    assert [answer and answer.predicted for answer in answers] == [0, 1, 2, 0]
    assert answers[0] is not None
    assert answers[0].confidence == pytest.approx(confidence)


def test_a_masked_map_gets_no_answer() -> None:
    maps = np.ma.masked_array(np.eye(4).reshape(4, 2, 2, 1))
    maps[1] = np.ma.masked
    answers = feed_back(brightest_pixel, maps)
    assert [answer and answer.predicted for answer in answers] == [0, None, 2, 3]
    maps[:] = np.ma.masked
    assert feed_back(brightest_pixel, maps) == [None] * 4


def planted(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images of three faint patterns on a common bright one, their classes, and the patterns."""
    random = np.random.default_rng(seed)
    patterns = 12 * random.normal(size=(3, 6, 6, 1))
    labels = random.integers(0, 3, n)
    images = 128 + patterns[labels] + 20 * random.normal(size=(n, 6, 6, 1)) + 40 * (np.arange(6) > 2)[:, None]
    return images.clip(0, 255).astype(np.uint8), labels, patterns


def test_templates_find_what_was_planted_once_the_common_image_is_taken_out() -> None:
    images, labels, patterns = planted(3000)
    uneven = np.ma.masked_array(patterns * np.array([1.0, 1.0, 5.0]).reshape(3, 1, 1, 1))
    before = uneven.copy()
    accuracy = {
        rule: np.mean(template_classifier(uneven, rule, images[:2000]).classify(images[2000:]) == labels[2000:])
        for rule in RULES
    }
    assert len(RULES) == 7
    np.testing.assert_array_equal(uneven, before)
    assert accuracy[Rule(True, "length")] > 0.9
    assert accuracy[Rule(True, "match")] > 0.9
    assert accuracy[Rule(False, "length")] < 0.8
    assert (
        accuracy[Rule(True, "none")] < accuracy[Rule(True, "length")]
    )  # five times the template, five times the match


def test_the_authors_rule_is_the_cosine_of_stretched_maps() -> None:
    images, _, patterns = planted(50)
    templates = np.stack([(p - p.min()) / np.ptp(p) for p in patterns]).reshape(3, -1)
    flat = images.reshape(50, -1) / 255
    cosine = (flat / np.linalg.norm(flat, axis=1, keepdims=True)) @ (templates.T / np.linalg.norm(templates, axis=1))
    answers = template_classifier(np.ma.masked_array(patterns), AUTHORS, images).classify(images)
    np.testing.assert_array_equal(answers, cosine.argmax(axis=1))


def test_a_class_without_a_template_is_never_answered() -> None:
    images, _, patterns = planted(200)
    templates = np.ma.masked_array(patterns)
    templates[1] = np.ma.masked
    for rule in RULES:
        assert set(template_classifier(templates, rule, images).classify(images)) <= {0, 2}
    templates[:] = np.ma.masked
    with pytest.raises(InputError, match="no class has a template"):
        template_classifier(templates, AUTHORS, images)
    with pytest.raises(InputError, match=r"templates \(6, 6, 1\) for images \(5, 6, 1\)"):
        template_classifier(np.ma.masked_array(patterns), AUTHORS, images[:, :5])


def test_rows_of_a_confusion_matrix_are_the_truth() -> None:
    matrix = confusion_matrix(np.array([0, 0, 1, 2], np.int32), np.array([0, 2, 1, 1]), 3)
    np.testing.assert_array_equal(matrix, [[1, 0, 1], [0, 1, 0], [0, 1, 0]])


@pytest.mark.skipif("WNA_JAX_TEST_DATA" not in os.environ, reason="WNA_JAX_TEST_DATA names no directory of data sets")
def test_class_means_of_mnist_classify_as_well_as_is_known() -> None:
    mnist = data.load("mnist", os.environ["WNA_JAX_TEST_DATA"])
    means = np.stack([mnist.train.images[mnist.train.labels == k].mean(axis=0) for k in range(10)])
    answers = template_classifier(np.ma.masked_array(means), AUTHORS, mnist.train.images).classify(mnist.test.images)
    assert np.mean(answers == mnist.test.labels) == pytest.approx(0.8216, abs=0.003)  # of all 60,000 training images
