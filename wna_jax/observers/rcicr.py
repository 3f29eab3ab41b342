"""Stimuli of rcicr (Dotsch 2016, R package; Dotsch & Todorov 2012, Social Psychological and Personality Science 3:562).

Its function generateStimuli2IFC saves a file rcic_seed_..._time_....Rdata. In each trial people see a base image with a
noise x added, and subtracted, and choose one (response 1: the original, -1: the inverted). The noise is a sum of
patches, sinusoids or Gabors of several scales, orientations and phases, each with a weight ("parameter") of its own:

    x_p = 1/L sum_l patch_l(p) theta_{i_l(p)},    theta independent and uniform on [-1, 1]

over L layers, where i_l(p) is the number of the patch of layer l that covers pixel p. Parameters are independent;
pixels share parameters and are not. As x = A theta, the covariance of pixels is A A^T / 3, and the errors of maps and
null maps follow from A. A test of parameters, one by one, needs no more than their independence.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from jax.tree_util import register_dataclass
from scipy import sparse

from wna_jax.maps import ClassificationImages
from wna_jax.noise import Noise
from wna_jax.noise.base import of_any_size
from wna_jax.observers.group import group_map
from wna_jax.observers.stimuli import Source, size_of
from wna_jax.observers.trials import Trials, analyse_trials, shared_noise
from wna_jax.runs.errors import InputError, damage_said, unknown_name
from wna_jax.statistics import info_val_of_responses

ENDINGS = (".rdata", ".rda")
_ASKED = "expected the .Rdata file that rcicr's generateStimuli2IFC saved"
_LARGEST = 128
"""Pixels per side that maps have at most by default: tests of neighbouring pixels take minutes there, hours at 512."""


@register_dataclass
@dataclass(frozen=True, eq=False)
class Patterns:
    """What images are sums of: patches float32 [H, W, L], int32 numbers [H, W, L] of their parameters, and how many, P.

    It is also the `Noise.sample` of such images, which knows its covariance.
    """

    patches: np.ndarray
    index: np.ndarray
    count: int = field(metadata={"static": True})

    def __call__(self, key: jax.Array) -> jax.Array:
        """A random key -> one image [H, W, 1]."""
        parameters = random.uniform(key, (self.count,), minval=-1, maxval=1)
        return (jnp.asarray(self.patches) * parameters[jnp.asarray(self.index)]).mean(axis=-1)[..., None]

    def covariance(self) -> np.ndarray:
        """The exact covariance [H W, H W] of the pixels of a draw, A A^T / 3."""
        return (self.matrix @ self.matrix.T).toarray() / 3

    @cached_property
    def matrix(self) -> sparse.csr_array:
        """A [H W, P], with image = A theta: the mean over layers of patch x parameter."""
        height, width, layers = self.patches.shape
        starts = np.arange(0, self.patches.size + 1, layers)
        values = np.float32(self.patches.ravel() / layers)
        return sparse.csr_array((values, self.index.ravel(), starts), shape=(height * width, self.count))

    def images(self, parameters: np.ndarray) -> np.ndarray:
        """Parameters [n, P] -> noise images x, float32 [n, H, W, 1]; people see (base + (x + .3) / .6) / 2."""
        flat = (self.matrix @ np.ascontiguousarray(parameters.T, np.float32)).T
        return flat.reshape(len(parameters), *self.patches.shape[:2], 1)

    def noise(self, name: str) -> Noise:
        """The distribution of the images: mean 0, deviation sqrt(sum_k A_pk^2 / 3) of pixel p."""
        shape = (*self.patches.shape[:2], 1)
        deviation = np.sqrt(np.asarray(self.matrix.power(2).sum(axis=1), np.float64) / 3).reshape(shape)
        return Noise(name, shape, np.zeros(shape), deviation, self, white=False)

    def of_size(self, size: tuple[int, int]) -> "Patterns":
        """The same with the means of squares of pixels as pixels; an InputError if these do not divide the patches."""
        height, width, layers = self.patches.shape
        step = height // size[0]
        blocks = (size[0], step, size[1], step, layers)
        if (size[0] * step, size[1] * step) == (height, width):
            first = self.index[::step, ::step]
            if (self.index.reshape(blocks) == first[:, None, :, None]).all():
                return Patterns(self.patches.reshape(blocks).mean(axis=(1, 3)), first, self.count)
        raise InputError(
            f"maps of {size_of(size)} for stimuli of {size_of((height, width))}: expected a size whose pixels "
            "are squares within the smallest patch, such as a half or a quarter"
        )


@dataclass(frozen=True)
class StimulusFile:
    """What `read` finds: the patterns, parameters [N, P] of all stimuli by base image, and base images [H, W, 1]."""

    path: Path
    kind: str
    patterns: Patterns
    parameters: Mapping[str, np.ndarray]
    bases: Mapping[str, np.ndarray]

    def base(self, name: str | None = None) -> str:
        """The name of the base image: the one given, or the only one.

        Raises:
            InputError: no such base image, or several and none given.
        """
        known = list(self.parameters)
        if name is None and len(known) > 1:
            raise InputError(
                f"{self.path} has the base images {', '.join(known)}: say which, such as --base={known[0]}"
            )
        if name is not None and name not in known:
            raise unknown_name("base image", name, known)
        return known[0] if name is None else name

    @cached_property
    def _products(self) -> sparse.csr_array:
        """A^T A, the inner products of all patches: P x P, most of them 0."""
        return self.patterns.matrix.T @ self.patterns.matrix

    def found_stimuli(
        self,
        table: str | Path,
        trials: Mapping[str, Trials],
        *,
        base: str | None = None,
        size: tuple[int, int] | None = None,
    ) -> tuple[dict[str, Trials], Noise]:
        """The trials of `read_trials(..., inverted=True)` with their noise images, and the noise that maps are of.

        Maps have the size given (height, width), or the largest of at most 128 x 128 whose pixels are squares of those
        shown. They are in rcicr's own unit: x adds x / 1.2 to the intensity that people see.

        Raises:
            InputError: with the row: a stimulus that is no number, or that the file does not have; a size whose pixels
                are no squares of those shown.
        """
        patterns = self._smaller() if size is None else self.patterns.of_size(size)
        return self._with(table, trials, base, patterns.images, (*patterns.patches.shape[:2], 1)), patterns.noise(
            f"rcicr's {self.kind}"
        )

    def parameter_map(
        self, table: str | Path, trials: Mapping[str, Trials], *, base: str | None = None
    ) -> ClassificationImages:
        """`group_map` of the parameters themselves, [1, 1, P, 1], as those of an image of 1 x P independent pixels.

        It is tested one by one: `statistics.significant_pixels(statistics.z_map(map))`. Neighbours here are none in the
        image, so clusters of them mean nothing.
        """
        shape = (1, self.patterns.count, 1)
        white = of_any_size("parameters", shape, np.zeros(1), np.full(1, 1 / np.sqrt(3)), _draw_parameters)
        found = self._with(table, trials, base, lambda own: np.float32(own).reshape(len(own), *shape), shape)
        analyses = {who: analyse_trials(own.stimuli, own.responses, noise=white) for who, own in found.items()}
        return group_map(analyses, shared_noise(list(found.values())))

    def classification_image(self, trials: Trials, *, base: str | None = None) -> np.ndarray:
        """rcicr's generateCI, before any scaling: A mean_t(w_t theta_t), [H, W, 1] at full size.

        The trials are those of `read_trials`. Unlike `maps.choice_images` it is not corrected for a preference of one
        answer: where a share p is answered 1, it has (2 p - 1) times the mean noise in it.
        """
        theta, w = self._parameters_of(trials, base), np.asarray(trials.responses, np.float64)
        return self.patterns.images((w @ theta / len(w))[None])[0]

    def info_val(
        self, trials: Trials, *, base: str | None = None, iterations: int = 10_000, seed: int = 0
    ) -> float | None:
        """rcicr's computeInfoVal2IFC of `classification_image` (`statistics.info_val_of_responses`).

        Random responders answer the trials of this observer; rcicr's answer all stimuli of the file, which is the same
        for those who saw all of them.
        """
        theta = self._parameters_of(trials, base)
        products = np.asarray(theta @ (self._products @ theta.T))
        return info_val_of_responses(trials.responses, products, iterations=iterations, seed=seed)

    def _parameters_of(self, trials: Trials, base: str | None) -> np.ndarray:
        return self.parameters[self.base(base)][np.asarray(trials.stimuli) - 1]

    def _smaller(self) -> Patterns:
        height, width, _ = self.patterns.patches.shape
        for step in range(1, height + 1):
            if max(height, width) <= step * _LARGEST and height % step == width % step == 0:
                try:
                    return self.patterns.of_size((height // step, width // step))
                except InputError:
                    break
        return self.patterns

    def _with(
        self,
        table: str | Path,
        trials: Mapping[str, Trials],
        base: str | None,
        shown: Any,
        shape: tuple[int, int, int],
    ) -> dict[str, Trials]:
        parameters = self.parameters[self.base(base)]
        found = {}
        for who, own in trials.items():
            if own.second is not None:
                raise InputError(f"{table} has a column second: the second image is the first inverted, leave it out")
            if not np.issubdtype(own.stimuli.dtype, np.integer):
                given = f"{table}, row {own.rows[0]}: stimulus {str(own.stimuli[0])!r} is no number"
                raise InputError(f"{given}: expected those of {self.path}, 1 to {len(parameters)}")
            if (wrong := (own.stimuli < 1) | (own.stimuli > len(parameters))).any():
                given = f"{table}, row {own.rows[wrong][0]}: stimulus {own.stimuli[wrong][0]} is not there"
                raise InputError(f"{given}: {self.path} has 1 to {len(parameters)}")
            found[who] = own._replace(stimuli=_source(own.stimuli, parameters, shown, shape))
        return found


def is_rdata(path: str | Path | None) -> bool:
    """Whether a path is that of a file of R, by its ending."""
    return path is not None and Path(path).suffix.lower() in ENDINGS


def read(path: str | Path) -> StimulusFile:
    """Reads the file that rcicr saved with its stimuli, of any version, also those of before 0.3.3.

    Needs the package rdata: pip install 'wna_jax[rcicr]'.

    Raises:
        InputError: no such file, a damaged one, one that lacks something or in which sizes do not fit; no rdata.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"{path} is not there: {_ASKED}")
    try:
        import rdata
    except ImportError:
        raise InputError(f"{path} needs the package rdata to be read: pip install rdata, or 'wna_jax[rcicr]'") from None
    with damage_said(str(path), f"{_ASKED}, copied whole"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about classes of R that nothing here needs
        held = rdata.read_rda(path)
    if "s" in held:  # before 0.3.3
        old = _dict(path, held, "s")
        held["p"] = {"patches": old.get("sinusoids"), "patchIdx": old.get("sinIdx"), "noise_type": "sinusoid"}
    for name in ("p", "base_faces", "stimuli_params"):
        if name not in held:
            raise InputError(f"{path} has no {name}, only {', '.join(sorted(held)[:8])}: {_ASKED}")
    p = _dict(path, held, "p")
    patches, index = (_numbers(path, f"p${name}", p.get(name), 3) for name in ("patches", "patchIdx"))
    if patches.shape != index.shape:
        raise InputError(f"{path} has p$patches of {patches.shape} and p$patchIdx of {index.shape}: expected one size")
    least, most = int(index.min()), int(index.max())
    if least < 0 or most < 1 or (index != np.rint(index)).any():
        raise InputError(
            f"{path} has p$patchIdx from {index.min():g} to {index.max():g}: expected whole numbers from 1"
        )
    patches[index == 0] = 0  # the one layer too many of some old files, which shows nothing
    patterns = Patterns(patches.astype(np.float32), np.maximum(index.astype(np.int32) - 1, 0), most)
    parameters = {}
    for name, given in _dict(path, held, "stimuli_params").items():
        theta = _numbers(path, f"stimuli_params${name}", given, 2)
        spare = theta.shape[1] - most
        if spare and (spare, least) != (1, 0) and (theta.shape[1], most) != (4096, 4092):  # 4096 before 0.3.0
            raise InputError(f"{path} has {theta.shape[1]} parameters per stimulus for {most} patches: {_ASKED}")
        if np.abs(theta).max() > 1:
            raise InputError(f"{path} has parameters up to {np.abs(theta).max():.3g}: expected those of rcicr, -1 to 1")
        parameters[name] = theta[:, :most]
    bases = {}
    for name, given in _dict(path, held, "base_faces").items():
        bases[name] = _numbers(path, f"base_faces${name}", given, 2)[..., None]
        if bases[name].shape[:2] != patches.shape[:2]:
            sizes = f"a base image of {size_of(bases[name].shape[:2])} and noise of {size_of(patches.shape[:2])}"
            raise InputError(f"{path} has {sizes}: expected one size")
    if set(bases) != set(parameters) or not bases:
        raise InputError(
            f"{path} has base_faces {', '.join(bases)} and stimuli_params {', '.join(parameters)}: {_ASKED}"
        )
    said = p.get("noise_type", held.get("noise_type", "sinusoid"))
    return StimulusFile(path, str(np.ravel(said)[0]), patterns, parameters, bases)


def _dict(path: Path, held: Mapping[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(found := held[name], dict) or not found:
        raise InputError(
            f"{path} has {name} of type {type(found).__name__}: expected a list with names, as rcicr saves"
        )
    return {str(key): value for key, value in found.items()}


def _numbers(path: Path, name: str, given: Any, rank: int) -> np.ndarray:
    """An array of finite numbers, which is not that of the file."""
    array = np.asarray(given)
    if array.ndim != rank or not array.size or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        what = "nothing" if given is None else f"{array.dtype} {array.shape}"
        raise InputError(f"{path} has {what} as {name}: expected finite numbers in {rank} dimensions, as rcicr saves")
    return np.array(array, np.float64)


def _source(numbers: np.ndarray, parameters: np.ndarray, shown: Any, shape: tuple[int, int, int]) -> Source:
    return Source(
        len(numbers),
        shape,
        lambda trials: shown(parameters[numbers[trials] - 1]),
        lambda trials: numbers[trials].astype(np.uint64),
    )


def _draw_parameters(key: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    return random.uniform(key, shape, minval=-1, maxval=1)
