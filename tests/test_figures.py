import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from wna_jax import figures, statistics
from wna_jax.figures.tiles import Row, Tiles, colour_parts, edges
from wna_jax.maps import ClassificationImages
from wna_jax.statistics import Interval, SplitHalf
from wna_jax.templates import Feedback


def maps_of(num_classes: int, channels: int, empty: int) -> ClassificationImages:
    images = np.ma.masked_array(np.random.default_rng(0).normal(size=(num_classes, 6, 6, channels)))
    error = np.ma.ones(images.shape)
    images[empty] = error[empty] = np.ma.masked
    count = np.full(num_classes, 1234)
    count[empty] = 0
    return ClassificationImages(images, error, count, count / count.sum())


def halves_of(maps: ClassificationImages, reliability: float) -> SplitHalf:
    known = np.ma.masked_array(np.full(len(maps.count), reliability), maps.count == 0)
    return SplitHalf(known, known, known**0.5, 1e5 * (1 - known) / known)


def texts(figure: Figure) -> str:
    found = [text for ax in figure.axes for text in (*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label)]
    return "\n".join(text.get_text() for text in found)


@pytest.mark.parametrize(("num_classes", "channels"), [(2, 1), (3, 3), (11, 1)])
def test_every_class_stands_in_the_figure_with_its_count_and_an_empty_one_as_empty(
    num_classes: int, channels: int
) -> None:
    maps = maps_of(num_classes, channels, empty=1)
    names = [f"class {k}" for k in range(num_classes)]
    answers = [Feedback(0, 0.75)] * num_classes
    answers[1] = None  # type: ignore[call-overload]
    figure = figures.classification_images(
        {"decision": maps, "probability": maps},
        {"decision": answers, "probability": answers},
        {"decision": halves_of(maps, 0.5), "probability": halves_of(maps, 0.99)},
        {},
        names,
        np.zeros((num_classes, 6, 6, channels)),
        "title",
    )
    figure.draw_without_rendering()
    said = texts(figure)
    assert all(name in said for name in names)
    assert said.count("empty:\nno sample") == 2
    assert said.count("1,234 (") == num_classes - 1
    assert said.count("reliability 0.99") == num_classes - 1
    assert said.count("reliability 0.50, .9 at 900k") == num_classes - 1  # N0 is 100k, .9 needs nine times as many
    assert said.count("✓ class 0 0.75") == 2
    assert said.count("✗ class 0 0.75") == 2 * (num_classes - 2)


def test_a_map_is_drawn_on_a_scale_centred_on_zero_that_all_of_its_row_share() -> None:
    maps = maps_of(4, 1, empty=3)
    figure = figures.classification_images(
        {"decision": maps},
        {"decision": [None] * 4},
        {"decision": halves_of(maps, 0.99)},
        {},
        list("abcd"),
        np.zeros((4, 6, 6, 1)),
        "title",
    )
    scales = {image.get_clim() for ax in figure.axes for image in ax.images if image.get_cmap().name == "RdBu_r"}
    ((low, high),) = scales
    assert low == -high


def test_a_map_of_colours_is_drawn_in_colours_that_mean_themselves() -> None:
    """Brighter red is red, less blue is yellow; independent channels stay so: the opponent axes are orthonormal."""
    limit, z = 8.0, np.random.default_rng(0).normal(size=(5, 7, 3))
    colours, lightness, red_green, yellow_blue = colour_parts(z, limit)
    np.testing.assert_allclose(colours, 0.5 + z / 16)
    np.testing.assert_allclose(lightness[..., 0], 0.5 + z.sum(axis=-1) / np.sqrt(3) / 16)
    np.testing.assert_allclose(red_green[..., 0], 0.5 + (z[..., 0] - z[..., 1]) / np.sqrt(2) / 16)
    np.testing.assert_allclose(yellow_blue[..., 2], 0.5 + (2 * z[..., 2] - z[..., 0] - z[..., 1]) / np.sqrt(6) / 16)
    np.testing.assert_allclose(colour_parts(np.zeros((1, 1, 3)), limit), 0.5)
    red = [tuple(part[0, 0]) for part in colour_parts(np.array([[[30.0, 0, 0]]]), limit)]
    assert red[0] == (1, 0.5, 0.5)
    assert red[1] == (1, 1, 1)
    assert red[2] == (1, 0, 0.5)


