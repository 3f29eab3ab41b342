"""`report.html`: a run on one page, in one file that needs no network; maps answer to the pointer.

The page holds what it shows: figures as PNG or SVG, maps as float32. What makes it larger than `LARGEST` stays beside
it: a figure is then shown from its own file, and maps are left out from the least reliable one on.
"""

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import numpy as np

from wna_jax.analysis import shown
from wna_jax.posterior import PosteriorMaps
from wna_jax.runs import files

if TYPE_CHECKING:
    from wna_jax.analysis.value import Analysis

FILE = "report.html"
LARGEST = 5_000_000
"""Bytes that a page is kept below."""
_FOR_MAPS, _FOR_TABLES = 2_500_000, 500_000
_MOST_ROWS = 100
_TYPES = {".png": "png", ".svg": "svg+xml"}
_NO_MARKUP = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})  # no text ends the script that it is in
_TOO_LARGE = "Maps of so many pixels are too large for this page: wna_jax.load reads them from maps.npz."
_READING = {
    "plain": "Significant: p < .05 over all pixels of all maps of the response.",
    "prior": "The most probable map if maps are as smooth and local as these data say. Colours and the threshold are "
    "in standard errors of the plain map. Do not test these maps pixel by pixel: test the plain ones.",
}
_MEANING = {
    "counts": "samples that were called each class",
    "share_standard_errors": "standard errors of the shares of the samples",
    "mean_weights": "means of the responses over all samples, for decisions the shares",
    "feedback": "what the network calls each map, how surely, and whether that is its class",
    "reliability": "of the maps, split half: the correlation to be expected with the map of as many other samples",
    "n0": "samples that make the reliability one half",
    "significant_pixels": "how many pixels each test finds, over all maps of a response together",
    "info_val": "length of the whole map beside maps of mere noise, about N(0, 1) for mere noise",
    "smoothness_prior": "what was found of maps as smooth and local ones; samples_gained: how many times the samples a "
    "plain map needs; p_value: of no structure at all, 0 for less than 1e-300",
    "training": "the course of the training, epoch by epoch",
}
_TEMPLATE = Path(__file__).with_name(FILE)


class Picture(NamedTuple):
    """A figure in the folder of the page: its files in all formats, and what it shows, in words."""

    paths: Sequence[Path]
    text: str


def write(
    folder: Path,
    title: str,
    *,
    summary: Sequence[str] = (),
    command: str = "",
    settings: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    pictures: Sequence[Picture] = (),
    analysis: "Analysis | None" = None,
) -> None:
    """Writes `report.html` to a folder, whole or not at all.

    Args:
        folder: that of the run, with the pictures.
        title: the heading, such as the question of an experiment.
        summary: lines of text.
        command: the command that makes the run again.
        settings: by name.
        metrics: JSON values of any depth; what is no single number becomes a table that can be unfolded. The rows of
            lists as long as that of "classes" have these names.
        pictures: the figures, in their order.
        analysis: whose maps are shown pixel by pixel; None if there are no maps.

    Raises:
        OSError: it cannot be written, or a picture cannot be read.
    """
    data = analysis and _data(analysis)
    about = [f'<p class="name">{_text(analysis.name)}</p>'] if analysis else []
    about += [f"<p>{_TOO_LARGE}</p>"] if analysis and not data else []
    beside = sorted(path.name for path in folder.iterdir() if path.name[0] != "." and path.name != FILE)
    parts = {
        "title": _text(title),
        "about": "\n".join(about),
        "summary": f"<pre>{_text(chr(10).join(summary))}</pre>" if summary else "",
        "data": json.dumps(data, allow_nan=False).translate(_NO_MARKUP),
        "metrics": _section("Numbers", _metrics(metrics or {})),
        "command": _section("Command", f'<pre class="command">{_text(command)}</pre>' if command else ""),
        "settings": _section("Settings", f'<div class="words">{_rows(settings)}</div>' if settings else ""),
        "footer": f"Beside this page: {_text(', '.join(beside))}." if beside else "",
    }
    room = LARGEST - sum(len(part) for part in parts.values()) - _TEMPLATE.stat().st_size
    parts["pictures"] = _section("Figures", _figures(pictures, room))
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _TEMPLATE.read_text(encoding="utf-8"))
    with files.replacing(folder / FILE) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def _section(heading: str, content: str) -> str:
    return f"<section>\n<h2>{heading}</h2>\n{content}\n</section>" if content else ""


