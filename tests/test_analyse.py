"""One call from a network to maps, tests and pictures: the same as its steps, for any network, shown and kept."""

import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

import wna_jax
from experiments import noise_maps, shared
from wna_jax import Analysis, ClassificationImages, InputError, analyse, load, noise, responses, statistics
from wna_jax.analysis import shown
from wna_jax.correlation import reverse_correlate_in_parts
from wna_jax.networks import Network, models
from wna_jax.runs import files
from wna_jax.runs.progress import Progress
from wna_jax.templates import Feedback

SHAPE = (6, 6, 1)
TEMPLATES = np.random.default_rng(0).standard_normal((3, 36)).astype(np.float32)
WHITE = noise.uniform(SHAPE)
FEW: dict[str, Any] = {"num_samples": 3_000, "sampling": "independent", "batch_size": 250, "permutations": 19}


def logits(images: jax.Array) -> jax.Array:
    return (images.reshape(len(images), -1) - 0.5) @ TEMPLATES.T


def by_hand(images: np.ndarray) -> np.ndarray:
    return (images.reshape(len(images), -1) - 0.5) @ TEMPLATES.T


def same(a: Analysis, b: Analysis) -> None:
    ours, theirs = a.arrays(), b.arrays()
    assert set(ours) == set(theirs)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])


@pytest.fixture(scope="module")
def found() -> Analysis:
    return analyse(logits, WHITE, **FEW, class_names=["a", "<b>", "c"])


def test_the_call_is_its_steps_to_the_bit(found: Analysis) -> None:
    """With the classes, the other half and the feed-back of its own."""
    parts = reverse_correlate_in_parts(WHITE, responses.of_classifier(logits), 3_000, batch_size=250)
    for ours, theirs in ((found.first, parts.first), (found.second, parts.second)):
        for name in ("decision", "probability"):
            np.testing.assert_array_equal(ours[name].sum, theirs[name].sum)
            assert ours[name].origin == theirs[name].origin
    for name, answers in found.feedback.items():
        assert answers == wna_jax.feed_back(logits, found.maps[name].images)
    curve = found.convergence["decision maps against the other half of the samples"][1]
    assert curve.num_samples[-1] == parts.first["decision"].num_samples
    assert found.name == "logits"


def test_maps_are_those_of_the_templates(found: Analysis) -> None:
    """Cov(softmax, noise) of linear logits: the template of k less those of the others, by their probabilities."""
    centred = TEMPLATES - TEMPLATES.mean(axis=0)
    for k in range(3):
        r = np.corrcoef(found.maps["probability"].images[k].ravel(), centred[k])[0, 1]
        assert r > 0.85
        answer = found.feedback["probability"][k]
        assert answer
        assert answer.predicted == k


@pytest.mark.slow
def test_noise_maps_is_the_call_to_the_bit(network_settings: dict[str, Any], tmp_path: Path) -> None:
    how: dict[str, Any] = {"num_samples": 2_000, "permutations": 19, "gradient_samples": 100, "seed": 4}
    settings = noise_maps.Settings(**network_settings, **how, out_dir=str(tmp_path / "out"))
    theirs = noise_maps.run(settings).arrays["maps.npz"]
    dataset, stimulus, trained = shared.set_up(settings, lambda progress: None)
    ours = analyse(trained.network, stimulus, dataset=dataset, **how)
    again = ours.arrays()
    assert set(again) == set(theirs)
    for name in set(theirs) - {"analysis"}:
        np.testing.assert_array_equal(again[name], theirs[name])
    assert len(ours.convergence) == 4  # two against the other half, one against the gradient, one with the prior
    np.testing.assert_array_equal(ours.class_means, dataset.class_means)
    by_default = analyse(trained.network, dataset=dataset, num_samples=300)
    assert by_default.noise.name == "matched"
    assert by_default.class_names == dataset.class_names


