"""An analysis for people: pictures, the main facts in a few lines, numbers as JSON values, a table for notebooks.

matplotlib is imported when a picture is drawn, not before.
"""

import base64
import html as markup
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from wna_jax import templates
from wna_jax.maps import share_standard_error
from wna_jax.posterior import PosteriorMaps
from wna_jax.runs.errors import InputError, unknown_name
from wna_jax.runs.files import or_none

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from wna_jax.analysis.value import Analysis

MOST_NUMBERS = 2**19
"""In all maps of a response, of which posterior maps are made without being asked for."""
Kind = Literal["maps", "significance", "convergence", "shares"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def metrics(of: "Analysis") -> dict[str, Any]:
    """Counts, shares, reliability, N0, significant pixels, infoVal and feed-back as JSON values, by response."""
    found = {name: of.findings(name) for name in of.first}
    some = next(iter(of.moments.values()))
    values: dict[str, Any] = {"num_samples": some.num_samples, "classes": list(of.class_names)}
    if decision := of.moments.get("decision"):
        values |= {
            "counts": decision.count.tolist(),
            "empty_classes": np.flatnonzero(decision.count == 0).tolist(),
            "share_standard_errors": or_none(share_standard_error(decision)),
        }
    return values | {
        "mean_weights": {name: (m.weight_sum / m.num_samples).tolist() for name, m in of.moments.items()},
        "feedback": {name: templates.as_json(answers, of.classes) for name, answers in of.feedback.items()},
        "sampling": "independent" if some.field_sums is None else "field",
        "reliability": {name: or_none(half.reliability) for name, half in of.reliability.items()},
        "n0": {name: or_none(half.n0) for name, half in of.reliability.items()},
        "significant_pixels": {
            name: {
                test: None if inside is None else inside.sum(axis=(1, 2, 3)).tolist()
                for test, inside in findings.significant.items()
            }
            for name, findings in found.items()
        },
        "info_val": {
            name: None if findings.info_val is None else or_none(findings.info_val) for name, findings in found.items()
        },
        "smoothness_prior": {name: _of_prior(own) for name, own in posteriors(of, of.first).items()},
    }


def posteriors(of: "Analysis", names: Iterable[str]) -> dict[str, PosteriorMaps]:
    """Those that there are, of as many classes and pixels as take seconds; of others ask `Analysis.posterior`."""
    from wna_jax import figures

    few = len(of.classes) <= figures.MOST_CLASSES and len(of.classes) * math.prod(of.noise.shape) <= MOST_NUMBERS
    return {name: own for name in names if few and (own := of.posterior(name))}


def _of_prior(own: PosteriorMaps) -> dict[str, Any]:
    lengths = [None if prior is None or prior.length is None else prior.length.value.tolist() for prior in own.priors]
    return {
        "prior": [prior and prior.kind for prior in own.priors],
        "length": lengths,
        "expected_correlation": or_none(own.expected_correlation),
        "expected_correlation_of_plain_map": or_none(own.plain_correlation),
        "samples_gained": or_none(own.gain),
        "p_value": or_none(own.p_value),
    }


def summary(of: "Analysis") -> Iterator[str]:
    """The main facts, a line each: what was drawn, what it was called, how many maps there are, and how reliable."""
    from wna_jax import figures

    some = next(iter(of.moments.values()))
    total, names = some.num_samples, of.class_names
    yield f"noise images    {total:,} ({'independent' if some.field_sums is None else 'field'})"
    if of.right:
        asked, right = of.right
        yield f"data images     {right / asked:.1%} of {asked:,} validation images are called right"
    if decision := of.moments.get("decision"):
        most, share = int(decision.count.argmax()), figures.percent(decision.count.max() / total)
        of_some, others = len(names) < len(of.all_class_names), 1 - decision.count.sum() / total
        rest = ", of these classes" * of_some
        if of_some and others >= 0:  # an image may have several labels
            rest += f"; {figures.percent(others)} went to others"
        yield f"called most     {f'{names[most]} ({share})' if decision.count.any() else 'none'}{rest}"
        empty = ", ".join(name for name, count in zip(names, decision.count, strict=True) if count == 0)
        yield f"never called    {empty or 'none'}{' of these classes' * of_some}"
    for name, maps in of.maps.items():
        given = int((maps.images.count(axis=(1, 2, 3)) > 0).sum())
        bare = given - int((maps.in_standard_errors.count(axis=(1, 2, 3)) > 0).sum())
        few = f" ({bare} of too few samples for an error)" * (bare > 0)
        called = ""
        if name in of.feedback:
            called = f"; {templates.called_right(of.feedback[name], of.classes)[0]} are called by their own class"
        yield f"{name + ' maps':15s} {given} of {len(names)} classes{few}{called}"
    for name, half in of.reliability.items():
        good = int((half.reliability.filled(0) >= figures.RELIABLE).sum())
        yield f"reliable maps   {good} of {len(names)} {name} maps (split half >= {figures.RELIABLE})"
    if not of.feedback and not {"value", "choice"} & set(of.first):
        yield "feed-back       not known (a sum of runs has none): found.with_feedback(network) asks the network"


def chosen(of: "Analysis", response: str, most: int | None = None) -> tuple[dict[int, int], str]:
    """`Analysis.chosen`, or at most so many."""
    from wna_jax import figures

    most = figures.MOST_CLASSES if most is None else most
    if len(of.classes) <= most:
        return dict(enumerate(of.classes)), ""
    known, counts = of.reliability[response].reliability.filled(-1), of.moments[response].weight_sum
    if "decision" in of.moments:
        counts = of.moments["decision"].count
    rows = np.sort(np.lexsort((-counts, -known))[:most])
    text = f"; the {len(rows)} of {len(of.classes)} classes with the most reliable {response} maps"
    return {int(row): of.classes[row] for row in rows}, text


def shown_noise(of: "Analysis") -> str:
    """How many samples of which noise were shown."""
    some = next(iter(of.moments.values()))
    shape = "images" if some.field_sums is None else "overlapping windows"
    return f"{some.num_samples:,} {shape} of {of.noise.name} noise"


def figure(of: "Analysis", kind: Kind, responses: Sequence[str] | None) -> "Figure":
    """`Analysis.figure`."""
    from wna_jax import figures

    if kind not in KINDS:
        raise unknown_name("kind of figure", kind, KINDS)
    names = tuple(of.first) if responses is None else tuple(responses)
    for name in names:
        if name not in of.first:
            raise unknown_name("response of this analysis", name, tuple(of.first))
    few, how = chosen(of, names[0])
    some = of.moments[names[0]]
    dose = f"{shown_noise(of)}{how}"
    all_names = of.all_class_names
    if kind == "maps":
        inside = {name: of.findings(name).significant["pixels"] for name in names}
        return figures.classification_images(
            {name: of.maps[name] for name in names},
            of.feedback,
            of.reliability,
            {name: pixels for name, pixels in inside.items() if pixels is not None},
            all_names,
            of.class_means,
            f"Classification images of {of.name}: {dose}",
            of.roi,
            few,
            posteriors(of, names),
        )
    if kind == "significance":
        title = f"Significance in the maps of {of.name}: {dose}"
        return figures.significance({name: of.findings(name) for name in names}, all_names, title, of.roi, few)
    if kind == "convergence":
        curves = {title: curve for title, curve in of.convergence.items() if curve[0] in names}
        if not curves:
            way_out = "analyse(..., convergence=True), of one batch of samples (batch_size=) or more"
            raise InputError(f"no sums were kept on the way: {way_out}")
        n0 = {name: of.reliability[name].n0 for name in names}
        return figures.convergence(curves, n0, all_names, f"Convergence of the maps of {of.name}: {dose}", few)
    if "decision" not in of.moments:
        raise InputError(f"no decisions were counted, only {', '.join(of.first)}")
    rows, decision, graded = list(few), of.moments["decision"], of.moments.get("probability")
    p = None if graded is None else graded.weight_sum[rows] / graded.num_samples
    own, errors = [all_names[k] for k in few.values()], share_standard_error(decision)[rows]
    title, whole = f"What {of.name} answers to {dose}", (some.num_samples, len(all_names))
    return figures.shares(decision.count[rows], errors, p, own, title, whole)


def png(picture: "Figure", dpi: int = 150) -> bytes:
    """A picture as the contents of a PNG file."""
    from wna_jax import figures

    file = io.BytesIO()
    figures.save(picture, file, dpi=dpi, format="png")
    return file.getvalue()


def html(of: "Analysis") -> str:
    """A table by class (count, reliability, significant pixels, what the network calls the map), and the picture."""
    few, how = chosen(of, next(iter(of.first)))
    decision, total = of.moments.get("decision"), next(iter(of.moments.values())).num_samples
    heads = ["class", *["samples"] * (decision is not None)]
    heads += [f"{name}: {what}" for name in of.first for what in ("reliability", "significant pixels", "called")]
    found = {name: of.findings(name).significant["pixels"] for name in of.first}
    rows = []
    for row, k in few.items():
        cells = [of.all_class_names[k], *([] if decision is None else [f"{decision.count[row]:,}"])]
        for name, inside in found.items():
            known, answers = of.reliability[name].reliability[row], of.feedback.get(name)
            answer = None if answers is None else answers[row]
            has_map = of.maps[name].images[row].count() > 0
            cells.append("unknown" if known is np.ma.masked else f"{known:.2f}")
            cells.append(f"{inside[row].sum()} of {inside[row].size}" if has_map and inside is not None else "no map")
            cells.append("" if answer is None else answer.caption(k, of.all_class_names))
        rows.append(cells)
    lines = [f"<b>{markup.escape(f'{of.name}: {total:,} samples of {of.noise.name} noise{how}')}</b>", "<table>"]
    for tag, texts in (("th", heads), *(("td", cells) for cells in rows)):
        lines.append(f"<tr>{''.join(f'<{tag}>{markup.escape(text)}</{tag}>' for text in texts)}</tr>")
    picture = base64.b64encode(png(of.figure(), dpi=100)).decode()
    return "\n".join([*lines, "</table>", f'<img alt="classification images" src="data:image/png;base64,{picture}">'])