def _figures(pictures: Sequence[Picture], room: int) -> str:
    """Each in the page while there is room, else from its own file; PDF, which no page shows, is a link."""
    written = []
    for paths, text in pictures:
        by_kind = {path.suffix: path for path in paths}
        path = by_kind.get(".png") or by_kind.get(".svg") or paths[0]
        name, source = _text(path.name), quote(path.name)
        if path.suffix not in _TYPES:
            written.append(f'<p><a href="{source}">{name}</a>: {_text(text)}</p>')
            continue
        if (size := path.stat().st_size * 4 // 3) < room:
            room -= size
            source = f"data:image/{_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
        box = '<label><input type="checkbox"> full size</label>'
        picture = f'<div tabindex="0"><img alt="{_text(text or path.stem)}" src="{source}"></div>'
        written.append(f'<figure class="wide"><figcaption>{name} {box}</figcaption>{picture}</figure>')
    return "\n".join(written)


def _metrics(metrics: Mapping[str, Any]) -> str:
    """Single numbers in one table, and a table to be unfolded for each of the others, while there is room."""
    classes, room = metrics.get("classes"), _FOR_TABLES
    names = classes if isinstance(classes, list | tuple) else ()
    written = [_rows({name: value for name, value in metrics.items() if not _is_nested(value)})]
    for name, value in metrics.items():
        if not _is_nested(value) or not len(value):
            continue
        table = f"<p>{_text(', '.join(map(str, names)))}</p>" if value is names else _table(value, names)
        if len(table) > room:
            table = "<p>Too long for this page: it is in the file of numbers beside it.</p>"
        room -= len(table)
        written.append(_folded(f"{name}: {_MEANING[name]}" if name in _MEANING else name, table))
    return "\n".join(written)


def _table(value: Any, names: Sequence[Any]) -> str:
    """What is in a list or dict, row by row; lists or dicts that are alike are rows, or columns, of one table."""
    items = _by_name(value, names)
    inner = {name: _by_name(each, names) for name, each in items.items() if _is_nested(each)}
    single = {name: each for name, each in items.items() if name not in inner}
    heads = {tuple(each) for each in inner.values()}
    if len(heads) == 1 and not any(_is_nested(cell) for each in inner.values() for cell in each.values()):
        (columns,) = heads
        if all(each is None for each in single.values()):
            cells = [[inner.get(row, {}).get(column) for column in columns] for row in items]
            if len(columns) > len(items):
                return _grid(list(items), columns, [*zip(*cells, strict=True)])
            return _grid(columns, list(items), cells)
    return _rows(single) + "".join(_folded(name, _table(items[name], names)) for name in list(inner)[:_MOST_ROWS])


def _by_name(value: Any, names: Sequence[Any]) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    return dict(enumerate(value)) if len(value) != len(set(names)) else dict(zip(names, value, strict=True))


def _is_nested(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple)


def _folded(name: Any, content: str) -> str:
    return f"<details><summary>{_text(name)}</summary>{content}</details>"


def _rows(values: Mapping[Any, Any]) -> str:
    return _grid((), list(values), [[value] for value in values.values()]) if values else ""


def _grid(columns: Sequence[Any], rows: Sequence[Any], cells: Sequence[Sequence[Any]]) -> str:
    few, wide = rows[:_MOST_ROWS], columns[:_MOST_ROWS]
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in wide)
    lines = [f"<tr><td></td>{head}</tr>"] if columns else []
    for name, own in zip(few, cells, strict=False):
        texts = "".join(f"<td>{_text(cell)}</td>" for cell in own[:_MOST_ROWS])
        lines.append(f'<tr><th scope="row">{_text(name)}</th>{texts}</tr>')
    left = len(rows) - len(few), len(columns) - len(wide)
    more = f"<p>{left[0]:,} more rows and {left[1]:,} more columns are in the file of numbers.</p>" * any(left)
    return f'<div class="scroll" tabindex="0"><table>{"".join(lines)}</table></div>{more}'


