"""What a run found is saved, read again, added up and contrasted."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from wna_jax import Analysis, InputError, draw_samples, load, noise, responses, statistics
from wna_jax.analysis.value import _overlap_of_difference
from wna_jax.correlation import FieldSums, Moments, reverse_correlate_in_parts
from wna_jax.correlation.fields import Overlap, overlap
from wna_jax.maps import ClassificationImages
from wna_jax.noise import Noise
from wna_jax.runs import files

SHAPE = (6, 6, 1)
KERNELS = np.random.default_rng(0).standard_normal((2, 5, 5, 1, 3)).astype(np.float32)
NAMES = ("decision", "logit")


def network(number: int) -> Callable[[jax.Array], jax.Array]:
    kernel: Any = KERNELS[number]

    def logits(images: jax.Array) -> jax.Array:
        dimensions = ("NHWC", "HWIO", "NHWC")
        sums = jax.lax.conv_general_dilated(images[:, :5, :5], kernel, (5, 5), "VALID", dimension_numbers=dimensions)
        return sums[:, 0, 0]

    return logits


def analysis_of(
    number: int = 0, seed: int = 0, of: Noise | None = None, names: tuple = NAMES, n: int = 900
) -> Analysis:
    stimulus = of or noise.uniform(SHAPE)
    respond = responses.of_classifier(network(number), names)
    options: dict[str, Any] = {"seed": seed, "batch_size": 256, "sampling": "independent"}
    parts = reverse_correlate_in_parts(stimulus, respond, n, **options)
    settings = {"model": "linear", "seed": seed}
    return Analysis(parts.first, parts.second, stimulus, ("a", "b", "c"), dict.fromkeys(names), settings)


@pytest.fixture(scope="module")
def first() -> Analysis:
    return analysis_of()


@pytest.fixture(scope="module")
def second() -> Analysis:
    return analysis_of(1, 1)


@pytest.fixture(scope="module")
def in_fields() -> Analysis:
    kernel: Any = KERNELS[0]

    def respond(images: jax.Array) -> jax.Array:
        dimensions = ("NHWC", "HWIO", "NHWC")
        sums = jax.lax.conv_general_dilated(images, kernel, (2, 2), "VALID", dimension_numbers=dimensions)
        return sums[:, 0, 0] if sums.shape[1:3] == (1, 1) else sums

    stimulus, of = noise.gaussian((5, 5, 1), 0.4, 0.3), responses.of_classifier(respond, ["decision"])
    parts = reverse_correlate_in_parts(stimulus, of, 25 * 1024, seed=3, sampling="field", batch_size=2048)
    return Analysis(parts.first, parts.second, stimulus, ("a", "b", "c"), overlap(stimulus, of, num_fields=4), {})


def same_moments(a: Moments, b: Moments) -> None:
    for each in fields(Moments):
        if each.name != "field_sums":
            np.testing.assert_array_equal(getattr(a, each.name), getattr(b, each.name))
    assert (a.field_sums is None) == (b.field_sums is None)
    for each in fields(FieldSums) if a.field_sums else ():
        np.testing.assert_array_equal(getattr(a.field_sums, each.name), getattr(b.field_sums, each.name))


def saved(analysis: Analysis, folder: Path) -> Analysis:
    folder.mkdir(exist_ok=True)
    analysis.save(folder / "maps.npz")
    return load(folder)


def same(a: Analysis, b: Analysis) -> None:
    assert list(a.first) == list(b.first)
    for name in a.first:
        same_moments(a.first[name], b.first[name])
        same_moments(a.second[name], b.second[name])
        for ours, theirs in ((a.maps[name].images, b.maps[name].images), (a.z[name], b.z[name])):
            np.testing.assert_array_equal(np.ma.getmaskarray(ours), np.ma.getmaskarray(theirs))
            np.testing.assert_array_equal(ours.filled(0), theirs.filled(0))
        np.testing.assert_array_equal(a.reliability[name].n0.filled(0), b.reliability[name].n0.filled(0))
    assert a.class_names == b.class_names
    assert a.settings == b.settings


@pytest.mark.parametrize("which", ["first", "in_fields"])
def test_what_was_saved_is_what_is_read(which: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    analysis: Analysis = request.getfixturevalue(which)
    again = saved(analysis, tmp_path)
    same(again, analysis)
    assert again.origins == analysis.origins
    np.testing.assert_array_equal(draw_samples(again.noise, 3, seed=5), draw_samples(analysis.noise, 3, seed=5))
    for name in analysis.first:
        ours, theirs = (each.findings(name, permutations=19) for each in (again, analysis))
        for test, inside in theirs.significant.items():
            np.testing.assert_array_equal(ours.significant[test], inside)


def test_a_class_without_samples_stays_masked(first: Analysis, tmp_path: Path) -> None:
    def emptied(half: Any) -> dict[str, Moments]:
        empty = {"count": [0, 5, 5], "weight_sum": [0.0, 5.0, 5.0], "weight_square_sum": [0.0, 5.0, 5.0]}
        of = half["decision"]
        sums = np.where(np.arange(3)[:, None, None, None] == 0, 0, of.sum)
        return {"decision": replace(of, sum=sums, **{name: np.array(values) for name, values in empty.items()})}

    one = replace(first, first=emptied(first.first), second=emptied(first.second), overlaps={"decision": None})
    again = saved(one, tmp_path)
    assert np.ma.getmaskarray(again.z["decision"]).all(axis=(1, 2, 3)).tolist() == [True, False, False]
    with np.load(tmp_path / "maps.npz") as arrays:
        assert "decision_map_0" not in arrays
        np.testing.assert_array_equal(arrays["decision_map_1"], one.maps["decision"].images[1])
        assert arrays["decision_count"].tolist() == [0, 10, 10]


def as_if_of(analysis: Analysis, other: Noise) -> Analysis:
    """As if its samples had been of another noise."""

    def told(moments: Moments) -> Moments:
        assert moments.origin
        n, varies = moments.num_samples, np.broadcast_to(other.deviation, other.shape) ** 2
        squares = n * (varies + (moments.total_sum / n) ** 2)
        return replace(moments, origin=replace(moments.origin, noise=other.name), total_square_sum=squares)

    first, second = ({name: told(sums) for name, sums in half.items()} for half in (analysis.first, analysis.second))
    return replace(analysis, noise=other, first=first, second=second)


@pytest.mark.parametrize(
    "of",
    [
        *(of(SHAPE) for of in (noise.uniform, noise.binary, noise.stripes, noise.blocks)),
        noise.blocks(SHAPE, all_places=False),
        noise.gaussian(SHAPE, 0.3, 0.1),
        replace(noise.gaussian(SHAPE, 0.3, 0.1), name="matched"),
    ],
    ids=lambda of: of.name,
)
def test_noise_of_the_package_can_be_drawn_again(first: Analysis, of: Noise, tmp_path: Path) -> None:
    again = saved(as_if_of(first, of), tmp_path)
    assert (again.noise.white, again.noise.gaussian) == (of.white, of.gaussian)
    np.testing.assert_array_equal(draw_samples(again.noise, 2), draw_samples(of, 2))


def test_of_other_noise_the_moments_are_known(first: Analysis, tmp_path: Path) -> None:
    own = replace(noise.gaussian(SHAPE), name="uniform", mean=np.full(SHAPE, 0.4), deviation=np.full(SHAPE, 0.2))
    again = saved(as_if_of(first, own), tmp_path)
    np.testing.assert_array_equal(again.noise.deviation, own.deviation)
    same(again, as_if_of(first, own))
    with pytest.raises(InputError, match="does not keep how uniform noise is drawn: make the noise anew"):
        draw_samples(again.noise, 2)


def test_in_noise_that_is_not_white_the_tests_are_those_that_can_be_made(first: Analysis, tmp_path: Path) -> None:
    """All of them where the noise can be drawn again; else those of single pixels, which need no draws."""
    striped = as_if_of(first, noise.stripes(SHAPE))
    ours, theirs = (each.findings("decision", permutations=19) for each in (saved(striped, tmp_path), striped))
    for test, inside in theirs.significant.items():
        assert inside is not None
        np.testing.assert_array_equal(ours.significant[test], inside)
    own = saved(as_if_of(first, replace(noise.stripes(SHAPE), name="own")), tmp_path)
    found = own.findings("decision", permutations=19)
    assert found.significant["pixels"] is not None
    assert found.significant["clusters"] is None


def test_deviations_of_one_mean_are_not_one_noise(first: Analysis) -> None:
    rising = np.linspace(0.1, 0.3, np.prod(SHAPE)).reshape(SHAPE)
    one, other = (replace(first, noise=replace(first.noise, deviation=of)) for of in (rising, rising[::-1]))
    with pytest.raises(InputError, match="differ in the deviation of a pixel or channel"):
        one.contrast(other, "decision")


def test_a_contrast_in_noise_that_is_not_white_is_tested_in_that_noise() -> None:
    stripes = noise.stripes(SHAPE)
    one, two = analysis_of(0, 0, stripes), analysis_of(1, 1, noise.stripes(SHAPE))
    contrast, found = one.contrast(two, "decision", permutations=19)
    assert contrast.noise is not None
    assert all(inside is not None for inside in found.significant.values())
    other = replace(two.maps["decision"], noise=None)
    assert statistics.contrast(one.maps["decision"], other).noise is None


def test_two_saved_runs_add_up_to_that_of_all_their_samples(first: Analysis, tmp_path: Path) -> None:
    other = analysis_of(seed=1, n=500)
    both = saved(first, tmp_path / "0") + saved(other, tmp_path / "1")
    for name in NAMES:
        np.testing.assert_array_equal(both.moments[name].count, first.moments[name].count + other.moments[name].count)
        np.testing.assert_allclose(both.moments[name].sum, first.moments[name].sum + other.moments[name].sum)
        assert both.moments[name].num_samples == 1400
    assert both.settings == {"model": "linear"}
    assert repr(both).count("\n") == 2
    assert "1,400 samples: 3 responses, 6x6x1 pixels; decision in uniform noise, seed 0, 1" in repr(both)
    with pytest.raises(InputError, match=r"share noise samples \(seed 0\)"):
        both + saved(first, tmp_path / "0")
    with pytest.raises(InputError, match="two networks"):
        both + analysis_of(1, 2)


def test_a_sum_asks_the_network_what_it_calls_its_maps(first: Analysis) -> None:
    both = first + analysis_of(seed=1, n=500)
    assert "feed-back       not known (a sum of runs has none)" in both.summary()
    asked = both.with_feedback(network(0))
    for name in NAMES:
        maps = both.maps[name].images.filled(0)
        low, high = (of(axis=(1, 2, 3), keepdims=True) for of in (maps.min, maps.max))
        expected = np.asarray(network(0)(((maps - low) / (high - low)).astype(np.float32))).argmax(axis=1)
        assert [answer.predicted for answer in asked.feedback[name] if answer] == expected.tolist()
    assert "are called by their own class" in asked.summary()
    assert "feed-back" not in asked.summary()


def test_runs_about_different_regions_do_not_add_up(first: Analysis) -> None:
    region, other = np.zeros((6, 6), bool), analysis_of(seed=1)
    region[:3] = True
    for pair in ((replace(first, roi=region), other), (first, replace(other, roi=region))):
        with pytest.raises(InputError, match=r"different regions of interest \(roi\): give both one, as in"):
            sum(pair)
    both = replace(first, roi=region) + replace(other, roi=region.copy())
    np.testing.assert_array_equal(both.roi, region)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lambda one: replace(one, class_names=("a", "b", "d")), "has the classes a,b,c, the other the classes a,b,d"),
        (lambda one: analysis_of(seed=1, of=noise.uniform((7, 6, 1))), "images of 6x6x1 pixels, the other .* 7x6x1"),
        (lambda one: analysis_of(seed=1, of=noise.binary(SHAPE)), "has uniform noise, the other binary noise"),
        (
            lambda one: replace(one, noise=replace(one.noise, mean=np.ones(1))),
            "differ in the mean of a pixel or channel",
        ),
        (lambda one: analysis_of(seed=1, names=("decision",)), "has the responses decision, logit, the other decision"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(first: Analysis, other: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        first + other(first)
    assert "\n" not in str(caught.value)


def test_a_contrast_of_saved_runs_is_that_of_their_maps(first: Analysis, second: Analysis, tmp_path: Path) -> None:
    one, two = saved(first, tmp_path / "0"), saved(second, tmp_path / "1")
    contrast, found = one.contrast(two, "decision", permutations=19)
    expected = statistics.contrast(first.maps["decision"], second.maps["decision"])
    np.testing.assert_array_equal(contrast.z, expected.z)
    np.testing.assert_array_equal(found.significant["pixels"], statistics.significant_pixels(expected.z, num_maps=3))
    with pytest.raises(InputError, match="one run has no probability maps: it has decision, logit"):
        one.contrast(two, "probability")
    with pytest.raises(InputError, match="share noise samples"):
        one.contrast(one, "decision")


def test_the_errors_of_a_difference_depend_on_each_other_as_those_of_both() -> None:
    """By their variances; where samples are independent, a pixel's error goes with itself alone."""
    mapped = [
        ClassificationImages(np.ma.ones((1, 4, 4, 1)), np.ma.ones((1, 4, 4, 1)) * error, np.ones(1, int), np.ones(1))
        for error in (1.0, 2.0)
    ]
    near = Overlap((2, 2), np.array([[[0.0, 0.5, 0.0], [0.2, 1.0, 0.2], [0.0, 0.5, 0.0]]]))
    alone = Overlap((2, 2), np.array([[[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]))
    for pair, expected in (
        ((near, near), near.correlation),
        ((near, None), 0.2 * near.correlation + 0.8 * alone.correlation),
        ((alone, near), 0.2 * alone.correlation + 0.8 * near.correlation),
    ):
        of = _overlap_of_difference(*zip(mapped, pair, strict=True))
        assert of is not None
        np.testing.assert_allclose(of.correlation, expected)
    assert _overlap_of_difference(*zip(mapped, (near, near._replace(stride=(3, 3))), strict=True)) is None


def test_files_that_cannot_be_read_are_one_line(first: Analysis, tmp_path: Path) -> None:
    file = tmp_path / "maps.npz"
    with pytest.raises(InputError, match=r"maps.npz is not there: give the output folder of a finished run"):
        load(tmp_path)
    files.write_arrays(file, decision_count=np.ones(3))
    with pytest.raises(InputError, match="does not say what it is of"):
        load(file)
    files.write_arrays(file, **first.arrays() | {"analysis": '{"format": 99}'})
    with pytest.raises(InputError, match="has format 99, which this version of wna_jax does not read"):
        load(file)
    without = {name: array for name, array in first.arrays().items() if name != "second_logit_sum"}
    for broken in (
        first.arrays() | {"analysis": "{"},
        first.arrays() | {"noise_mean": np.array([{}], object)},
        without,
    ):
        files.write_arrays(file, **broken)
        with pytest.raises(InputError, match="is damaged") as caught:
            load(file)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_damaged_byte_is_never_believed(first: Analysis, tmp_path: Path) -> None:
    file, generator = tmp_path / "maps.npz", np.random.default_rng(0)
    first.save(file)
    whole, refused = bytearray(file.read_bytes()), 0
    for place in generator.choice(len(whole), 12, replace=False):
        damaged = whole.copy()
        damaged[place] ^= 1 << int(generator.integers(8))
        file.write_bytes(damaged)
        try:
            again = load(file)
        except InputError:
            refused += 1
        else:
            for name in NAMES:
                same_moments(again.first[name], first.first[name])
                same_moments(again.second[name], first.second[name])
    assert refused > 6  # the others are bytes of the archive that mean nothing, such as dates
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="is damaged"):
        load(file)