@pytest.mark.parametrize(("channels", "said"), [(1, "Red: brighter noise"), (3, "red against green"), (4, "")])
def test_the_caption_is_true_of_the_colours(channels: int, said: str) -> None:
    maps = maps_of(2, channels, empty=1)
    if channels != 4:  # a mean image of four channels is no picture
        halves, means = {"decision": halves_of(maps, 0.99)}, np.zeros((2, 6, 6, channels))
        drawn: Any = {"decision": maps}, {"decision": [None] * 2}, halves, {}, ["a", "b"], means, "title"
        figure = figures.classification_images(*drawn)
        assert said in texts(figure)
    figure = figures.panels({"row": [figures.Panel(maps.images[0], "map", True, np.ones((6, 6), bool))]}, "title")
    figure.draw_without_rendering()
    assert ("red against green" in texts(figure)) == (channels == 3)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_shares_end_at_one_and_the_title_is_whole(num_classes: int) -> None:
    counts = np.arange(num_classes) * 1000 + 1
    title = "What paper_cnn on a folder of pictures (test accuracy 98.22%) answers to 20,000 images of matched noise"
    figure = figures.shares(counts, np.full(num_classes, 1e-3), None, [f"class {k}" for k in range(num_classes)], title)
    figure.draw_without_rendering()
    assert figure.axes[0].get_ylim()[1] == 1
    (heading,) = (text for text in figure.texts if text.get_text().replace("\n", " ") == title)
    assert heading.get_window_extent().x1 <= figure.bbox.x1


