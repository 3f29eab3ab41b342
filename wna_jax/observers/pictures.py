"""Stimuli as files for people, and maps laid over a base image."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from wna_jax.noise import Noise
from wna_jax.observers.stimuli import Drawn, size_of, source_of
from wna_jax.runs.errors import InputError, unknown_name
from wna_jax.runs.files import check_writable, replacing, write_json
from wna_jax.runs.fingerprints import fingerprint
from wna_jax.runs.progress import Progress, Report, silent

DESIGNS = ("yes_no", "2afc", "inverted")
SCALINGS = ("independent", "constant", "matched", "none")
TRIALS, ABOUT = "trials.csv", "stimuli.json"
_KEY_OF_SIGNALS = 0x736967


class Exported(NamedTuple):
    """What was written: image files, and how they differ from the noise.

    `clipped` is the share of pixels outside of [0, 1], which are shown as black or white; `rounding` the standard
    deviation of the rounding of the others, in intensity: 1 / 255 / sqrt(12) = .0011 at 8 bits.
    """

    files: int
    clipped: float
    rounding: float


def export_stimuli(
    directory: str | Path,
    noise: Noise,
    count: int,
    *,
    seed: int = 0,
    design: str = "yes_no",
    bits: int = 8,
    base: np.ndarray | None = None,
    signal: np.ndarray | None = None,
    report: Report = silent,
) -> Exported:
    """Writes the stimuli of `count` trials as numbered PNG files, and a table of trials to be filled in.

    File 000017.png is draw 17 of the seed, as `draw_samples` and a network have it. trials.csv has a row per trial:
    its number, the stimulus, and an empty response. By design: "yes_no" shows one stimulus per trial; "2afc" two, draws
    2 i and 2 i + 1, as "stimulus" and "second"; "inverted" one noise twice, added and subtracted (000017_inverted.png),
    as rcicr does (Dotsch & Todorov 2012, Social Psychological and Personality Science 3:562). stimuli.json says what
    they are made of, so that `python -m experiments.observer --trials=trials.csv` needs no other file.

    A signal [H, W, C], in intensity, is added in half of the trials of "yes_no", as the column signal says (present or
    absent), or in one of the two intervals of "2afc", as the column interval says (1 or 2), in a random order. The
    noise is the same with it and without: maps are of the noise, and these columns take out what the signal itself did
    to the answers.

    Noise in squares (`noise.coarse`) is shown in squares, and its map has a pixel for each: larger stimuli, and fewer
    pixels to tell. With a base image [H, W, C] in [0, 1] a stimulus is base + noise - mean of the noise (inverted: base
    - noise + mean), else the noise itself. Intensities outside of [0, 1] are shown as black or white, and all are
    rounded to 8 or 16 bits (grey alone). Rounding to 8 bits adds 1.3e-6 to the variance of a pixel, of noise of
    deviation .2 that is 3e-5 of it: nothing that a map shows. Clipping makes what was shown less than what was drawn; a
    map of the draws stays right, with a little less power.

    Raises:
        InputError: a folder with a table of trials already, a design or a number of bits that is none, a base or a
            signal of another size, a signal of the design "inverted".
    """
    folder = Path(directory).expanduser()
    if design not in DESIGNS:
        raise unknown_name("design", design, DESIGNS)
    if signal is not None and design == "inverted":
        raise InputError("a signal in stimuli that are shown with their inverted ones: expected design yes_no or 2afc")
    if bits not in (8, 16) or (bits == 16 and noise.shape[2] > 1):
        raise InputError(f"{bits} bits for {noise.shape[2]} channels: expected 8, or 16 for grey images")
    if noise.shape[2] not in (1, 3):
        raise InputError(f"images of {noise.shape[2]} channels: a PNG has 1 (grey) or 3")
    mean = np.asarray(noise.mean)
    if noise.present is not None and mean.ndim > 1:
        raise InputError(
            f"{noise.name} noise is shown in another form than it is drawn in: expected one of equal pixels"
        )
    if count < 1:
        raise InputError(f"{count} trials: expected at least 1")
    if (folder / TRIALS).exists():
        raise InputError(f"{folder / TRIALS} is there already, perhaps filled in: give another folder")
    check_writable("stimuli", folder, "give another one")
    total = 2 * count if design == "2afc" else count
    source = source_of(Drawn(noise, np.arange(total), seed))
    clipped, error, files = 0, 0.0, 0
    size = source.shown(np.arange(1)).shape[1:]
    for what, image in (("base image", base), ("signal", signal)):
        if image is not None and image.shape != size:
            raise InputError(f"a {what} of {size_of(image.shape)} for stimuli of {size_of(size)}: expected one size")
    held = None if signal is None else np.random.default_rng((seed, _KEY_OF_SIGNALS)).permutation(count) % 2
    has_signal = np.zeros(total, bool)
    if held is not None:
        has_signal[np.arange(count) if design == "yes_no" else 2 * np.arange(count) + held] = (
            held == 0 if design == "yes_no" else True
        )
    for numbers in source.batches():
        drawn = source.shown(numbers)
        if signal is not None:
            drawn = drawn + has_signal[numbers][:, None, None, None] * signal
        versions = {"": drawn} if base is None else {"": base + (drawn - mean)}
        if design == "inverted":
            versions["_inverted"] = (2 * mean if base is None else 2 * base) - versions[""]
        for ending, shown in versions.items():
            inside = np.clip(shown, 0, 1)
            levels = np.rint(inside * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
            clipped += int(np.count_nonzero(shown != inside))
            error += float(np.square(levels / (2**bits - 1) - inside).sum())
            for number, image in zip(numbers, levels, strict=True):
                _write(folder / file_name(number, ending), image)
            files += len(levels)
        report(Progress("stimuli", int(numbers[-1]) + 1, total, "images"))
    about: dict[str, Any] = {
        "noise": noise.name,
        "shape": list(noise.shape),
        "mean": np.asarray(noise.mean).tolist(),
        "deviation": np.asarray(noise.deviation).tolist(),
        "noise_fingerprint": fingerprint(noise),
        "seed": seed,
        "count": total,
        "design": design,
        "bits": bits,
        "has_base": base is not None,
        "has_signal": signal is not None,
    }
    write_json(folder / ABOUT, about)
    with replacing(folder / TRIALS) as temporary, temporary.open("w", newline="") as file:
        table = csv.writer(file)
        columns: dict[str, Iterable] = {"trial": range(count), "stimulus": range(count)}
        if design == "2afc":
            columns |= {"stimulus": range(0, total, 2), "second": range(1, total, 2)}
        if held is not None:
            name, words = ("signal", ("present", "absent")) if design == "yes_no" else ("interval", ("1", "2"))
            columns[name] = [words[which] for which in held]
        table.writerow([*columns, "response"])
        table.writerows([*row, ""] for row in zip(*columns.values(), strict=True))
    values = files * int(np.prod(size))
    return Exported(files, clipped / values, float(np.sqrt(error / values)))


def file_name(number: int, ending: str = "") -> str:
    """The file of a stimulus."""
    return f"{number:06d}{ending}.png"


def scaled(
    map_hwc: np.ndarray, scaling: str = "independent", base: np.ndarray | None = None, constant: float = 1.0
) -> np.ndarray:
    """A map as a picture, by the definitions of rcicr (Dotsch & Todorov 2012; `generateCI`), masked where it is.

    "independent": (C + c) / 2c with c the largest |C|, which fills [0, 1] about grey; "constant": the same with a c
    given, which keeps several maps comparable; "matched": stretched from the base's least to its largest intensity;
    "none": C itself.

    Raises:
        InputError: no such scaling, a constant that is not above 0, or "matched" without a base.
    """
    image = np.ma.masked_array(map_hwc, dtype=np.float64)
    if scaling not in SCALINGS:
        raise unknown_name("scaling", scaling, SCALINGS)
    if scaling == "matched":
        if base is None:
            raise InputError("scaling is 'matched', to a base image: give one, or scaling='independent'")
        spread = float(image.max() - image.min())
        return base.min() + (base.max() - base.min()) * (image - image.min()) / (spread or 1.0)
    if scaling == "constant" and not constant > 0:
        raise InputError(f"the constant is {constant}: expected a number above 0")
    if scaling == "independent":
        constant = float(np.abs(image).max()) or 1.0
    return image if scaling == "none" else (image + constant) / (2 * constant)


def on_base(map_hwc: np.ndarray, base: np.ndarray, scaling: str = "independent", constant: float = 1.0) -> np.ndarray:
    """A map over a base image as rcicr shows it: (scaled map + base) / 2, [H, W, C].

    A map of squares is enlarged to the size of the base.

    Raises:
        InputError: a base whose size is no multiple of the map's.
    """
    image = scaled(map_hwc, scaling, base, constant)
    (height, width, channels), (rows, columns, _) = base.shape, image.shape
    if height % rows or width % columns or channels != image.shape[2] or height // rows != width // columns:
        given = f"a base image of {size_of(base.shape)} for a map of {size_of(image.shape)}"
        raise InputError(f"{given}: expected the same, or a multiple of it")
    return (image.repeat(height // rows, axis=0).repeat(width // columns, axis=1) + base) / 2


def _write(path: Path, image: np.ndarray) -> None:
    shown = image if image.shape[-1] == 3 else image[..., 0]
    with replacing(path) as temporary:
        Image.fromarray(shown).save(temporary, format="PNG")