@pytest.mark.slow
def test_five_lines_from_a_linen_network_to_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Sequential([nn.Conv(4, (3, 3)), nn.BatchNorm(use_running_average=True), lambda x: x.mean((1, 2))])
    variables = module.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    monkeypatch.chdir(tmp_path)
    lines = """
import wna_jax
network = lambda images: module.apply(variables, images)
found = wna_jax.analyse(network, image_shape=(8, 8, 3), num_samples=1_000)
found.save("results")
"""
    names: dict[str, Any] = {"module": module, "variables": variables}
    exec(lines, names)
    assert names["found"].noise.name == "uniform"
    assert json.loads(Path("results/metrics.json").read_text())["num_samples"] == 1_000
    with Image.open("results/classification_images.png") as picture:
        assert min(picture.size) > 100
    same(load("results"), names["found"])


def test_a_network_is_asked_about_the_data_and_one_of_another_scale_is_warned_of(tmp_path: Path) -> None:
    """A linear classifier of digits that was trained on images from 0 to 255, beside the same one with that step."""
    digits = wna_jax.data.load("digits")
    pixels = digits.train.images.reshape(len(digits.train.labels), -1).astype(np.float32)
    known = np.eye(10, dtype=np.float32)[digits.train.labels] - 0.1
    weights = np.linalg.solve(pixels.T @ pixels + 1e5 * np.eye(784, dtype=np.float32), pixels.T @ known)
    bias = np.arange(10, dtype=np.float32)[None]  # which nothing in [0, 1] outweighs

    def trained(images: jax.Array) -> jax.Array:
        scores = 100 * images.reshape(len(images), -1) @ weights
        return scores + jnp.broadcast_to(bias, scores.shape)

    options: dict[str, Any] = {"dataset": "digits", "num_samples": 500, "permutations": 19, "response": "decision"}
    right = analyse(lambda images: trained(255 * images), **options)
    expected = (
        np.asarray(trained(jnp.asarray(digits.validation.images, jnp.float32))).argmax(axis=1)
        == digits.validation.labels
    ).sum()
    assert right.right == (143, expected)
    assert expected > 120
    assert f"{expected / 143:.1%} of 143 validation images are called right" in right.summary()
    right.save(tmp_path / "maps.npz")
    assert load(tmp_path / "maps.npz").right == right.right
    with pytest.warns(UserWarning, match=r"right, hardly more than chance: images are given in \[0, 1\]"):
        wrong = analyse(trained, **options)
    assert wrong.right is not None
    assert wrong.right[1] < 30


def test_a_response_that_was_not_made_is_named_with_those_that_were(found: Analysis) -> None:
    for values in (found.maps, found.z, found.moments, found.reliability):
        with pytest.raises(InputError, match=r"unknown response of this analysis 'logit'.*decision, probability"):
            values["logit"]
        assert values.get("logit") is None


def test_a_network_that_knows_its_image_shape_says_it(random_network: Callable[[nn.Module], Network]) -> None:
    by_default = analyse(random_network(models.create("logistic", SHAPE, 3)), num_samples=100)
    assert by_default.noise.name == "uniform"
    assert by_default.noise.shape == SHAPE
    assert by_default.name == "DenseNetwork"


@pytest.mark.parametrize(
    ("network", "outputs"),
    [
        (lambda images: jax.nn.softmax(logits(images)), "probabilities"),
        (responses.of_classifier(lambda images: jax.nn.softmax(logits(images)), outputs="probabilities"), None),
        (responses.of_black_box(by_hand), None),
    ],
    ids=["probabilities", "ready", "black box"],
)
def test_any_form_of_a_network_has_the_same_maps_and_answers(found: Analysis, network: Any, outputs: Any) -> None:
    other = analyse(network, WHITE, **FEW, outputs=outputs)
    for name in found.first:
        np.testing.assert_allclose(other.moments[name].count, found.moments[name].count, atol=2)
        np.testing.assert_allclose(other.maps[name].images, found.maps[name].images, atol=2e-4)
        for ours, theirs in zip(other.feedback[name], found.feedback[name], strict=True):
            assert ours
            assert theirs
            assert ours.predicted == theirs.predicted
            assert ours.confidence == pytest.approx(theirs.confidence, abs=0.01)


