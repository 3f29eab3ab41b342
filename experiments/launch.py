"""What stands around an experiment: flags to settings, files from results, and how errors end it."""

import difflib
import functools
import importlib.metadata
import platform
import signal
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from matplotlib.figure import Figure

import wna_jax
from experiments.settings import Settings, as_text, rules_of
from wna_jax.runs import files, processes
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Report


@dataclass(frozen=True)
class Result:
    """What an experiment found; `main` writes it."""

    metrics: Mapping[str, Any]
    """Numbers as JSON values, for metrics.json."""
    summary: Sequence[str] = ()
    """The last lines on the terminal."""
    figures: Mapping[str, Callable[[], Figure]] = field(default_factory=dict)
    """By file name, such as "maps.png": functions that draw, called when the figure is written."""
    arrays: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By file name, such as "maps.npz": arrays by name."""
    metrics_file: str = "metrics.json"

    def write(self, directory: Path, settings: Settings) -> None:
        """Writes the figures last: nothing that was found is lost to a figure that cannot be drawn."""
        files.write_json(directory / self.metrics_file, self.metrics)
        for name, arrays in self.arrays.items():
            files.write_arrays(directory / name, **arrays)
        files.write_json(directory / "config.json", asdict(settings) | {"environment": environment()})
        for name, draw in self.figures.items():
            with files.replacing(directory / name) as temporary:
                draw().savefig(temporary, dpi=150)


Run = Callable[[Any, Report], Result]
"""An experiment: settings, and where to report progress -> result."""


def main(run: Run, settings_type: type[Settings]) -> None:
    """Runs an experiment from the command line: flags to settings, files from its result; a user's error is one line.

    Args:
        run: the experiment.
        settings_type: its settings; each field is a flag.
    """
    experiment = Path(sys.modules["__main__"].__file__ or "experiment").stem

    def guarded(argv: Sequence[str]) -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's way to say Ctrl-C
        logging.set_verbosity(logging.WARNING)  # Orbax and JAX tell much that no user needs
        try:
            if len(argv) > 1:
                raise InputError(f"unexpected argument {argv[1]!r}: every setting is a --flag, see --help")
            settings = settings_of(settings_type, experiment)
            processes.keep_freed_memory()
            processes.keep_compiled_programs()
            processes.join(*(flags.FLAGS[name].value for name in _PROCESS_FLAGS))
            execute(run, settings)
        except InputError as error:
            sys.exit(_complain(str(error), 2))
        except OSError as error:
            sys.exit(_complain(f"{error.filename or 'a file'} cannot be read or written ({error.strerror})", 1))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            sys.exit(_complain("out of memory: lower --batch_size", 1))
        except KeyboardInterrupt:
            sys.exit(_complain("interrupted: the same command goes on with what is done", 130))

    app.run(guarded, flags_parser=functools.partial(parse, settings_type))


def execute(run: Run, settings: Settings) -> Result:
    """Runs an experiment and writes its result to the output folder, which is tried first.

    In a job of several processes every process ends with the full result, and only process 0 writes files.
    """
    files.check_writable("output", settings.folder, "give another --out_dir")
    with processes.reporting(settings.folder / "log.jsonl") as report:
        result = run(settings, report)
    if processes.is_first():
        result.write(settings.folder, settings)
        for line in result.summary:
            print(line)
    return result


def environment() -> dict[str, Any]:
    """What a result was made with: versions, device, random generator."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "wna_jax": wna_jax.__version__,
        **{package: importlib.metadata.version(package) for package in packages},
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "random_generator": f"threefry2x32-20 (wna_jax.noise.random), keys {jax.random.key_impl(jax.random.key(0))}",
    }


_PROCESS_FLAGS = {
    "coordinator": "HOST:PORT of process 0 of a job of several processes, or auto on a cluster that JAX knows.",
    "num_processes": "Number of processes in the job, with --coordinator=HOST:PORT.",
    "process_id": "Number of this process, from 0 on, with --coordinator=HOST:PORT.",
}


def define_flags(settings_type: type[Settings]) -> None:
    """Defines one flag per field of the settings, and those of a job of several processes."""
    kinds = settings_type.field_kinds()
    for each in fields(settings_type):
        kind, rules = kinds[each.name], rules_of(each)
        if kind.is_list:
            default = None if each.default is None else as_text(each.default)
            flags.DEFINE_list(each.name, default, rules.help)
        else:
            define: Any = {int: flags.DEFINE_integer, float: flags.DEFINE_float, bool: flags.DEFINE_boolean}
            define.get(kind.item, flags.DEFINE_string)(each.name, each.default, rules.help)
    flags.DEFINE_string("coordinator", None, _PROCESS_FLAGS["coordinator"])
    flags.DEFINE_integer("num_processes", None, _PROCESS_FLAGS["num_processes"], lower_bound=1)
    flags.DEFINE_integer("process_id", None, _PROCESS_FLAGS["process_id"], lower_bound=0)


def parse(settings_type: type[Settings], argv: Sequence[str]) -> list[str]:
    """Reads the command line into flags; what is left over is returned. Help and errors end the program."""
    define_flags(settings_type)
    if {"--help", "-h", "--helpshort", "--helpfull"} & set(argv[1:]):
        print(help_text(settings_type, sys.modules["__main__"].__doc__ or ""))
        sys.exit(0)
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        known = [each.name for each in fields(settings_type)]
        text = " ".join(str(error).split())
        if isinstance(error, flags.UnrecognizedFlagError):
            close = difflib.get_close_matches(error.flagname, known, n=1)
            hint = f" (did you mean --{close[0]}?)" if close else ""
            text = f"--{error.flagname} is no flag of this experiment{hint}"
        sys.exit(_complain(f"{text}: see --help for the flags of this experiment", 2))


def settings_of(settings_type: type[Settings], experiment: str) -> Settings:
    """The settings that the flags say."""
    kinds, values = settings_type.field_kinds(), {}
    for each in fields(settings_type):
        value = flags.FLAGS[each.name].value
        if kinds[each.name].is_list and value is not None:
            value = _items(each.name, value, kinds[each.name].item, each.default)
        values[each.name] = value
    given = [name for name in values if not flags.FLAGS[name].using_default_value]
    return settings_type(**values).placed(experiment, given)


def help_text(settings_type: type[Settings], docstring: str) -> str:
    """An experiment's docstring and its flags with their defaults, those that are its own first."""
    lines = [docstring.strip(), "", "Flags:"]
    for each in sorted(fields(settings_type), key=lambda each: each.name in Settings.__dataclass_fields__):
        default = "" if each.default is None else f" [{as_text(each.default)}]"
        lines += _entry(each.name, rules_of(each).help + default)
    lines += [line for name, text in _PROCESS_FLAGS.items() for line in _entry(name, text)]
    return "\n".join(lines)


def _entry(name: str, text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=f"  --{name}".ljust(22), subsequent_indent=" " * 22)


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
