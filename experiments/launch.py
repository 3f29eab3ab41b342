"""What stands around an experiment: flags to settings, files from results, and how errors end it."""

import contextlib
import difflib
import errno
import functools
import importlib.metadata
import os
import platform
import shlex
import signal
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from matplotlib.figure import Figure

import wna_jax
from experiments.settings import Settings, as_text, rules_of, types_of
from wna_jax import figures
from wna_jax.analysis import report
from wna_jax.runs import files, processes
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Report as Report
from wna_jax.runs.progress import silent as silent
from wna_jax.runs.seeds import key_of

Drawn = Iterator[tuple[str, Figure]]
"""File names, such as "maps.png", and figures; each is drawn when it is asked for."""


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Result:
    """What an experiment found; `main` writes it.

    Attributes:
        metrics: numbers as JSON values, for the `metrics_file`.
        summary: the last lines on the terminal, before that which names the report.
        draw: draws the figures.
        arrays: by file name, such as "maps.npz": arrays by name.
        analysis: whose maps report.html shows pixel by pixel, if there are any.
    """

    metrics: Mapping[str, Any]
    summary: Sequence[str] = ()
    draw: Callable[[], Drawn] = lambda: iter(())
    arrays: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    metrics_file: str = "metrics.json"
    analysis: wna_jax.Analysis | None = None

    def write(self, directory: Path, settings: Settings) -> list[str]:
        """Writes all files, figures in each format that is asked for, and returns the names of the figures.

        They are drawn last, and each is by itself: nothing else is lost to one that cannot be drawn or written. What
        there is stands in report.html, too.

        Raises:
            InputError: some could not be drawn or written; all else is.
            OSError: the disk is full, or other files cannot be written.
        """
        files.write_json(directory / self.metrics_file, self.metrics)
        for name, arrays in self.arrays.items():
            files.write_arrays(directory / name, **arrays)
        files.write_json(directory / "config.json", asdict(settings) | {"environment": environment()})
        pictures: list[report.Picture] = []
        failed: dict[str, str] = {}
        drawn = self.draw()
        while True:
            drawing = None
            with processes.uninterrupted():  # matplotlib would take a signal for a failure of its own
                with _noted("the next figure", failed):
                    drawing = next(drawn, None)
                if drawing is None:
                    break
                paths = []
                for kind in dict.fromkeys(settings.figures):
                    name = str(Path(drawing[0]).with_suffix(f".{kind}"))
                    with _noted(name, failed):
                        with files.replacing(directory / name) as temporary:
                            figures.save(drawing[1], temporary)
                        paths.append(directory / name)
                if paths:
                    pictures.append(report.Picture(paths, str(drawing[1].get_label())))
        self._report(directory, settings, pictures)
        if failed:
            which = "; ".join(f"{name} ({why})" for name, why in failed.items())
            raise InputError(f"not drawn: {which}. The numbers and all other figures are in {directory}")
        return [path.name for picture in pictures for path in picture.paths]

    def _report(self, directory: Path, settings: Settings, pictures: Sequence[report.Picture]) -> None:
        module = sys.modules[type(settings).__module__]
        values = {name: as_text(value) for name, value in asdict(settings).items() if value is not None}
        report.write(
            directory,
            (module.__doc__ or directory.name).strip().splitlines()[0],
            summary=self.summary,
            command=command_of(settings),
            settings=values | environment(),
            metrics=self.metrics,
            pictures=pictures,
            analysis=self.analysis,
        )


def command_of(settings: Settings) -> str:
    """The command that makes a run again, with the flags that differ from their defaults."""
    experiment = Path(sys.modules[type(settings).__module__].__file__ or "experiment").stem
    values = {each.name: getattr(settings, each.name) for each in fields(settings)}
    given = {each.name: values[each.name] for each in fields(settings) if values[each.name] != each.default}
    if settings == replace(settings, out_dir=None).placed(experiment, tuple(given)):
        del given["out_dir"]
    flag = {name: f"--{name}={as_text(value)}" for name, value in given.items()}
    flag |= {name: f"--{'' if value else 'no'}{name}" for name, value in given.items() if isinstance(value, bool)}
    return shlex.join(["python", "-m", f"experiments.{experiment}", *flag.values()])