def test_of_a_regression_the_map_is_its_gradient() -> None:
    """Within standard errors, pixel by pixel; it calls nothing anything."""
    of = analyse(logits, WHITE, **FEW, outputs="value", class_names=["x", "y", "z"])
    maps = of.maps["value"]
    z = (maps.images.reshape(3, 36) - TEMPLATES) / maps.standard_error.reshape(3, 36)
    assert 0.8 < z.std() < 1.2
    assert not of.feedback
    assert of.summary().splitlines()[1].startswith("value maps      3 of 3 classes")
    assert of.figure()


def test_of_several_labels_each_has_its_own_maps() -> None:
    of = analyse(logits, WHITE, **FEW, outputs="label_logits")
    drawn = wna_jax.draw_samples(WHITE, 3_000)
    expected = (by_hand(np.asarray(drawn)) > 0).sum(axis=0)
    np.testing.assert_allclose(of.moments["decision"].count, expected, atol=2)
    assert of.moments["decision"].count.sum() != 3_000
    for k in range(3):
        assert np.corrcoef(of.maps["decision"].images[k].ravel(), TEMPLATES[k])[0, 1] > 0.85
        answer = of.feedback["decision"][k]
        assert answer
        assert answer.confidence > 0.5


def test_all_of_it_is_kept_and_read_again(found: Analysis, tmp_path: Path) -> None:
    roi = statistics.rectangle(SHAPE, 1, 1, 4, 4)
    whole = replace(found, roi=roi, class_means=np.full((3, *SHAPE), 0.5), settings={"any": 1})
    whole.save(tmp_path / "new" / "folder")
    again = load(tmp_path / "new" / "folder")
    same(again, whole)
    assert again.feedback == whole.feedback
    assert again.tests == {"permutations": 19, "seed": 0}
    for title, (response, curve) in whole.convergence.items():
        name, other = again.convergence[title]
        assert name == response
        for ours, theirs in zip(other, curve, strict=True):
            np.testing.assert_array_equal(np.ma.getmaskarray(ours), np.ma.getmaskarray(theirs))
            np.testing.assert_array_equal(np.ma.filled(ours, 0), np.ma.filled(theirs, 0))
    assert again.metrics() == whole.metrics()
    assert again.summary() == whole.summary()
    inside = again.findings("probability").significant["pixels"]
    assert inside is not None
    assert 0 < inside.sum() <= 16 * 3
    np.testing.assert_array_equal(again.reliability["decision"].n0, whole.reliability["decision"].n0)
    assert again.reliability["decision"].n0[0] != found.reliability["decision"].n0[0]


def test_a_file_of_an_earlier_version_is_read(found: Analysis, tmp_path: Path) -> None:
    arrays = {name: of for name, of in found.arrays().items() if not name.startswith("convergence")}
    about = json.loads(str(arrays["analysis"]))
    for name in ("name", "classes", "all_class_names", "feedback", "convergence", "tests"):
        del about[name]
    files.write_arrays(tmp_path / "maps.npz", **arrays | {"analysis": json.dumps(about)})
    again = load(tmp_path)
    assert again.classes == (0, 1, 2)
    np.testing.assert_array_equal(again.maps["decision"].images, found.maps["decision"].images)
    assert again.figure()


