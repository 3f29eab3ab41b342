"""What a run found, as one value: halves of its samples with maps, errors and tests; shown, saved, added up."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wna_jax import statistics, templates
from wna_jax.analysis import archive, report, shown
from wna_jax.correlation.fields import Overlap
from wna_jax.correlation.moments import Moments
from wna_jax.correlation.origin import Origin
from wna_jax.maps import ClassificationImages, choice_images, classification_images, regression_images
from wna_jax.noise import Noise
from wna_jax.posterior import PosteriorMaps, posterior_maps, why_none
from wna_jax.runs import files
from wna_jax.runs.errors import InputError, unknown_name
from wna_jax.templates import Feedback

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ALIKE = "they can differ in seed, network and number of samples alone"


class ByResponse(dict):
    """What there is of each response, by its name; an InputError that lists the names for one that is not there."""

    def __missing__(self, name: str) -> Any:
        """Called by [] alone, not by `get` or `in`."""
        raise unknown_name("response of this analysis", str(name), tuple(self))


@dataclass(frozen=True, eq=False)
class Analysis:
    """What the samples of one or more runs say of K classes: what `analyse` returns, and `load` reads again.

    What is not a field is computed when it is asked for. Two analyses of the same noise and network, of different
    seeds, add up.

    Attributes:
        first: the moments of the first half of the samples, by the response's name, such as "decision".
        second: those of the second half.
        noise: what was shown.
        class_names: of the maps.
        overlaps: how the errors of maps' pixels depend on each other where the samples are windows of fields.
        settings: those of an experiment (JSON values).
        name: what the network is called in titles.
        classes: the numbers of the classes that the maps are of; by default all, 0 to K - 1.
        all_class_names: of all classes that the network decides among; by default those of the maps.
        feedback: what the network calls its own maps, by response; `with_feedback` gives a sum its own.
        convergence: how maps converge as samples are added: by title, a response and its curves; a sum has none.
        class_means: mean training images of the maps' classes, [K, H, W, C] in [0, 1], for pictures.
        roi: the region of interest, bool [H, W] or [H, W, C], that tests and reliability are about.
        tests: the options of `statistics.findings` that are taken where none are given.
        right: of how many images of the data the network was asked about, and how many it called right, if it was.
    """

    first: Mapping[str, Moments]
    second: Mapping[str, Moments]
    noise: Noise
    class_names: Sequence[str]
    overlaps: Mapping[str, Overlap | None] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    name: str = "the network"
    classes: Sequence[int] = ()
    all_class_names: Sequence[str] = ()
    feedback: Mapping[str, Sequence[Feedback | None]] = field(default_factory=dict)
    convergence: Mapping[str, tuple[str, statistics.Convergence]] = field(default_factory=dict)
    class_means: np.ndarray | None = None
    roi: np.ndarray | None = None
    tests: Mapping[str, Any] = field(default_factory=dict)
    right: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Fills in the classes where the maps are of all."""
        object.__setattr__(self, "classes", self.classes or tuple(range(len(self.class_names))))
        object.__setattr__(self, "all_class_names", self.all_class_names or tuple(self.class_names))

    def __repr__(self) -> str:
        """A line per response."""
        return "\n".join(["<Analysis", *(f"  {name}: {moments}" for name, moments in self.moments.items())]) + ">"

    @functools.cached_property
    def moments(self) -> dict[str, Moments]:
        """Of all samples."""
        return ByResponse({name: self.first[name] + self.second[name] for name in self.first})

    @functools.cached_property
    def maps(self) -> dict[str, ClassificationImages]:
        """The maps, with their errors and masks, by the kind of response."""
        found = ByResponse()
        for name, moments in self.moments.items():
            found[name] = maps_of(name, moments, self.noise)
            if archive.is_unknown(self.noise):  # tests that need draws of it cannot be made
                found[name] = replace(found[name], noise=None)
        return found

    @functools.cached_property
    def z(self) -> dict[str, np.ma.MaskedArray]:
        """The maps as normal numbers, `statistics.z_map`."""
        return ByResponse({name: statistics.z_map(maps) for name, maps in self.maps.items()})

    @functools.cached_property
    def reliability(self) -> dict[str, statistics.SplitHalf]:
        """Of the maps, from the two halves."""
        halves = {name: (of, self.second[name]) for name, of in self.first.items()}
        return ByResponse({name: statistics.split_half(*both, self.noise, self.roi) for name, both in halves.items()})

    @property
    def origins(self) -> dict[str, Origin | None]:
        """Which noise, response and samples the moments are of."""
        return {name: moments.origin for name, moments in self.moments.items()}

    @functools.cached_property
    def _found(self) -> dict[str, statistics.Findings]:
        return {}

    def findings(self, response: str, **options: Any) -> statistics.Findings:
        """All tests of the maps of one response; `options` are those of `statistics.findings`, instead of `tests`.

        Raises:
            InputError: no such response, or as `statistics.findings`.
        """
        if options or response not in self._found:
            wanted = {"roi": self.roi, **self.tests, **options}
            found = statistics.findings(self.maps[response], overlap=self.overlaps.get(response), **wanted)
            if options:
                return found
            self._found[response] = found
        return self._found[response]

    def posterior(self, response: str) -> PosteriorMaps | None:
        """The maps of one response under a prior that they are smooth, `posterior.posterior_maps`.

        None where there is none: in noise whose pixels depend on each other (`posterior.why_none`).

        Raises:
            InputError: no such response.
        """
        if response not in self._posteriors:
            maps, overlap = self.maps[response], self.overlaps.get(response)
            self._posteriors[response] = None if why_none(maps, overlap) else posterior_maps(maps, overlap)
        return self._posteriors[response]

    @functools.cached_property
    def _posteriors(self) -> dict[str, PosteriorMaps | None]:
        return {}

    def __radd__(self, other: Any) -> "Analysis":
        """Has `sum` add up analyses."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def __add__(self, other: "Analysis") -> "Analysis":
        """Of the samples of both, with the settings that both have, and the options of tests of the first.

        What the network calls the maps of the sum is not known without the network: `with_feedback` asks it.

        Raises:
            InputError: other classes, responses, noise, network or region of interest, or samples that both have.
        """
        self.check_alike(other)
        region, others = (np.zeros(0) if each.roi is None else each.roi for each in (self, other))
        if not np.array_equal(region, others):
            way_out = "give both one, as in dataclasses.replace(run, roi=other.roi)"
            raise InputError(f"the two runs have different regions of interest (roi): {way_out}")
        if set(self.first) != set(other.first):
            mine, theirs = (", ".join(each.first) for each in (self, other))
            raise InputError(f"one run has the responses {mine}, the other {theirs}: they do not add up")
        first, second = (
            {name: mine[name] + theirs[name] for name in mine}
            for mine, theirs in ((self.first, other.first), (self.second, other.second))
        )
        settings = {name: value for name, value in self.settings.items() if other.settings.get(name) == value}
        return replace(self, first=first, second=second, settings=settings, feedback={}, convergence={})

    def with_feedback(self, network: Any) -> "Analysis":
        """The same, with what a network (any that `responses.of_network` takes) calls its maps: for a sum of runs."""
        feedback = {
            name: templates.feed_back(network, maps.images, noise=self.noise) for name, maps in self.maps.items()
        }
        return replace(self, feedback=feedback)

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

    def figure(self, kind: shown.Kind = "maps", responses: Sequence[str] | None = None) -> "Figure":
        """A picture, of all responses or of some; of more than 30 classes those with the most reliable maps.

        Kinds are "maps" (each class's decision and probability map, with counts, reliability, significant pixels, and
        what the network calls the map itself), "significance" (what each test finds), "convergence" (as samples were
        added) and "shares" (how the network sorts the noise).

        Raises:
            InputError: no such kind or response, or what it would show was not computed.
        """
        return shown.figure(self, kind, responses)

    def chosen(self, response: str) -> tuple[dict[int, int], str]:
        """The maps that figures show, with the numbers of their classes, and in words how they were chosen.

        They are all of at most 30 classes, else those of the 30 classes whose maps of that response are most reliable.
        """
        return shown.chosen(self, response)

    def metrics(self) -> dict[str, Any]:
        """Counts, shares, reliability, N0, significant pixels, infoVal and feed-back as JSON values, by response."""
        return shown.metrics(self)

    def summary(self) -> str:
        """The main facts in a few lines."""
        return "\n".join(shown.summary(self))

    def _repr_html_(self) -> str:
        """For notebooks: a table by class, and the picture."""
        return shown.html(self)

    def save(self, path: str | Path) -> Path:
        """Writes to a folder `maps.npz` (all of it, for `load`), `metrics.json`, a picture, and all on one page.

        These are `classification_images.png` and `report.html`, in which each pixel of a map tells its numbers.

        A path that ends in .npz gets that file alone. Each file is written whole or not at all, the sums first.

        Returns:
            What to look at: the path of `report.html`, or that of the file.

        Raises:
            InputError: the folder cannot be written.
        """
        place = Path(path).expanduser()
        if place.suffix == ".npz":
            files.write_arrays(place, **self.arrays())
            return place
        files.check_writable("output", place, "give another folder")
        files.write_arrays(place / archive.FILE, **self.arrays())
        metrics, drawn, picture = self.metrics(), self.figure(), place / "classification_images.png"
        files.write_json(place / "metrics.json", metrics)
        with files.replacing(picture) as temporary:
            temporary.write_bytes(shown.png(drawn))
        report.write(
            place,
            f"What {self.name} sees in noise",
            summary=self.summary().splitlines(),
            settings=self.settings,
            metrics=metrics,
            pictures=[report.Picture([picture], str(drawn.get_label()))],
            analysis=self,
        )
        return place / report.FILE

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays by name, as they stand in `maps.npz` (`analysis.archive.arrays_of`)."""
        return archive.arrays_of(self)


def maps_of(response: str, moments: Moments, noise: Noise) -> ClassificationImages:
    """The maps of a response, with errors, of the kind that is right for it."""
    kinds = {"logit": regression_images, "value": regression_images, "choice": choice_images}
    return kinds.get(response, classification_images)(moments, noise)


def load(path: str | Path) -> Analysis:
    """What a finished run found: its folder, or the `maps.npz` in it.

    The noise can be drawn from where it is one of this package that needs no data. Of any other one mean and deviation
    are known; if it is not white, its maps are then tested for single pixels alone.

    Raises:
        InputError: no such file, one of another kind or of an earlier version, or a damaged one.
    """
    return Analysis(**archive.read(path))


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
