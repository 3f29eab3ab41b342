"""From the numbers and names in a table of trials to the stimuli: draws of a known noise, or image files."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image

from wna_jax import noise as noises
from wna_jax.noise import Noise
from wna_jax.observers.pictures import ABOUT, file_name
from wna_jax.observers.stimuli import Drawn, difference, noise_of, read_image, size_of, twice
from wna_jax.observers.trials import Trials
from wna_jax.runs.errors import InputError, damage_said
from wna_jax.runs.fingerprints import fingerprint
from wna_jax.runs.progress import Report, silent

_FOR_PAIRS = 64  # trials that tell whether the second stimulus is the first one inverted


def found_stimuli(
    table: str | Path,
    trials: Mapping[str, Trials],
    *,
    folder: str | Path | None = None,
    noise: str | None = None,
    shape: tuple[int, ...] | None = None,
    seed: int = 0,
    report: Report = silent,
) -> tuple[dict[str, Trials], Noise]:
    """The trials of `read_trials` with their stimuli, as `analyse_trials` takes them, and the noise that maps are of.

    Numbers are draws of a noise: of that named, with the shape of its images [H, W] or [H, W, C] and its seed, or of
    the one that `export_stimuli` noted in stimuli.json beside the table (or in the `folder`). Of a noise that needs
    data to be made again they are the exported files, 17 being 000017.png. Anything else is the name of an image file
    in the folder; if these show a known noise, name it: otherwise it is estimated from them (`noise_of`).

    Of two files in a trial the noise is that of their difference: of two draws, or of one and its inverted (`twice`),
    which the files tell.

    Raises:
        InputError: with the row: a number or file that is missing, one that is no image or of another size. A noise
            without a shape, or another than stimuli.json says; a damaged stimuli.json. Two files of one noise.
    """
    own = Path(table).expanduser().parent if folder is None else Path(folder).expanduser()
    about = _about(own)
    first = next(iter(trials.values()))
    numbered, two = np.issubdtype(first.stimuli.dtype, np.integer), first.second is not None
    known = None
    if noise is not None:
        if numbered and shape is None:
            raise InputError(f"stimuli are draws of {noise} noise: give the shape of its images too, such as 28,28")
        known = None if shape is None else noises.of_shape(noise, with_channels(shape))
        if numbered and about is not None and (fingerprint(known), seed) != (about.made_of, about.seed):
            raise InputError(
                f"stimuli are draws of {noise} noise with seed {seed}, but {own / ABOUT} says {about.name} noise "
                f"{about.shape} with seed {about.seed}: leave out the noise, or give another folder"
            )
    elif about is not None:
        known, seed = about.noise(), about.seed
        if numbered:
            _check_numbers(table, trials, about.count, own / ABOUT)
    if numbered and known is not None:
        drawn = {
            who: each._replace(
                stimuli=Drawn(known, each.stimuli, seed), second=Drawn(known, each.second, seed) if two else None
            )
            for who, each in trials.items()
        }
        return drawn, difference(known) if two else known
    files = _files(table, trials, own)
    if noise is not None and known is None:
        known = noises.of_shape(noise, read_image(next(iter(files.values())).stimuli[0]).shape)
    if known is not None:
        size = read_image(next(iter(files.values())).stimuli[0]).shape
        if known.shape != size:
            raise InputError(f"images of {size_of(size)} of {known.name} noise {known.shape}: expected the same pixels")
        return files, _of_pairs(known, next(iter(files.values()))) if two else known
    every = list(files.values())
    stimuli = [path for each in every for path in each.stimuli]
    second = [path for each in every for path in each.second] if two else None
    kinds = None if first.classes is None else np.concatenate([each.classes for each in every])
    return files, noise_of(stimuli, second, kinds, report)


def _of_pairs(noise: Noise, trials: Trials) -> Noise:
    """The noise of the first file minus the second: they show two draws of it, or one and its inverted."""
    one, two = (
        np.stack([read_image(path) for path in paths[:_FOR_PAIRS]]) for paths in (trials.stimuli, trials.second)
    )
    kinds = np.zeros(len(one)) if trials.classes is None else trials.classes[:_FOR_PAIRS]
    for kind in np.unique(kinds):  # what all of a kind have, such as the base
        shift = (one[kinds == kind].mean(axis=0) + two[kinds == kind].mean(axis=0)) / 2
        one[kinds == kind] -= shift
        two[kinds == kind] -= shift
    alike = float((one * two).sum() / (np.sqrt(np.square(one).sum() * np.square(two).sum()) or 1))
    if alike > 0.5:
        raise InputError(
            f"first and second stimuli are alike (correlation {alike:.2f}), so little is left of {noise.name} noise in "
            "their difference: leave out the noise, and it is estimated"
        )
    return twice(noise) if alike < -0.5 else difference(noise)


def with_channels(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(height, width, channels), of grey images if only two numbers are given."""
    if len(shape) not in (2, 3):
        given = ",".join(map(str, shape))
        raise InputError(f"the shape of images is {given}: expected HEIGHT,WIDTH or HEIGHT,WIDTH,CHANNELS")
    return (shape[0], shape[1], shape[2] if len(shape) == 3 else 1)