def test_it_goes_on_from_its_state(found: Analysis, tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.done >= 1_000:
            raise KeyboardInterrupt

    arguments: dict[str, Any] = {**FEW, "class_names": found.class_names, "state_dir": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        analyse(logits, WHITE, **arguments | {"num_samples": 1_000}, report=interrupt)
    done: list[int] = []
    again = analyse(logits, WHITE, **arguments, report=lambda progress: done.append(progress.done))
    assert done[0] == 1_000
    same(again, found)


def test_some_classes_keep_their_names_and_numbers() -> None:
    some = analyse(logits, WHITE, **FEW, classes=[2, 0], class_names=["a", "b", "c"], response=["probability"])
    whole = analyse(logits, WHITE, **FEW)
    assert some.class_names == ("c", "a")
    np.testing.assert_array_equal(some.moments["probability"].sum, whole.moments["probability"].sum[[2, 0]])
    assert [answer and answer.predicted for answer in some.feedback["probability"]] == [2, 0]
    texts = [text.get_text() for text in some.figure().findobj(Text)]
    assert [text for text in texts if text in ("a", "b", "c")] == ["c", "a"]
    assert sum(text.startswith("✓") for text in texts) == 2
    assert "called most" not in some.summary()  # decisions were not asked for
    assert whole.class_names == ("0", "1", "2")


def test_of_two_runs_together_everything_is_shown_but_the_feed_back(found: Analysis) -> None:
    both = found + analyse(logits, WHITE, **FEW, seed=1, class_names=found.class_names)
    assert both.moments["decision"].num_samples == 6_000
    assert not both.feedback
    texts = [text.get_text().replace("\n", " ") for text in both.figure().findobj(Text)]
    assert "Classification images of logits: 6,000 images of uniform noise" in texts
    assert not any("what the network calls" in text for text in texts)
    assert "called by their own class" not in both.summary()
    with pytest.raises(InputError, match="no sums were kept on the way"):
        both.figure("convergence")


def test_a_notebook_gets_a_table_and_the_picture(found: Analysis) -> None:
    text = found._repr_html_()
    rows = re.findall("<tr><td>.*?</tr>", text)
    assert len(rows) == 3
    counts, inside = found.moments["decision"].count, found.findings("probability").significant["pixels"]
    assert inside is not None
    for k, row in enumerate(rows):
        assert ("a", "&lt;b&gt;", "c")[k] in row
        assert f"<td>{counts[k]:,}</td>" in row
        assert f"<td>{found.reliability['probability'].reliability[k]:.2f}</td>" in row
        assert f"<td>{inside[k].sum()} of 36</td>" in row
    (picture,) = re.findall('base64,(.*?)"', text)
    with Image.open(io.BytesIO(base64.b64decode(picture))) as drawn:
        assert min(drawn.size) > 100
    assert repr(found).count("\n") == 2


def test_bars_are_drawn_where_somebody_watches(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    analyse(logits, WHITE, **FEW)
    assert capfd.readouterr().err == ""
    monkeypatch.setattr("wna_jax.runs.progress._is_watched", lambda: True)
    analyse(logits, WHITE, **FEW)
    assert "noise: 100%" in capfd.readouterr().err
    told: list[Progress] = []
    analyse(logits, WHITE, **FEW, report=told.append)
    assert told[-1].done == 3_000
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "no noise, and no image shape: give noise="),
        ({"noise": "uniform"}, r"noise is a str: expected one such as wna_jax.noise.uniform\(\(28, 28, 1\)\)"),
        ({"noise": WHITE, "image_shape": (7, 6, 1)}, r"images of image_shape are \(7, 6, 1\), those of the noise \(6"),
        ({"noise": WHITE, "class_names": ["a"]}, "class_names are 1 classes, and the network answers 3"),
        ({"noise": WHITE, "roi": np.ones((5, 5), bool)}, r"a region of interest of bool \(5, 5\)"),
        ({"noise": WHITE, "permutations": 9}, "permutations is 9: below 19 nothing is significant"),
        ({"noise": WHITE, "permutations": 19.5}, "permutations is 19.5: it must be a whole number"),
        ({"noise": WHITE, "permutations": "99"}, "permutations is '99': it must be a whole number"),
        ({"noise": WHITE, "gradient_samples": -5}, "gradient_samples is -5: it must be a whole number"),
        ({"noise": WHITE, "gradient_samples": 2.5}, "gradient_samples is 2.5: it must be a whole number"),
        ({"noise": WHITE, "class_names": iter("abc")}, "class_names is a str_.*: expected a list of 3 names"),
        ({"noise": WHITE, "settings": [1]}, "settings cannot be kept with the result"),
        ({"noise": WHITE, "settings": {"roi": np.ones(3)}}, "settings cannot be kept with the result"),
        ({"noise": WHITE, "network": responses.of_black_box(by_hand), "gradient_samples": 9}, "gradient"),
        ({"noise": WHITE, "classes": [3]}, "class 3 of a network with 3 classes"),
        ({"noise": WHITE, "response": ["decisions"]}, "unknown response 'decisions'"),
        ({"noise": WHITE, "response": "decisions"}, "unknown response 'decisions'"),
        ({"dataset": np.zeros((9, *SHAPE))}, r'dataset is a ndarray: expected .* wna_jax.data.load\("mnist"\)'),
        (
            {"noise": WHITE, "network": lambda x: logits(x).argmax(-1)},
            "numbers of classes. give what they are decided by",
        ),
        ({"noise": WHITE, "network": lambda x: logits(x)[:2]}, "returned 2 answers for 9 images: expected one per im"),
        ({"image_shape": (5, 6, 1)}, r"the network raised TypeError for images \(2, 5, 6, 1\)"),
    ],
)
def test_what_does_not_fit_is_one_line_before_the_run(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        analyse(**{"network": logits} | arguments, report=lambda progress: pytest.fail("it began"))
    assert "\n" not in str(caught.value)


def test_an_identity_that_cannot_be_saved_is_said_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the identity of a run cannot be saved"):
        analyse(
            logits,
            WHITE,
            **FEW,
            state_dir=tmp_path / "state",
            identity={"number": np.int64(3)},
            report=lambda progress: pytest.fail("it began"),
        )


def test_numbers_of_numpy_and_lists_are_kept_and_shown(tmp_path: Path) -> None:
    region = [[True] * 6] * 3 + [[False] * 6] * 3
    found = analyse(logits, WHITE, **FEW | {"permutations": np.int64(19), "roi": region})
    found.save(tmp_path)
    assert load(tmp_path).tests == {"permutations": 19, "seed": 0}
    np.testing.assert_array_equal(load(tmp_path).roi, region)


def test_what_cannot_be_shown_is_one_line(found: Analysis, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown kind of figure 'map'"):
        found.figure("map")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="unknown response of this analysis 'logit'"):
        found.figure(responses=["logit"])
    with pytest.raises(InputError, match="unknown response of this analysis 'logit'"):
        found.findings("logit")
    with pytest.raises(InputError, match="a Gradient is no network"):
        analyse(responses.gradient_of(logits), WHITE)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        found.save(tmp_path / "file")


def test_the_summary_counts_maps_as_the_figure_shows_them() -> None:
    """Of four classes one is never called, one in a single field (no error), and one of 99.99% is not all."""
    errors = np.ma.masked_invalid(np.array([1, 1, np.nan, np.nan]).reshape(4, 1, 1, 1))
    images = np.ma.masked_array(np.ones((4, 1, 1, 1)), np.array([0, 0, 0, 1]).reshape(4, 1, 1, 1))
    counts = np.array([99_990, 7, 3, 0])
    own = ClassificationImages(images, errors, counts, counts / 100_000)
    decision = SimpleNamespace(num_samples=100_000, count=counts, field_sums=True)
    given: dict[str, Any] = {"moments": {"decision": decision}, "maps": {"decision": own}, "reliability": {}}
    given["feedback"] = {"decision": [Feedback(0, 0.9), Feedback(0, 0.9), Feedback(2, 0.9), None]}
    of: Any = SimpleNamespace(
        **given, classes=[0, 1, 2, 3], class_names=list("abcd"), all_class_names=list("abcd"), right=None
    )
    said = list(shown.summary(of))
    assert said[0] == "noise images    100,000 (field)"
    assert "called most     a (99.99%)" in said
    assert "never called    d" in said
    maps = "decision maps   3 of 4 classes (1 of too few samples for an error); 2 are called by their own class"
    assert maps in said


def test_importing_the_package_does_not_import_matplotlib() -> None:
    code = "import sys, wna_jax; assert wna_jax.analyse; assert not {'matplotlib', 'orbax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_where_none_of_some_classes_was_called_none_is_named() -> None:
    never = wna_jax.analyse(
        lambda x: x.reshape(len(x), -1)[:, :3] - np.array([[9, 9, 0]], np.float32), WHITE, 600, classes=[0, 1]
    )
    assert "called most     none, of these classes; 100% went to others" in never.summary()
