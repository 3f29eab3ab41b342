"""What does a person see in noise? Classification images from trials that people answered.

A table has one row per trial, with the columns stimulus (the number of a draw of noise, or an image file) and response
(two values, such as 1 and 0), and, if there are such, second (the other stimulus of a forced choice), participant,
signal, interval, base (kinds of trial). The map of each participant and of the group, with the tests, reliability and
infoVal of a network's maps, and how far participants agree.

  python -m experiments.observer --export=stimuli --num_trials=500     images to show, and a table to be filled in
  python -m experiments.observer --trials=stimuli/trials.csv           the maps of what was answered
  python -m experiments.observer --trials=answers.csv --stimuli=rcic_seed_1_time_....Rdata     of the R package rcicr

Writes to --out_dir: observers.png, maps.npz, an .npz file for each participant that wna_jax.load reads, metrics.json,
config.json and log.jsonl; kinds.png and kinds.npz, the maps of each
kind of trial alone, where there are several; with --export images, trials.csv and stimuli.json to that folder. Of
stimuli of rcicr also ci.npz, the classification images as rcicr defines them, at full size.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments import launch
from experiments.settings import Settings as AnySettings
from experiments.settings import choice, setting
from wna_jax import data, figures, noise, observers, statistics
from wna_jax.observers import Trials, pictures, rcicr
from wna_jax.observers.resolve import with_channels
from wna_jax.runs.errors import InputError, unknown_name
from wna_jax.runs.files import as_file_name, or_none

_OF_KINDS = (
    "In standard errors: mean noise of one answer minus that of the other, among trials of one kind (signal present: "
    "hits minus misses; absent: false alarms minus correct rejections). Outlined: p < .05 over all these maps together."
)


class Settings(AnySettings):
    """The settings of one run."""

    trials: str | None = choice(None, "The table of trials (CSV), with one row per trial.")
    stimuli: str | None = setting(
        None,
        "The folder of the image files, by default that of the table. Or the .Rdata file that rcicr saved: the column "
        "stimulus has its numbers, the responses are 1 (original) and -1 (inverted).",
    )
    noise: str | None = setting(
        None,
        f"The noise of the stimuli: {', '.join(noise.NAMES_OF_SHAPE)}. By default what stimuli.json beside the table "
        "says; of other image files it is estimated. For --export uniform.",
    )
    image_shape: tuple[int, ...] | None = setting(
        None,
        "Height, width and perhaps channels of the noise. For --export by default 28,28; of the maps of an .Rdata file "
        "by default at most 128,128.",
        at_least=1,
    )
    seed: int = setting(0, "Random seed of the noise, and of null maps.", at_least=0, at_most=2**32 - 1)
    yes: str | None = setting(
        None, "The response that counts as yes, or as the first stimulus. By default known of 1, yes, first, original."
    )
    ignore: tuple[str, ...] | None = setting(None, "Columns of the table that are not read, such as rt,age.")
    columns: tuple[str, ...] | None = setting(
        None,
        "What the table calls its columns, such as stimulus:stim,response:key,participant:subject. No others are then "
        "read.",
    )
    skip_unanswered: bool = setting(False, "Leave out trials without a response. By default they are an error.")
    base: str | None = setting(
        None,
        "A base image: to lay the map over, and with --export what the noise is added to. PNG, or another format. With "
        "an .Rdata file, the name of one in it.",
    )
    scaling: str = setting(
        "independent",
        "How the map is laid over the base image, as in rcicr: scaled by its own largest value, by --scaling_constant, "
        "or matched to the base image.",
        choices=("independent", "constant", "matched"),
    )
    scaling_constant: float = setting(
        0.1, "The value of the map that is shown white, with --scaling=constant.", at_least=1e-6
    )
    permutations: int = setting(
        199, "Null maps that clusters are compared with; the smallest p is 1 in one more.", at_least=19
    )
    export: str | None = setting(None, "Write stimuli and an empty table to this folder, to be shown to people.")
    num_trials: int = setting(500, "How many trials to export.", at_least=1)
    signal: str | None = setting(
        None,
        "What is to be seen in half of the exported trials, or in one of two intervals: an image file, or a class of a "
        "data set by its mean image, such as mnist:3.",
    )
    contrast: float = setting(
        0.1, "The largest change of intensity that the signal makes; its mean over the image is 0.", at_least=0.0
    )
    data_dir: str | None = setting(
        None, "A folder with one folder per data set, such as DIR/mnist/*.gz. What is missing is downloaded."
    )
    design: str = setting(
        "yes_no",
        "The task of exported trials: yes_no (one stimulus each), 2afc (two), or inverted (one noise added, and "
        "subtracted).",
        choices=observers.DESIGNS,
    )
    bits: int = setting(8, "Bits per channel of exported images: 8, or 16 for grey ones.", at_least=8, at_most=16)


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """A table of trials to maps, tests and agreement; or noise to stimuli for people."""
    if (settings.trials is None) == (settings.export is None):
        raise InputError("give one of --trials=TABLE.csv (what was answered) and --export=FOLDER (stimuli to be shown)")
    return _export(settings, report) if settings.export else _analyse(settings, report)


def _export(settings: Settings, report: launch.Report) -> launch.Result:
    base, signal = _base_image(settings), _signal(settings, report)
    of_images = [image.shape for image in (base, signal) if image is not None]
    shape = settings.image_shape or (of_images[0] if of_images else (28, 28))
    shown = noise.of_shape(settings.noise or "uniform", with_channels(shape))
    folder = Path(settings.export or "").expanduser()
    written = observers.export_stimuli(
        folder,
        shown,
        settings.num_trials,
        seed=settings.seed,
        design=settings.design,
        bits=settings.bits,
        base=base,
        signal=signal,
        report=report,
    )
    share = np.sqrt(written.rounding**2 / np.mean(shown.deviation**2))
    summary = [
        f"stimuli         {written.files:,} images of {shown.name} noise in {folder}",
        f"shown           {figures.percent(written.clipped)} of pixels clipped; rounding {share:.2g} of the deviation",
        f"fill in         {folder / pictures.TRIALS}, column response",
    ]
    if signal is not None and shown.white and shown.shape == signal.shape:
        ideal = float(np.sqrt(np.square(signal / shown.deviation).sum()))
        summary.insert(
            1, f"signal          an ideal observer has d' = {ideal * np.sqrt(1 + (settings.design == '2afc')):.2f}"
        )
    return launch.Result(written._asdict() | {"folder": str(folder)}, summary)


def _signal(settings: Settings, report: launch.Report) -> np.ndarray | None:
    """The signal as it is added: of mean 0, and of the largest magnitude `contrast`."""
    if settings.signal is None:
        return None
    if Path(settings.signal).expanduser().is_file():
        image = observers.read_image(Path(settings.signal).expanduser()).astype(np.float64)
    else:
        of_data, _, name = settings.signal.rpartition(":")
        if not of_data:
            given = f"signal is {name}, which is no image file"
            raise InputError(f"{given}: expected one, or a class of a data set by its name, such as mnist:3")
        dataset = data.load(of_data, settings.data_dir, report)
        if name not in dataset.class_names:
            raise unknown_name(f"class of {of_data}", name, dataset.class_names)
        image = dataset.members(dataset.class_names.index(name)).mean(axis=0) / 255
    about = image - image.mean()
    if not about.any():
        raise InputError(f"signal {settings.signal} is the same everywhere: expected an image with something in it")
    return settings.contrast * about / np.abs(about).max()


def _base_image(settings: Settings) -> np.ndarray | None:
    return None if settings.base is None else observers.read_image(Path(settings.base).expanduser())


def _analyse(settings: Settings, report: launch.Report) -> launch.Result:
    path = Path(settings.trials or "").expanduser()
    file = rcicr.read(settings.stimuli or "") if rcicr.is_rdata(settings.stimuli) else None
    options: dict[str, Any] = {name: getattr(settings, name) for name in ("yes", "skip_unanswered")}
    options |= {"ignore": settings.ignore or (), "columns": _columns(settings)}
    if file is not None:
        if settings.noise is not None:
            raise InputError(f"noise is {settings.noise}, but that of {file.path} is known: leave it out")
        name = file.base(settings.base)
        table = observers.read_trials(path, base=name, inverted=True, **options)
        size = None if settings.image_shape is None else with_channels(settings.image_shape)[:2]
        trials, shown = file.found_stimuli(path, table, base=name, size=size)
        base: np.ndarray | None = file.bases[name]
    else:
        base = _base_image(settings)
        table = observers.read_trials(path, **options)
        where: dict[str, Any] = {"noise": settings.noise, "shape": settings.image_shape, "seed": settings.seed}
        trials, shown = observers.found_stimuli(path, table, folder=settings.stimuli, **where, report=report)
        if base is not None:
            observers.on_base(np.zeros(shown.shape), base)  # or it says what is wrong, before any figure
    group = observers.analyse_group(
        trials, shown, permutations=settings.permutations, seed=settings.seed, report=report
    )
    analyses = group.analyses
    found, agreed = group.findings, group.agreement
    answer = "yes" if next(iter(trials.values())).second is None else "first"
    answer = answer if file is None else "original"
    across = group.map.degrees_of_freedom is not None
    counts = {test: None if inside is None else int(inside.sum()) for test, inside in found.significant.items()}
    metrics: dict[str, Any] = {
        "participants": {
            who: {
                "trials": of.moments["choice"].num_samples,
                f"answered_{answer}": int(of.moments["choice"].count[0]),
                "reliability": or_none(agreed.reliability[i]),
                "info_val": group.info_val[who] and or_none(group.info_val[who]),
                "correlation_with_others": or_none(agreed.correlation[i]),
                "corrected_correlation_with_others": or_none(agreed.corrected[i]),
            }
            for i, (who, of) in enumerate(analyses.items())
        },
        "group": {
            "participants_with_a_map": group.with_a_map,
            "error": "across participants and stimuli" if across else "of trials",
            "significant_pixels": counts,
            "info_val": (or_none(found.info_val) or [None])[0],
            "icc": agreed.icc and agreed.icc._asdict(),
        },
        "noise": shown.name,
    }
    arrays: dict[str, Mapping[str, Any]] = {
        f"participant_{i}_{as_file_name(who)}.npz": of.arrays() for i, (who, of) in enumerate(analyses.items(), start=1)
    }
    if group.with_a_map:
        arrays["maps.npz"] = {
            "group_map": group.map.images[0].filled(np.nan),
            "group_standard_error": group.map.standard_error[0].filled(np.nan),
            "group_z": found.z[0].filled(0),
        } | {f"significant_{test}": inside[0] for test, inside in found.significant.items() if inside is not None}

    image, of_rcicr = group.map.images[0], list[str]()
    if file is not None:
        image, arrays["ci.npz"], of_rcicr = _as_rcicr(file, path, table, name, settings.seed, metrics)
    picture = None
    if base is not None and group.with_a_map:
        picture = observers.on_base(image, base, settings.scaling, settings.scaling_constant)

    of_kinds = observers.maps_by_kind(trials, shown)
    z_of = {kind: statistics.z_map(of) for kind, of in of_kinds.items()}
    inside = {kind: statistics.significant_pixels(z, num_maps=len(of_kinds))[0] for kind, z in z_of.items()}
    if of_kinds:
        metrics["kinds"] = {
            kind: {
                "trials": sum(int(np.sum(own.classes == kind)) for own in trials.values()),
                f"answered_{answer}": int(of.count[0]),
                "significant_pixels": int(inside[kind].sum()),
            }
            for kind, of in of_kinds.items()
        }
        arrays["kinds.npz"] = {
            f"{name}_{as_file_name(kind)}": image[0].filled(np.nan)
            for kind, of in of_kinds.items()
            for name, image in (("map", of.images), ("standard_error", of.standard_error))
        }

    def draw() -> launch.Drawn:
        who = f"{len(analyses)} participants" if len(analyses) > 1 else next(iter(analyses))
        total = sum(of.moments["choice"].num_samples for of in analyses.values())
        seen = shown.name.removeprefix("difference of two ").removeprefix("twice ")
        title = f"What observers see in {seen} noise: {who}, {total:,} trials"
        yield "observers.png", figures.observers(group, title, picture, answer)
        if of_kinds:
            yield "kinds.png", figures.panels({"group": panels_of_kinds()}, f"{title}, by kind of trial", _OF_KINDS)

    def panels_of_kinds() -> list[figures.Panel]:
        found = []
        for kind, of in of_kinds.items():
            count, said = metrics["kinds"][kind]["trials"], int(of.count[0])
            caption = (
                f"{count:,} trials, {figures.percent(said / count)} {answer}\n{inside[kind].sum()} significant pixels"
            )
            outline = inside[kind].any(axis=-1)
            found.append(figures.Panel(of.in_standard_errors[0], kind, True, outline, caption))
        return found

    for who, of in analyses.items():
        count, total = int(of.moments["choice"].count[0]), of.moments["choice"].num_samples
        if count in (0, total):
            warnings.warn(f"all {total:,} answers of {who} are the same: there is no map of them", stacklevel=2)
    said = ", ".join(f"{test} {'not tested' if count is None else count}" for test, count in counts.items())
    summary = [
        f"participants    {len(analyses)} ({group.with_a_map} have a map), error {metrics['group']['error']}",
        f"significant     {said}",
        f"infoVal         {'not known' if (info := metrics['group']['info_val']) is None else f'{info:.2f}'}",
    ]
    if agreed.icc:
        summary.append(f"ICC             (2,k) {agreed.icc.average:.3f}, (2,1) {agreed.icc.single:.3f}")
    return launch.Result(metrics, summary + of_rcicr, draw, arrays)


def _as_rcicr(
    file: rcicr.StimulusFile, path: Path, table: Mapping[str, Trials], base: str, seed: int, metrics: dict[str, Any]
) -> tuple[np.ndarray, dict[str, Any], list[str]]:
    """The group's image as rcicr defines it, the arrays of a file, and lines of the summary; fills in the metrics."""
    images = {who: file.classification_image(own, base=base) for who, own in table.items()}
    group = np.mean([*images.values()], axis=0)
    arrays = {"ci_group": group[..., 0], "base": file.bases[base][..., 0]}
    for i, (who, own) in enumerate(table.items(), start=1):
        arrays[f"ci_{i}_{as_file_name(who)}"] = images[who][..., 0]
        metrics["participants"][who]["info_val_rcicr"] = file.info_val(own, base=base, seed=seed)
    z = statistics.z_map(file.parameter_map(path, table, base=base))
    found = {"of": file.patterns.count, "significant": int(statistics.significant_pixels(z).sum())}
    metrics["group"]["parameters"] = found
    info = [each["info_val_rcicr"] for each in metrics["participants"].values() if each["info_val_rcicr"] is not None]
    summary = [
        f"parameters      {found['significant']} of {found['of']:,} significant, tested one by one",
        f"rcicr           infoVal {f'{np.median(info):.2f}' if info else 'not known'} (median of participants); its "
        "images in ci.npz",
    ]
    return group, arrays, summary


def _columns(settings: Settings) -> dict[str, str] | None:
    if settings.columns is None:
        return None
    pairs = [pair.partition(":") for pair in settings.columns]
    for name, colon, given in pairs:
        if not (name and colon and given):
            raise InputError(f"columns has {name + colon + given!r}: expected NAME:COLUMN, such as stimulus:stim")
    return {name.strip(): given for name, _, given in pairs}


if __name__ == "__main__":
    launch.main(run, Settings)