def test_the_axis_of_epochs_has_whole_numbers_and_close_strengths_do_not_overlap() -> None:
    figure = figures.curves({"": {"a": figures.Curve(range(1, 4), np.array([3.0, 2, 1]))}}, "epoch", "error", "title")
    figure.draw_without_rendering()
    assert all(float(tick).is_integer() for tick in figure.axes[0].get_xticks())
    strengths = [0, 0.0125, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    panel = {"": {"a": figures.Curve(strengths, np.linspace(1, 0, 9))}}
    figure = figures.curves(panel, "epsilon", "accuracy", "title", x_scale="symlog")
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert all(left.x1 <= right.x0 + 1 for left, right in itertools.pairwise(boxes))


@pytest.mark.parametrize("with_interval", [True, False])
def test_wide_intervals_of_several_curves_stand_side_by_side(with_interval: bool) -> None:
    y = np.array([0.2, 0.5])
    curve = figures.Curve([10, 1000], y, Interval(y - 0.1, y + 0.1) if with_interval else None)
    figure = figures.curves({"": dict.fromkeys("abc", curve)}, "samples", "share", "title", x_scale="log")
    lines = [np.asarray(line.get_xdata()) for line in figure.axes[0].lines]
    assert len({tuple(x) for x in lines}) == (3 if with_interval else 1)
    np.testing.assert_allclose(lines[1], [10, 1000])


def test_the_surest_answers_are_told_in_one_form() -> None:
    logits = np.array([[9.0, 0], [0.0, 2], [8.0, 1]])
    for some, said in ((logits, {"1 − p"}), (logits[1:2], {"p = 0.8808"})):
        images = np.zeros((len(some), 6, 6, 1), np.uint8)
        labels = some.argmax(axis=1)
        figure = figures.surest_answers(images, labels, some, ["a", "b"], "a network")
        found = {line for line in texts(figure).splitlines() if "p = " in line}
        assert all(any(line.startswith(start) for start in said) for line in found)
        assert found


@pytest.mark.parametrize(
    ("share", "text"),
    [
        *((0.0, "0%"), (3e-7, "3e-05%"), (0.00123, "0.12%"), (0.158, "15.8%"), (0.98, "98.0%")),
        *((0.9951, "99.5%"), (0.99952, "99.95%"), (0.9999, "99.99%"), (0.999997, "99.9997%"), (1.0, "100%")),
    ],
)
def test_a_hundred_percent_is_all(share: float, text: str) -> None:
    assert figures.percent(share) == text


def test_shares_show_each_count() -> None:
    errors = np.ma.masked_array([0.0, 4e-6, 4e-6], [True, False, False])
    means = np.array([0.01, 0.1, 0.89])
    figure = figures.shares(np.array([0, 17, 999_983]), errors, means, ["a", "b", "c"], "title")
    figure.draw_without_rendering()
    assert texts(figure).splitlines()[:3] == ["0", "17", "999,983"]


@pytest.mark.parametrize("channels", [1, 3])
def test_gallery_draws_rows_with_captions(channels: int) -> None:
    images = np.random.default_rng(0).uniform(size=(2, 3, 5, 5, channels))
    figure = figures.gallery(images, ["first", "second"], "title", [["x", "y", "z"]] * 2)
    figure.draw_without_rendering()
    assert sum(len(ax.images) for ax in figure.axes) == 6
    assert "second" in texts(figure)


def test_significant_pixels_are_outlined_along_their_edges() -> None:
    inside = np.zeros((4, 5), bool)
    inside[2, 3] = inside[2, 4] = True
    lines = {tuple(sorted(map(tuple, line))) for line in edges(inside).tolist()}
    around = [(3, 2), (4, 2), (5, 2), (5, 3), (4, 3), (3, 3)]
    assert lines == {tuple(sorted(pair)) for pair in zip(around, [*around[1:], around[0]], strict=True)}


def test_an_outline_lies_on_its_picture() -> None:
    tiles = Tiles([Row(), Row()], 2, (4, 5, 1), "title")
    inside = np.ones((4, 5), bool)
    tiles.image(1, 1, np.zeros((4, 5, 1)))
    tiles.outline(1, 1, inside)
    (picture,), (outline,) = tiles.axes.images, tiles.axes.collections
    corners = np.concatenate(outline.get_segments())  # type: ignore[attr-defined]
    left, right, bottom, top = picture.get_extent()
    np.testing.assert_allclose(corners.min(axis=0), [left, top])
    np.testing.assert_allclose(corners.max(axis=0), [right, bottom])


def test_the_figure_of_significance_counts_what_each_test_found_and_says_what_was_not_tested() -> None:
    maps = maps_of(3, 1, empty=2)
    maps.images[0, 2:4, 2:4] = 9.0
    found = statistics.findings(maps, permutations=39)
    coloured = statistics.findings(replace(maps, independent=False))
    figure = figures.significance({"decision": found, "probability": coloured}, ["a", "b", "c"], "title")
    figure.draw_without_rendering()
    said = texts(figure)
    assert said.count("pixels 4 of 36") == 2  # once per response
    assert said.count("clusters 4 of 36") == said.count("TFCE 4 of 36") == 1  # where noise is white
    assert said.count("no map") == 4
    assert said.count("not tested") == 3 * 3
    assert f"infoVal {found.info_val[0]:.0f}" in said  # type: ignore[index]


def test_maps_of_fields_are_drawn_in_standard_errors_not_as_normal_deviates() -> None:
    """Of 19 degrees of freedom 123 and 56 standard errors are normal deviates of 12.6 and 10.2: the picture keeps the
    ratio, the test takes the deviates. The colour bar says what is drawn."""
    maps = replace(maps_of(2, 1, empty=1), degrees_of_freedom=np.full(2, 19.0), independent=False)
    maps.images[0, 0, 0], maps.images[0, 0, 1] = 123.0, 56.0
    found = statistics.findings(maps)
    assert found.z[0, 0, 0, 0] < 13
    figure = figures.significance({"decision": found}, ["a", "b"], "title")
    pictures: list[Any] = [image.get_array() for ax in figure.axes for image in ax.images]
    picture, *_ = (picture for picture in pictures if picture.shape[:2] == (6, 6))
    np.testing.assert_allclose(picture.reshape(6, 6), maps.images[0, ..., 0])
    assert texts(figure).count("standard errors") == 1
    assert texts(figure).count("deviations of noise") == 1


def test_what_is_outside_of_a_region_is_pale_and_the_tested_pixels_are_counted() -> None:
    maps, roi = maps_of(2, 1, empty=1), np.zeros((6, 6), bool)
    roi[1:4, 2:4] = True
    found = statistics.findings(maps, permutations=39, roi=roi)
    figure = figures.significance({"decision": found}, ["a", "b"], "title", roi)
    pictures: list[Any] = [image.get_array() for ax in figure.axes for image in ax.images]
    veils = [picture for picture in pictures if picture.shape == (6, 6, 4)]
    assert len(veils) == 2  # of the one map, and of the smoothed one
    for veil in veils:
        np.testing.assert_array_equal(veil[..., 3] > 0, ~roi)
    assert texts(figure).count("0 of 6") == 4
    assert "outside of the region that tests" in texts(figure).replace("\n", " ")


def test_convergence_is_drawn_for_every_class_that_has_maps_with_its_n0() -> None:
    n0 = np.ma.masked_array([100.0, 5e4, 1.0], [False, False, True])
    sizes = np.array([100, 1000, 10_000])
    r = np.ma.masked_invalid(1 / np.sqrt(1 + n0.filled(np.nan) / sizes[:, None]))
    curve = statistics.Convergence(sizes, r, r)
    figure = figures.convergence({"against": ("decision", curve)}, {"decision": n0}, ["a", "b", "c"], "title")
    figure.draw_without_rendering()
    legend = figure.axes[0].get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["a (N₀ 100)", "b (N₀ 50k)"]


def test_many_classes_are_told_apart_and_an_empty_panel_says_why() -> None:
    n0, sizes = np.ma.masked_all(30), np.array([100, 1000])
    full, empty = (statistics.Convergence(sizes, r, r) for r in (np.ma.ones((2, 30)), np.ma.masked_all((2, 30))))
    names = [f"class {k}" for k in range(30)]
    curves = {what: ("decision", curve) for what, curve in zip("abc", (full, empty, empty), strict=True)}
    figure = figures.convergence(curves, {"decision": n0}, names, "title")
    looks = [(line.get_color(), line.get_marker()) for line in figure.axes[0].lines if len(line.get_xdata()) == 2]  # type: ignore[arg-type]
    assert len(set(looks[:30])) == 30
    assert texts(figure).count("no class has maps to compare") == 2
    assert len({round(ax.get_position().y0, 3) for ax in figure.axes}) == 1  # side by side, without an empty quarter


def test_published_figures_stand_beside_the_curve_in_its_colour() -> None:
    share = np.array([0.1, 0.5, 0.9])
    curve = figures.Curve([0, 1, 2], share, Interval(share - 0.05, share + 0.05), [0.2, np.nan, 0.8])
    figure = figures.curves(
        {"left": {"ours": curve}, "right": {"ours": curve}}, "strength", "share", "title", level=0.1
    )
    figure.draw_without_rendering()
    for ax in figure.axes:
        ours, published = [line for line in ax.lines if np.size(line.get_xdata()) == 3]
        assert ours.get_color() == published.get_color()
        assert published.get_markerfacecolor() == "white"


def test_maps_of_a_row_share_their_scale_and_a_masked_one_is_empty() -> None:
    maps = [np.ma.masked_array(size * np.random.default_rng(0).normal(size=(6, 6, 1))) for size in (1, 20)]
    row = [figures.Panel(image, "map", True) for image in maps]
    rows = {
        "maps": [*row, figures.Panel(np.ma.masked_all((6, 6, 1)), "none")],
        "image": [figures.Panel(np.zeros((6, 6, 1)))],
    }
    figure = figures.panels(rows, "title", "note")
    figure.draw_without_rendering()
    ((low, high),) = {i.get_clim() for ax in figure.axes for i in ax.images if i.get_cmap().name == "RdBu_r"}
    assert low == -high < -20
    assert texts(figure).count("empty") == 1


@pytest.mark.parametrize("name", ["$^$", "a_b$c", "\\frac", "100%", "[x]"])
def test_the_name_of_a_class_is_text_and_never_markup(tmp_path: Path, name: str) -> None:
    names, images = ["plain", name], np.random.default_rng(0).random((2, 3, 6, 6, 1))
    share = Interval(np.array([0.1, 0.2]), np.array([0.3, 0.4]))
    drawn = {
        "gallery": figures.gallery(images, names, name, [names * 2, names * 2], names),
        "curves": figures.curves({name: {name: figures.Curve([1, 10], np.array([0.2, 0.3]), share)}}, name, name, name),
        "log": figures.curves({name: {name: figures.Curve([1, 10], np.ones(2))}}, name, name, name, x_scale="log"),
        "confusions": figures.confusions({name: np.eye(2, dtype=int)}, names, name),
        "panels": figures.panels({name: [figures.Panel(images[0, 0], name)]}, name, name),
    }
    for kind, figure in drawn.items():
        figures.save(figure, tmp_path / f"{kind}.png", dpi=40)
        assert name in {text.get_text() for text in figure.findobj(Text)}
    for form in ("pdf", "svg"):
        figures.save(drawn["log"], tmp_path / f"log.{form}")
