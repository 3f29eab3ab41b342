import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wna_jax import InputError, data, feed_back
from wna_jax.statistics import confusion_matrix
from wna_jax.templates import (
    AUTHORS,
    RULES,
    Feedback,
    Rule,
    as_json,
    called_right,
    captions,
    choose_rule,
    template_classifier,
    try_on_test_images,
)


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


def test_images_are_classified_as_they_are_where_nothing_is_to_be_stretched() -> None:
    images = np.ma.masked_array(0.01 * np.eye(4).reshape(4, 2, 2, 1))
    images[3] = np.ma.masked
    answers = feed_back(brightest_pixel, images, stretch=False)
    confidence = float(jax.nn.softmax(jnp.array([0.05, 0, 0, 0]))[0])
    assert [answer and answer.predicted for answer in answers] == [0, 1, 2, None]
    assert answers[0] is not None
    assert answers[0].confidence == pytest.approx(confidence)
    constant = feed_back(brightest_pixel, np.ma.ones((1, 2, 2, 1)), stretch=False)
    assert constant == [Feedback(0, 0.25)]  # which has no stretched image


def test_answers_are_told_for_figures_and_files() -> None:
    answers = [Feedback(0, 0.75), None, Feedback(0, 0.5)]
    assert captions(answers, ["a", "b", "c"], "none") == ["✓ a 0.75", "none", "✗ a 0.50"]
    right, wrong = ({"predicted": 0, "confidence": c, "correct": c > 0.6} for c in (0.75, 0.5))
    assert as_json(answers) == [right, None, wrong]
    assert called_right(answers) == (1, 2)


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


def test_the_rule_is_chosen_on_the_validation_images_and_tried_on_the_test_images() -> None:
    images, labels, patterns = planted(3000)
    train, validation, test = (
        data.Split(images[own], labels[own].astype(np.int32))
        for own in (slice(2000), slice(2000, 2500), slice(2500, 3000))
    )
    dataset = data.Dataset("planted", train, validation, test, ("a", "b", "c"), "-")
    templates = np.ma.masked_array(patterns * np.array([1.0, 1.0, 5.0]).reshape(3, 1, 1, 1))

    def accuracy(rule: Rule, split: data.Split) -> float:
        classifier = template_classifier(templates, rule, dataset.train.images)
        return float(np.mean(classifier.classify(split.images) == split.labels))

    on_validation = {rule: accuracy(rule, dataset.validation) for rule in RULES}
    choice = choose_rule(templates, dataset)
    assert choice.validation_accuracy == on_validation[choice.rule] == max(on_validation.values()) > 0.9
    first_best = next(rule for rule in RULES if on_validation[rule] == choice.validation_accuracy)
    assert choice.rule == first_best

    templates[1] = np.ma.masked
    trial = try_on_test_images(templates, dataset)
    assert trial.test.accuracy == accuracy(trial.choice.rule, dataset.test)
    assert trial.authors_accuracy == accuracy(AUTHORS, dataset.test)
    assert trial.test.confusion.sum() == 500
    assert not trial.test.confusion[:, 1].any()
    told = trial.as_json(dataset.class_names)
    assert told["classes_without_template"] == ["b"]
    assert told["test_accuracy"] == trial.test.accuracy


def test_rows_of_a_confusion_matrix_are_the_truth() -> None:
    matrix = confusion_matrix(np.array([0, 0, 1, 2], np.int32), np.array([0, 2, 1, 1]), 3)
    np.testing.assert_array_equal(matrix, [[1, 0, 1], [0, 1, 0], [0, 1, 0]])


@pytest.mark.skipif("WNA_JAX_TEST_DATA" not in os.environ, reason="WNA_JAX_TEST_DATA names no directory of data sets")
def test_class_means_of_mnist_classify_as_well_as_is_known() -> None:
    mnist = data.load("mnist", os.environ["WNA_JAX_TEST_DATA"])
    means = np.stack([mnist.train.images[mnist.train.labels == k].mean(axis=0) for k in range(10)])
    answers = template_classifier(np.ma.masked_array(means), AUTHORS, mnist.train.images).classify(mnist.test.images)
    assert np.mean(answers == mnist.test.labels) == pytest.approx(0.8216, abs=0.003)  # of all 60,000 training images
