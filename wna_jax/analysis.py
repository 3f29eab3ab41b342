"""What a run found, as one value: halves of its samples with maps, errors and tests; saved, read again, added up."""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from jax.tree_util import Partial

from wna_jax import noise as noises
from wna_jax import statistics
from wna_jax.correlation.fields import Overlap
from wna_jax.correlation.moments import FieldSums, Moments
from wna_jax.correlation.origin import Origin
from wna_jax.maps import ClassificationImages, classification_images, named, regression_images
from wna_jax.noise import Noise
from wna_jax.runs.errors import InputError, damage_said
from wna_jax.runs.files import write_arrays
from wna_jax.runs.fingerprints import fingerprint

FILE = "maps.npz"
_FORMAT = 1
_HALVES = ("first", "second")
_ANEW = "run it again, with an --out_dir of its own"
_ALIKE = "they can differ in seed, network and number of samples alone"


@dataclass(frozen=True, eq=False)
class Analysis:
    """What the samples of one or more runs say of K classes. What is not a field is computed when it is asked for.

    By the response's name, such as "decision": the moments of the two halves of the samples, and how the errors of
    maps' pixels depend on each other where the samples are windows of fields. `settings` are those of the experiment
    (JSON values). Two analyses of the same noise and network, of different seeds, add up.
    """

    first: Mapping[str, Moments]
    second: Mapping[str, Moments]
    noise: Noise
    class_names: Sequence[str]
    overlaps: Mapping[str, Overlap | None] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """A line per response."""
        return "\n".join(["<Analysis", *(f"  {name}: {moments}" for name, moments in self.moments.items())]) + ">"

    @functools.cached_property
    def moments(self) -> dict[str, Moments]:
        """Of all samples."""
        return {name: self.first[name] + self.second[name] for name in self.first}

    @functools.cached_property
    def maps(self) -> dict[str, ClassificationImages]:
        """The maps, with their errors and masks: regression maps of logits, else classification images."""
        found = {}
        for name, moments in self.moments.items():
            found[name] = (regression_images if name == "logit" else classification_images)(moments, self.noise)
            if _is_unknown(self.noise):  # tests that need draws of it cannot be made
                found[name] = replace(found[name], noise=None)
        return found

    @functools.cached_property
    def z(self) -> dict[str, np.ma.MaskedArray]:
        """The maps as normal numbers, `statistics.z_map`."""
        return {name: statistics.z_map(maps) for name, maps in self.maps.items()}

    @functools.cached_property
    def reliability(self) -> dict[str, statistics.SplitHalf]:
        """Of the maps, from the two halves."""
        return {name: statistics.split_half(self.first[name], self.second[name], self.noise) for name in self.first}

    @property
    def origins(self) -> dict[str, Origin | None]:
        """Which noise, response and samples the moments are of."""
        return {name: moments.origin for name, moments in self.moments.items()}

    def findings(self, response: str, **options: Any) -> statistics.Findings:
        """All tests of the maps of one response; `options` are those of `statistics.findings`."""
        return statistics.findings(self.maps[response], overlap=self.overlaps.get(response), **options)

    def __add__(self, other: "Analysis") -> "Analysis":
        """Of the samples of both, with the settings that both have.

        Raises:
            InputError: other classes, responses, noise or network, or samples that both have.
        """
        self.check_alike(other)
        if set(self.first) != set(other.first):
            mine, theirs = (", ".join(each.first) for each in (self, other))
            raise InputError(f"one run has the responses {mine}, the other {theirs}: they do not add up")
        first, second = (
            {name: mine[name] + theirs[name] for name in mine}
            for mine, theirs in ((self.first, other.first), (self.second, other.second))
        )
        settings = {name: value for name, value in self.settings.items() if other.settings.get(name) == value}
        return replace(self, first=first, second=second, settings=settings)

    def check_alike(self, other: "Analysis") -> None:
        """Raises an InputError if two analyses are not of the same classes, and of the same noise."""
        for what, of in (
            ("the classes {}", lambda each: ",".join(each.class_names)),
            ("images of {} pixels", lambda each: "x".join(map(str, each.noise.shape))),
            ("{} noise", lambda each: each.noise.name),
        ):
            mine, theirs = of(self), of(other)
            if mine != theirs:
                raise InputError(f"one run has {what.format(mine)}, the other {what.format(theirs)}: {_ALIKE}")
        for what in ("mean", "deviation"):
            values = [np.float32(getattr(each.noise, what)) for each in (self, other)]
            if not np.array_equal(values[0], values[1]):
                raise InputError(f"the noises of the two runs differ in the {what} of a pixel or channel: {_ALIKE}")

    def contrast(
        self, other: "Analysis", response: str, **options: Any
    ) -> tuple[statistics.Contrast, statistics.Findings]:
        """The difference of the maps of one response, this one's minus the other's, and all tests of it.

        Raises:
            InputError: other classes or noise, a response that one of them has not, or samples that both have.
        """
        self.check_alike(other)
        for each in (self, other):
            if response not in each.first:
                raise InputError(f"one run has no {response} maps: it has {', '.join(each.first)}")
        found = statistics.contrast(self.maps[response], other.maps[response])
        overlap = _overlap_of_difference(
            *((each.maps[response], each.overlaps.get(response)) for each in (self, other))
        )
        return found, statistics.findings(found, overlap=overlap, **options)

    def save(self, path: Path) -> None:
        """Writes all of it to an .npz file, whole or not at all; `load` reads it."""
        write_arrays(Path(path), **self.arrays())

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays by name, without any Python objects.

        "analysis" is what is no array, as JSON; "first_decision_sum" that field of the first half's moments;
        "decision_map_3" and "decision_standard_error_3" are for those who read the file with NumPy alone, of each class
        that has a map.
        """
        about = {
            "format": _FORMAT,
            "class_names": list(self.class_names),
            "responses": list(self.first),
            "noise": {name: getattr(self.noise, name) for name in ("name", "shape", "white", "gaussian")},
            "noise_fingerprint": fingerprint(self.noise),
            "origins": [
                [of.origin and asdict(of.origin) for of in half.values()] for half in (self.first, self.second)
            ],
            "strides": {name: overlap.stride for name, overlap in self.overlaps.items() if overlap},
            "settings": dict(self.settings),
        }
        arrays: dict[str, Any] = {"analysis": json.dumps(about)}
        arrays |= {"noise_mean": self.noise.mean, "noise_deviation": self.noise.deviation}
        for half, by_name in zip(_HALVES, (self.first, self.second), strict=True):
            for name, moments in by_name.items():
                arrays |= _arrays_of(moments, f"{half}_", f"{half}_{name}_")
        for name, overlap in self.overlaps.items():
            arrays |= {f"{name}_overlap": overlap.correlation} if overlap else {}
        for name, maps in self.maps.items():
            arrays |= {f"{name}_count": maps.count} | named(f"{name}_map", maps.images)
            errors = np.ma.masked_array(maps.standard_error.filled(np.inf))
            errors[maps.standard_error.count(axis=(1, 2, 3)) == 0] = np.ma.masked
            arrays |= named(f"{name}_standard_error", errors)
        return {name: np.asarray(array) for name, array in arrays.items()}


def load(path: str | Path) -> Analysis:
    """What a finished run found: its folder, or the `maps.npz` in it.

    The noise can be drawn from where it is one of this package that needs no data. Of any other one mean and deviation
    are known; if it is not white, its maps are then tested for single pixels alone.

    Raises:
        InputError: no such file, one of another kind or of an earlier version, or a damaged one.
    """
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
        return _read(about, arrays)


def _read(about: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Analysis:
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
    return Analysis(first, second, noise, tuple(about["class_names"]), overlaps, about["settings"])


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


def _is_unknown(noise: Noise) -> bool:
    return getattr(noise.sample, "func", None) is _sample_unknown


def _overlap_of_difference(*of: tuple[ClassificationImages, Overlap | None]) -> Overlap | None:
    """How the errors of a difference depend on each other: as those of both sets of maps, by their variances."""
    known = [overlap for _, overlap in of if overlap]
    if len({(overlap.stride, overlap.correlation.shape) for overlap in known}) != 1:
        return None  # independent pixels, or two kinds of windows, of which nothing is known
    stride, some = known[0]
    alone = np.zeros_like(some)
    alone[:, some.shape[1] // 2, some.shape[2] // 2] = 1
    weights = np.stack([np.ma.filled((maps.standard_error**2).mean(axis=(1, 2, 3)), 1.0) for maps, _ in of])
    correlations = np.stack([overlap.correlation if overlap else alone for _, overlap in of])
    blended = (weights[..., None, None] * correlations).sum(axis=0) / weights.sum(axis=0)[:, None, None]
    return Overlap(stride, blended)