@contextlib.contextmanager
def _noted(name: str, failed: dict[str, str]) -> Iterator[None]:
    """Notes why a figure failed, whatever matplotlib raises; nothing more can be written to a full disk."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        failed[name] = why.splitlines()[0] if why else type(error).__name__


def main(run: Callable[[Any, Report], Result], settings_type: type[Settings], positional: Sequence[str] = ()) -> None:
    """Runs an experiment from the command line: flags to settings, files from its result; an error in one line.

    Arguments without the name of a flag are those of the flags in `positional`, in this order.

    The process ends with status 0; 2 where the user can mend what is wrong, 1 where the machine's limits end the run (a
    full disk, memory); 130 after Ctrl-C and 143 after SIGTERM, as shells count signals.
    """
    experiment = Path(sys.modules["__main__"].__file__ or "experiment").stem

    def guarded(argv: Sequence[str]) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C, and a batch system's way to say it
            signal.signal(number, _interrupt)
        sys.unraisablehook = _interrupt_again
        for stream in (sys.stdout, sys.stderr):  # of a class name that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"  # without a line of the program
        logging.set_verbosity(logging.WARNING)  # Orbax and JAX tell much that no user needs
        try:
            if extra := argv[1 + len(positional) :]:
                raise InputError(f"unexpected argument {extra[0]!r}: every setting is a --flag, see --help")
            for name, value in zip(positional, argv[1:], strict=False):
                setattr(flags.FLAGS, name, value)
            settings = settings_of(settings_type, experiment)
            processes.keep_freed_memory()
            processes.keep_compiled_programs()
            processes.join(*(flags.FLAGS[name].value for name in _PROCESS_FLAGS))
            _check_device()
            execute(run, settings)
            for number in (signal.SIGINT, signal.SIGTERM):  # all is done; Python's own end would give them back
                signal.signal(number, signal.SIG_IGN)
        except InputError as error:
            sys.exit(_complain(str(error), 2))
        except OSError as error:
            where = error.filename or "a file"
            why = error.strerror or type(error).__name__
            sys.exit(_complain(f"{where} cannot be read or written ({why}): the same command goes on with the rest", 1))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            sys.exit(_complain("out of memory: lower --batch_size", 1))
        except KeyboardInterrupt as error:
            number = error.args[0] if error.args else signal.SIGINT
            processes.leave(_complain("interrupted: the same command goes on with what is done", 128 + number))

    app.run(guarded, flags_parser=functools.partial(parse, settings_type))


def execute(run: Callable[[Any, Report], Result], settings: Settings) -> Result:
    """Runs an experiment and writes its result to the output folder, which is tried first.

    In a job of several processes every process ends with the full result, and only process 0 writes files.
    """
    with _made_for_results(settings.folder):
        files.check_writable("output", settings.folder, "give another --out_dir")
        alone = files.locked(settings.folder / ".lock") if processes.is_first() else contextlib.nullcontext(True)
        with alone as is_alone:
            if not is_alone:
                raise InputError(f"another job is writing to {settings.folder}: wait for it, or give another --out_dir")
            with processes.reporting(settings.folder / "log.jsonl") as progress:
                result = run(settings, progress)
            if processes.is_first():
                result.write(settings.folder, settings)
                for line in (*result.summary, f"look at         {settings.folder / report.FILE}"):
                    print(line)
    return result


@contextlib.contextmanager
def _made_for_results(folder: Path) -> Iterator[None]:
    """A folder that is made here, and in which there is nothing but a log when the run is refused, is removed again."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        yield
    except InputError:
        if made and {path.name for path in folder.glob("*")} == {"log.jsonl"}:
            (folder / "log.jsonl").unlink()
        with contextlib.suppress(OSError):  # it holds something
            for each in made:
                each.rmdir()
        raise


def _interrupt(number: int, _: Any) -> None:
    raise KeyboardInterrupt(number)


