"""What `maps.npz` holds: all fields of an `Analysis` as arrays by name, without any Python objects."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.tree_util import Partial

from wna_jax import noise as noises
from wna_jax.correlation.fields import Overlap
from wna_jax.correlation.moments import FieldSums, Moments
from wna_jax.correlation.origin import Origin
from wna_jax.maps import named
from wna_jax.noise import Noise
from wna_jax.runs.errors import InputError, damage_said
from wna_jax.runs.fingerprints import fingerprint
from wna_jax.statistics import Convergence
from wna_jax.templates import Feedback

if TYPE_CHECKING:
    from wna_jax.analysis.value import Analysis

FILE = "maps.npz"
_FORMAT = 1
_HALVES = ("first", "second")
_ANEW = "run it again, with an --out_dir of its own"


def arrays_of(analysis: "Analysis") -> dict[str, np.ndarray]:
    """All of an analysis as arrays by name.

    "analysis" is what is no array, as JSON; "first_decision_sum" that field of the first half's moments;
    "decision_map_3" and "decision_standard_error_3" are for those who read the file with NumPy alone, of each class
    that has a map.
    """
    noise, overlaps = analysis.noise, {name: of for name, of in analysis.overlaps.items() if of}
    about = {
        "format": _FORMAT,
        "name": analysis.name,
        "class_names": list(analysis.class_names),
        "classes": list(analysis.classes),
        "all_class_names": list(analysis.all_class_names),
        "responses": list(analysis.first),
        "noise": {name: getattr(noise, name) for name in ("name", "shape", "white", "gaussian")},
        "noise_fingerprint": fingerprint(noise),
        "origins": [
            [of.origin and asdict(of.origin) for of in half.values()] for half in (analysis.first, analysis.second)
        ],
        "strides": {name: overlap.stride for name, overlap in overlaps.items()},
        "feedback": {name: list(answers) for name, answers in analysis.feedback.items()},
        "convergence": [[title, response] for title, (response, _) in analysis.convergence.items()],
        "tests": dict(analysis.tests),
        "right": analysis.right,
        "settings": dict(analysis.settings),
    }
    arrays: dict[str, Any] = {"analysis": json.dumps(about)}
    arrays |= {"noise_mean": noise.mean, "noise_deviation": noise.deviation}
    for half, by_name in zip(_HALVES, (analysis.first, analysis.second), strict=True):
        for name, moments in by_name.items():
            arrays |= _arrays_of(moments, f"{half}_", f"{half}_{name}_")
    for name, overlap in overlaps.items():
        arrays[f"{name}_overlap"] = overlap.correlation
    for name in ("roi", "class_means"):
        arrays |= {} if getattr(analysis, name) is None else {name: getattr(analysis, name)}
    for i, (_, curve) in enumerate(analysis.convergence.values()):
        for part, values in curve._asdict().items():
            arrays[f"convergence_{i}_{part}"] = np.ma.filled(values, np.nan) if np.ma.isMA(values) else values
    for name, maps in analysis.maps.items():
        arrays |= {f"{name}_count": maps.count} | named(f"{name}_map", maps.images)
        errors = np.ma.masked_array(maps.standard_error.filled(np.inf))
        errors[maps.standard_error.count(axis=(1, 2, 3)) == 0] = np.ma.masked
        arrays |= named(f"{name}_standard_error", errors)
    return {name: np.asarray(array) for name, array in arrays.items()}


def read(path: str | Path) -> dict[str, Any]:
    """The fields of the analysis in a file, or in the file of a folder; `load` says which errors are raised."""
    file = Path(path).expanduser()
    file = file / FILE if file.is_dir() else file
    if not file.is_file():
        raise InputError(f"{file} is not there: give the output folder of a finished run of experiments.noise_maps")
    with damage_said(str(file), _ANEW), file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    if "analysis" not in arrays:
        raise InputError(f"{file} does not say what it is of (an earlier version, or another experiment): {_ANEW}")
    with damage_said(str(file), _ANEW):
        about = json.loads(str(arrays["analysis"]))
        known = about["format"]
    if known != _FORMAT:
        raise InputError(f"{file} has format {known}, which this version of wna_jax does not read: take a newer one")
    with damage_said(str(file), _ANEW):
        return _fields(about, arrays)


def is_unknown(noise: Noise) -> bool:
    """Whether a noise comes from a file that does not keep how it is drawn."""
    return getattr(noise.sample, "func", None) is _sample_unknown


def _fields(about: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    halves: list[dict[str, Moments]] = []
    for half, origins in zip(_HALVES, about["origins"], strict=True):
        by_name = dict[str, Moments]()
        for name, origin in zip(about["responses"], origins, strict=True):
            moments = _moments_from(arrays, f"{half}_", f"{half}_{name}_")
            by_name[name] = replace(moments, origin=origin and Origin.from_json(origin))
        halves.append(by_name)
    noise = _noise_from(about["noise"], arrays["noise_mean"], arrays["noise_deviation"], about["noise_fingerprint"])
    strides, (first, second) = about["strides"], halves
    overlaps = {
        name: Overlap(tuple(strides[name]), arrays[f"{name}_overlap"]) if name in strides else None for name in first
    }
    found = {"first": first, "second": second, "noise": noise, "overlaps": overlaps, "settings": about["settings"]}
    found |= {"class_names": tuple(about["class_names"])}
    if "name" in about:  # else it is of version 0.2
        found |= {name: about[name] for name in ("name", "tests")}
        found |= {name: tuple(about[name]) for name in ("classes", "all_class_names")}
        found |= {name: arrays.get(name) for name in ("roi", "class_means")}
        found["right"] = tuple(about["right"]) if about.get("right") else None
        found["feedback"] = {
            name: [answer and Feedback(*answer) for answer in answers] for name, answers in about["feedback"].items()
        }
        found["convergence"] = {
            title: (name, _curve_from(arrays, i)) for i, (title, name) in enumerate(about["convergence"])
        }
    return found


def _curve_from(arrays: Mapping[str, np.ndarray], number: int) -> Convergence:
    count, *masked = (arrays[f"convergence_{number}_{part}"] for part in Convergence._fields)
    return Convergence(count, *map(np.ma.masked_invalid, masked))


def _arrays_of(moments: Moments, of_half: str, of_response: str) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for sums, part in ((moments, ""), (moments.field_sums, "field_")):
        if sums is not None:
            names = _names_in_file(type(sums), of_half, of_response, part)
            arrays |= {key: getattr(sums, name) for name, key in names.items()}
    return arrays


def _moments_from(arrays: Mapping[str, np.ndarray], of_half: str, of_response: str) -> Moments:
    of_fields = _names_in_file(FieldSums, of_half, of_response, "field_")
    field_sums = None
    if of_fields["aa"] in arrays:
        field_sums = FieldSums(**{name: arrays[key] for name, key in of_fields.items()})
    found: dict[str, Any] = {
        name: arrays[key] for name, key in _names_in_file(Moments, of_half, of_response, "").items()
    }
    found |= {name: int(found[name]) for name in ("num_samples", "num_draws")}
    return Moments(**found, field_sums=field_sums)


def _names_in_file(kind: type[Moments | FieldSums], of_half: str, of_response: str, part: str) -> dict[str, str]:
    names = [each.name for each in fields(kind) if each.name not in ("field_sums", "origin")]
    return {name: f"{of_half if name in kind.SHARED else of_response}{part}{name}" for name in names}


def _noise_from(about: Mapping[str, Any], mean: np.ndarray, deviation: np.ndarray, made_of: str) -> Noise:
    """The noise itself, where there is one that is made of the same; else what is known of it."""
    name, shape, kind = about["name"], tuple(about["shape"]), {of: about[of] for of in ("white", "gaussian")}
    noise = noises.recreate(name, shape, mean, deviation)
    if noise and fingerprint(noise) == made_of:
        return noise
    return Noise(name, shape, mean, deviation, Partial(_sample_unknown, name), **kind)


def _sample_unknown(name: str, key: Any) -> Any:
    raise InputError(f"a file of results does not keep how {name} noise is drawn: make the noise anew")
