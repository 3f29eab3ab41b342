"""The settings of an experiment: a dataclass whose fields are the flags, with their defaults, limits and help."""

import dataclasses
import types
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, Union, get_args, get_origin, get_type_hints

from wna_jax import noise
from wna_jax.correlation import SAMPLINGS
from wna_jax.networks import models
from wna_jax.runs.errors import InputError, unknown_name
from wna_jax.runs.files import as_file_name


class Rules(NamedTuple):
    """What is known of a setting besides its name, type and default."""

    help: str
    at_least: float | None = None
    at_most: float | None = None
    choices: tuple[str, ...] | None = None
    """The names that are allowed; in a list, each of them."""
    kind: str | None = None
    """What a name is called in an error, such as "condition"."""
    names_folder: bool = False
    """Given explicitly, it is part of the default output folder's name: it makes another experiment of the run."""


def setting(default: Any, help: str, **rules: Any) -> Any:
    """A field of `Settings`: its default, a help text of whole sentences, and the fields of `Rules`."""
    return field(default=default, metadata={"rules": Rules(help, **rules)})


class Kind(NamedTuple):
    """The type of a setting."""

    item: type
    """str, int, float or bool."""
    is_list: bool
    is_optional: bool


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every experiment has. A subclass adds its own fields, each declared once, by `setting`.

    Raises:
        InputError: a value that breaks its field's rules, when the settings are made.
    """

    IN_FOLDER: ClassVar[tuple[tuple[str, str], ...]] = (
        *(("dataset", ""), ("model", ""), ("noise", "")),
        *(("train_seed", "train"), ("seed", "seed")),
    )
    """Settings that are always part of the default output folder's name, and what stands before each."""

    out_dir: str | None = setting(
        None, "Where results are written; by default a folder of runs/ named by the settings."
    )

    def __post_init__(self) -> None:
        """Checks every field against its rules."""
        kinds = self.field_kinds()
        for each in fields(self):
            value, rules = getattr(self, each.name), rules_of(each)
            for one in value if kinds[each.name].is_list and value is not None else [value]:
                _check(each.name, one, rules, value)
            if kinds[each.name].is_list and value is not None and not len(value):
                choose = f"choose from {', '.join(rules.choices)}" if rules.choices else "give at least one"
                raise InputError(f"{each.name} is empty: {choose}")

    @classmethod
    def field_kinds(cls) -> dict[str, Kind]:
        """The type of each field by its name."""
        hints = get_type_hints(cls)
        return {each.name: _kind_of(hints[each.name]) for each in fields(cls)}

    def placed(self, experiment: str, given: Sequence[str] = ()) -> Self:
        """The settings with an output folder, named by the experiment and what was given."""
        if self.out_dir is not None:
            return self
        own = {each.name: rules_of(each) for each in fields(self)}
        parts = [
            f"{text}{getattr(self, name)}"
            for name, text in self.IN_FOLDER
            if name in own and getattr(self, name) is not None
        ]
        parts += [f"{name}_{as_text(getattr(self, name))}" for name in own if name in given and own[name].names_folder]
        return dataclasses.replace(self, out_dir=str(Path("runs") / experiment / as_file_name("-".join(parts))))

    @property
    def folder(self) -> Path:
        """The output folder."""
        return Path(self.out_dir or "runs")


@dataclass(frozen=True, kw_only=True)
class DataSettings(Settings):
    """The settings of an experiment on a data set."""

    dataset: str = setting(
        "digits",
        "The data set: digits (needs no files), mnist, fashion_mnist, cifar10, folder:PATH or tfds:NAME. Class names "
        "behind it choose some of its classes, as in mnist:5,6.",
    )
    data_dir: str | None = setting(
        None, "A folder with one folder per data set, such as DIR/mnist/*.gz. What is missing is downloaded."
    )


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(DataSettings):
    """The settings of an experiment on a trained network."""

    model: str = setting("paper_cnn", f"The network: {', '.join(models.NAMES)}.")
    epochs: int | None = setting(
        None, "Passes over the training images. By default as many as the data set and the network need."
    )
    train_seed: int = setting(0, "Random seed of the training.", at_least=0, at_most=2**32 - 1)
    checkpoint_dir: str = setting("runs/checkpoints", "Where trained networks are kept, and found again.")
    retrain: bool = setting(False, "Train even if there is a checkpoint, and replace it.")


@dataclass(frozen=True, kw_only=True)
class NoiseSettings(NetworkSettings):
    """The settings of an experiment that shows noise to a trained network."""

    noise: str = setting(
        "matched",
        f"The noise: {', '.join(noise.NAMES)}. Uniform noise lies in [0, 1]; matched noise has the mean and deviation "
        "of the training pixels.",
    )
    seed: int = setting(0, "Random seed of the noise.", at_least=0, at_most=2**32 - 1)


@dataclass(frozen=True, kw_only=True)
class LoopSettings(NoiseSettings):
    """The settings of an experiment that streams noise samples through the loop."""

    num_samples: int = setting(1_000_000, "How many noise samples to draw.", at_least=1)
    batch_size: int | None = setting(
        None,
        "Noise samples per network pass. By default 256 on a CPU and 16,384 on an accelerator, with fields 4,096 and "
        "65,536 (wna_jax/correlation/loop.py).",
        at_least=1,
    )


@dataclass(frozen=True, kw_only=True)
class SamplingSettings(LoopSettings):
    """The settings of an experiment that may draw its samples as windows of a field."""

    sampling: str = setting(
        "auto",
        "How samples are drawn: independent images, overlapping windows of a larger field (several times faster), or "
        "auto: a field where noise and network allow it and at least 20,480 samples are asked for.",
        choices=SAMPLINGS,
    )


def rules_of(each: dataclasses.Field) -> Rules:
    """The rules of a field."""
    return each.metadata["rules"]


def as_text(value: Any) -> str:
    """A value as its flag takes it."""
    return ",".join(map(as_text, value)) if isinstance(value, tuple | list) else f"{value}"


def _kind_of(hint: Any) -> Kind:
    is_optional = get_origin(hint) in (Union, types.UnionType)
    if is_optional:
        (hint,) = (each for each in get_args(hint) if each is not type(None))
    if get_origin(hint) is tuple:
        return Kind(get_args(hint)[0], True, is_optional)
    return Kind(hint, False, is_optional)


def _check(name: str, value: Any, rules: Rules, whole: Any) -> None:
    if value is None:
        return
    if rules.choices and value not in rules.choices:
        raise unknown_name(rules.kind or name, value, rules.choices)
    low, high = rules.at_least, rules.at_most
    if low is None and high is None:
        return
    if not (low is None or value >= low) or not (high is None or value <= high) or abs(value) == float("inf"):
        ends = {
            (True, True): lambda: f"from {low:,} to {high:,}",
            (True, False): lambda: f"of at least {low:,}",
            (False, True): lambda: f"of at most {high:,}",
        }[low is not None, high is not None]()
        what = "numbers" if isinstance(whole, tuple | list) else "a number"
        raise InputError(f"{name} is {as_text(whole)}: expected {what} {ends}")