def _text(value: Any) -> str:
    """A name or a value, in five digits; nothing in it is markup."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, int):
        return f"{value:,}"
    if _is_nested(value):
        value = ",".join(map(str, value))
    return html.escape(str(value))


def _data(of: "Analysis") -> dict[str, Any] | None:
    """What the page's script draws, with what is said of it: maps, errors and posterior maps as float32.

    None where the maps are too large.
    """
    from matplotlib import colormaps

    from wna_jax import figures
    from wna_jax.figures import captions
    from wna_jax.figures.parts import DIVERGING

    posteriors, (height, width, channels) = shown.posteriors(of, of.first), of.noise.shape
    arrays = sum(2 + (maps.degrees_of_freedom is not None) + 2 * (name in posteriors) for name, maps in of.maps.items())
    room = _FOR_MAPS // (height * width * channels * (4 * arrays + len(of.first)) * 4 // 3)
    few, how = shown.chosen(of, next(iter(of.first)), min(room, figures.MOST_CLASSES))
    if not few:
        return None
    rows, colours = list(few), colormaps[DIVERGING](np.arange(256), bytes=True)[:, :3]
    found: dict[str, Any] = {
        "height": height,
        "width": width,
        "channels": channels,
        "channel_names": ["red", "green", "blue"] if channels == 3 else [f"channel {c}" for c in range(channels)],
        "names": [of.all_class_names[k] for k in few.values()],
        "dose": f"{shown.shown_noise(of)}{how}.",
        "reading": _READING,
        "colours": _encoded(colours),
        "outside": None if of.roi is None else _encoded(np.logical_not(of.roi).reshape(height, width, -1).all(axis=-1)),
        "responses": [],
    }
    for name, maps in of.maps.items():
        strength, inside, posterior = (
            maps.in_standard_errors,
            of.findings(name).significant["pixels"],
            posteriors.get(name),
        )
        own: dict[str, Any] = {
            "name": name,
            "missing": [None if strength[k].count() else captions.why_empty(maps, k).replace("\n", " ") for k in rows],
            "plain": {
                "value": _numbers(maps.images[rows]),
                "error": _numbers(maps.standard_error[rows]),
                "z": None if maps.degrees_of_freedom is None else _numbers(of.z[name][rows]),
                "significant": None if inside is None else _encoded(inside[rows]),
                "limit": figures.limit_of(strength[rows]),
                "notes": [_said(of, name, row) for row in rows],
            },
            "prior": posterior
            and {
                "value": _numbers(posterior.images[rows]),
                "error": _numbers(posterior.standard_deviation[rows]),
                "limit": figures.limit_of((posterior.images / maps.standard_error)[rows]),
                "notes": [_said_of_prior(posterior, row) for row in rows],
            },
        }
        found["responses"].append(own)
    return found


def _said(of: "Analysis", name: str, row: int) -> list[str]:
    """What is said below a map: its samples, reliability, significant pixels, and what the network calls it."""
    from wna_jax.figures import captions

    maps, inside = of.maps[name], of.findings(name).significant["pixels"]
    lines = [
        f"{captions.amount(name, maps, row)} of the samples"
        if name == "decision"
        else f"mean weight {maps.share[row]:.2g}"
    ]
    if not maps.images[row].count():
        return lines
    said, good = captions.reliability_said(of.reliability[name], row)
    lines.append(f"{said} (split half)" if good or "," not in said else f"{said} samples (split half)")
    if inside is not None:
        lines.append(f"{inside[row].sum():,} of {inside[row].size:,} pixels significant")
    if answer := (of.feedback.get(name) or {row: None})[row]:
        called, own = of.all_class_names[answer.predicted], answer.predicted == of.classes[row]
        lines.append(
            f"the network calls this map {called} ({answer.confidence:.2f})" + ", not its own class" * (not own)
        )
    return lines


def _said_of_prior(posterior: PosteriorMaps, row: int) -> list[str]:
    prior = posterior.priors[row]
    if prior is None:
        return []
    if posterior.p_value[row] >= 0.05:
        return [f"no structure in this map (p {posterior.p_value[row]:.2f})"]
    lines = [
        f"prior: {prior.kind}",
        f"expected correlation with the map of infinitely many samples {posterior.expected_correlation[row]:.2f}",
    ]
    if (gain := posterior.gain[row]) >= 1.05:
        lines.append(f"a plain map needs {gain:.{0 if gain >= 10 else 1}f} times as many samples for that")
    return lines


def _numbers(values: np.ma.MaskedArray) -> str:
    return _encoded(np.ma.filled(values, np.nan).astype("<f4"))


def _encoded(array: Any) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