def _interrupt_again(unraisable: Any) -> None:
    """Python drops an exception that a signal raises in a destructor: the signal is sent once more."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        threading.Timer(0.1, os.kill, (os.getpid(), *unraisable.exc_value.args)).start()
    else:
        sys.__unraisablehook__(unraisable)


def _check_device() -> None:
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # either, for JAX_PLATFORMS=cuda without a GPU
        asked = os.environ.get("JAX_PLATFORMS", "")
        problem = (str(error) or "none of this platform").splitlines()[0][:160]
        way_out = f"JAX_PLATFORMS is {asked!r}, leave it out or say cpu"
        raise InputError(f"JAX finds no device ({problem}): {way_out}") from error


def _define_whole(name: str, default: int | None, help: str) -> None:
    flags.DEFINE(_WholeNumber(), name, default, help, serializer=flags.ArgumentSerializer())


class _WholeNumber(flags.IntegerParser):
    """Also takes 1e6 and 1_000_000."""

    def convert(self, argument: Any) -> int:
        try:
            return super().convert(argument)
        except ValueError:
            with contextlib.suppress(ValueError):
                if (number := float(argument)).is_integer():
                    return int(number)
            raise ValueError("write a whole number as 10000, 10_000 or 1e4") from None


def environment() -> dict[str, Any]:
    """What a result was made with: versions, device, random generator."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "wna_jax": wna_jax.__version__,
        **{package: importlib.metadata.version(package) for package in packages},
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "random_generator": f"threefry2x32-20 (wna_jax.noise.random), keys {jax.random.key_impl(key_of(0))}",
    }


_PROCESS_FLAGS = {
    "coordinator": "HOST:PORT of process 0 of a job of several processes, or auto on a cluster that JAX knows.",
    "num_processes": "Number of processes in the job, with --coordinator=HOST:PORT.",
    "process_id": "Number of this process, from 0 on, with --coordinator=HOST:PORT.",
}


def parse(settings_type: type[Settings], argv: Sequence[str]) -> list[str]:
    """Reads the command line into one flag per field of the settings, and those of a job of several processes.

    Returns what is left over. Help and errors end the program.
    """
    define: Any = {int: _define_whole, float: flags.DEFINE_float, bool: flags.DEFINE_boolean}
    types = types_of(settings_type)
    for each in fields(settings_type):
        item, is_list = types[each.name]
        if is_list:
            flags.DEFINE_list(each.name, None if each.default is None else as_text(each.default), rules_of(each).help)
        else:
            define.get(item, flags.DEFINE_string)(each.name, each.default, rules_of(each).help)
    flags.DEFINE_string("coordinator", None, _PROCESS_FLAGS["coordinator"])
    flags.DEFINE_integer("num_processes", None, _PROCESS_FLAGS["num_processes"], lower_bound=1)
    flags.DEFINE_integer("process_id", None, _PROCESS_FLAGS["process_id"], lower_bound=0)
    if {"--help", "-h", "--helpshort", "--helpfull"} & set(argv[1:]):
        print(help_text(settings_type, sys.modules["__main__"].__doc__ or ""))
        sys.exit(0)
    flags.FLAGS.set_gnu_getopt()  # flags may follow other arguments
    try:
        return flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        close = difflib.get_close_matches(error.flagname, [each.name for each in fields(settings_type)], n=1)
        hint = f" (did you mean --{close[0]}?)" if close else ""
        text = f"--{error.flagname} is no flag of this experiment{hint}"
    except flags.Error as error:
        text = " ".join(str(error).split())
    sys.exit(_complain(f"{text}: see --help for the flags of this experiment", 2))


def settings_of(settings_type: type[Settings], experiment: str) -> Settings:
    """The settings that the flags say."""
    types, values = types_of(settings_type), dict[str, Any]()
    for each in fields(settings_type):
        value, (item, is_list) = flags.FLAGS[each.name].value, types[each.name]
        values[each.name] = _items(each.name, value, item, each.default) if is_list and value is not None else value
    given = [name for name in values if not flags.FLAGS[name].using_default_value]
    return settings_type(**values).placed(experiment, given)


def help_text(settings_type: type[Settings], docstring: str) -> str:
    """An experiment's docstring and its flags with their defaults, those that are its own first."""
    texts = {}
    for each in sorted(fields(settings_type), key=lambda each: each.name in Settings.__dataclass_fields__):
        texts[each.name] = rules_of(each).help + ("" if each.default is None else f" [{as_text(each.default)}]")
    lines = [docstring.strip(), "", f"{report.FILE} in the output folder has all of it on one page.", "", "Flags:"]
    for name, text in (texts | _PROCESS_FLAGS).items():
        lines += textwrap.wrap(text, 100, initial_indent=f"  --{name}".ljust(22), subsequent_indent=" " * 22)
    return "\n".join(lines)


def _items(name: str, texts: Sequence[str], item: type, default: Any) -> tuple:
    try:
        return tuple(item(text) for text in texts)
    except ValueError:
        example = f", such as {as_text(default)}" if default else ""
        number = "whole numbers" if item is int else "numbers"
        raise InputError(f"{name} is {','.join(texts)!r}: expected {number} separated by commas{example}") from None


def _complain(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status