@dataclass(frozen=True)
class _About:
    """What stimuli.json says of exported stimuli."""

    name: str
    shape: tuple[int, int, int]
    moments: tuple[np.ndarray, np.ndarray]
    made_of: str
    seed: int
    count: int

    def noise(self) -> Noise | None:
        """The noise, if it can be made again from this alone."""
        again = noises.recreate(self.name, self.shape, *self.moments)
        return again if again and fingerprint(again) == self.made_of else None


def _about(folder: Path) -> _About | None:
    file = folder / ABOUT
    if not file.is_file():
        return None
    with damage_said(str(file), "export the same stimuli to another folder, and copy the file from there"):
        said = json.loads(file.read_text())
        moments = np.array(said["mean"]), np.array(said["deviation"])
        shape = with_channels(tuple(said["shape"]))
        return _About(said["noise"], shape, moments, said["noise_fingerprint"], said["seed"], said["count"])


def _check_numbers(table: str | Path, trials: Mapping[str, Trials], count: int, file: Path) -> None:
    for own in trials.values():
        for column in (own.stimuli, own.second):
            if column is not None and (missing := np.flatnonzero(column >= count)).size:
                given = f"{table}, row {own.rows[missing[0]]}: stimulus {column[missing[0]]} is not there"
                raise InputError(f"{given}: {file} has 0 to {count - 1}")


def _elsewhere(folder: Path, name: str) -> Path:
    """The file as another system writes its path: with backslashes, or of a folder that is not on this machine."""
    given = PureWindowsPath(name)  # which reads both kinds of slashes
    return folder / (given.name if given.drive or given.root else given.as_posix())


def _files(table: str | Path, trials: Mapping[str, Trials], folder: Path) -> dict[str, Trials]:
    """The same trials with the paths of image files in the place of their names or numbers."""
    known: dict[Any, Path] = {}
    first: tuple[Path, tuple] | None = None

    def checked(name: Any, row: int) -> Path:
        nonlocal first
        if name in known:
            return known[name]
        where, file = f"{table}, row {row}", folder / (file_name(name) if isinstance(name, int) else name)
        if not file.is_file() and isinstance(name, str):
            file = _elsewhere(folder, name)
        if not file.is_file():
            raise InputError(f"{where}: {file} is not there, so the trial has no stimulus")
        try:
            with contextlib.closing(Image.open(file)) as image:
                grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I")
                kind = (image.height, image.width, "grey" if grey else "colour")
        except Exception:
            raise InputError(f"{where}: {file} is not an image that can be read") from None
        first = first or (file, kind)
        if kind != first[1]:
            sizes = ["{}x{} pixels, {}".format(*each) for each in (kind, first[1])]
            raise InputError(f"{where}: {file} has {sizes[0]}, {first[0]} has {sizes[1]}: expected one size")
        known[name] = file
        return file

    def paths(names: np.ndarray | None, rows: np.ndarray) -> Any:
        return None if names is None else [checked(name, row) for name, row in zip(names.tolist(), rows, strict=True)]

    return {
        who: own._replace(stimuli=paths(own.stimuli, own.rows), second=paths(own.second, own.rows))
        for who, own in trials.items()
    }
