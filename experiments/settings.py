"""The settings of an experiment: a dataclass whose fields are the flags, with their defaults, limits and help."""

import dataclasses
import math
import types
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, dataclass_transform, get_args, get_origin, get_type_hints

from wna_jax import noise
from wna_jax.correlation import SAMPLINGS
from wna_jax.networks import PRECISIONS, augmentation, foreign, models, regimes
from wna_jax.runs.errors import InputError, unknown_name
from wna_jax.runs.files import as_file_name
from wna_jax.studies import attributions


class Rules(NamedTuple):
    """What is known of a setting besides its name, type and default.

    A name is one of the `choices` (in a list, each of them); an error calls it by its `kind`, such as "condition".
    """

    help: str
    at_least: float | None = None
    at_most: float | None = None  # only with at_least
    choices: tuple[str, ...] | None = None
    kind: str | None = None
    names_folder: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raises an InputError if a value, or one in a list of them, breaks the rules."""
        low, high, is_list = self.at_least, self.at_most, isinstance(value, tuple | list)
        if is_list and not value:
            choose = f"choose from {', '.join(self.choices)}" if self.choices else "give at least one"
            raise InputError(f"{name} is empty: {choose}")
        for item in value if is_list else [value]:
            if self.choices and item not in self.choices:
                raise unknown_name(self.kind or name, item, self.choices)
            if low is not None and not (low <= item < math.inf and (high is None or item <= high)):
                ends = f"of at least {low:,}" if high is None else f"from {low:,} to {high:,}"
                what = "numbers" if is_list else "a number"
                raise InputError(f"{name} is {as_text(value)}: expected {what} {ends}")


def setting(default: Any, help: str, **rules: Any) -> Any:
    """A field of `Settings`: its default, a help text of whole sentences, and the fields of `Rules`."""
    return field(default=default, metadata={"rules": Rules(help, **rules)})


def choice(default: Any, help: str, **rules: Any) -> Any:
    """A `setting` that makes another experiment of the run: if it is given, it is in the output folder's name."""
    return setting(default, help, names_folder=True, **rules)


@dataclass_transform(kw_only_default=True, frozen_default=True)
@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every experiment has. A subclass, itself a dataclass, adds fields, each declared once, by `setting`.

    Raises:
        InputError: a value that breaks its field's rules, when the settings are made.
    """

    IN_FOLDER: ClassVar = {"dataset": "", "model": "", "noise": "", "train_seed": "train", "seed": "seed"}
    """Settings that are always part of the default output folder's name, and what stands before each."""

    out_dir: str | None = setting(
        None, "Where results are written; by default a folder of runs/ named by the settings."
    )

    figures: tuple[str, ...] = setting(
        ("png",), "The formats of figures: png, pdf, svg, or several of them.", choices=("png", "pdf", "svg")
    )

    def __init_subclass__(cls) -> None:
        """Makes a dataclass of each subclass."""
        dataclass(frozen=True, kw_only=True)(cls)

    def __post_init__(self) -> None:
        """Checks every field against its rules; None is always allowed."""
        for each in fields(self):
            if (value := getattr(self, each.name)) is not None:
                rules_of(each).check(each.name, value)

    def placed(self, experiment: str, given: Sequence[str] = ()) -> Self:
        """The settings with an output folder, named by the experiment and what was given."""
        if self.out_dir is not None:
            return self
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        own = [each.name for each in fields(self) if each.name in given and rules_of(each).names_folder]
        parts = [f"{text}{values[name]}" for name, text in self.IN_FOLDER.items() if values.get(name) is not None]
        parts += [f"{name}_{as_text(values[name])}" for name in own]
        return dataclasses.replace(self, out_dir=str(Path("runs") / experiment / as_file_name("-".join(parts))))

    @property
    def folder(self) -> Path:
        """The output folder."""
        return Path(self.out_dir or "runs").expanduser()


class DataSettings(Settings):
    """The settings of an experiment on a data set."""

    dataset: str = setting(
        "digits",
        "The data set: digits (needs no files), mnist, fashion_mnist, cifar10, folder:PATH (images), arrays:PATH (NPZ, "
        "NPY or IDX files) or tfds:NAME. Class names behind it choose some of its classes, as in mnist:5,6.",
    )
    data_dir: str | None = setting(
        None, "A folder with one folder per data set, such as DIR/mnist/*.gz. What is missing is downloaded."
    )
    image_size: int | None = choice(
        None,
        "Resize images to this number of pixels per side, whatever their shape. By default they stay as they are.",
        at_least=8,
        at_most=512,
    )


class NetworkSettings(DataSettings):
    """The settings of an experiment on a trained network."""

    TAKES_OWN_NETWORKS: ClassVar = False
    """Whether `model` may name a function of the user's own."""

    model: str = setting(
        "paper_cnn",
        f"The network: {', '.join(models.NAMES)}. Many experiments also take one of your own, by the name of a "
        "function that returns it: my_package.my_module:create or path/to/file.py:create (docs/networks.md).",
    )
    epochs: int | None = setting(
        None, "Passes over the training images. By default as many as the data set and the network need."
    )
    train_seed: int = setting(0, "Random seed of the training.", at_least=0, at_most=2**32 - 1)
    checkpoint_dir: str = setting("runs/checkpoints", "Where trained networks are kept, and found again.")
    retrain: bool = setting(False, "Train even if there is a checkpoint, and replace it.")


class AugmentationSettings(NetworkSettings):
    """The settings of an experiment on one network, whose training images may be changed."""

    augmentation: str | None = choice(
        None,
        f"How the training images are changed: {', '.join(augmentation.NAMES)}, blur:PIXELS, noise:DEVIATION, "
        "adversarial:EPSILON (numbers but for PIXELS in units of pixel intensity, black 0 and white 1), several joined "
        "by _ as in flip_shift, or none. By default flip_shift on CIFAR-10, none on other data.",
    )

    def __post_init__(self) -> None:
        """Checks the augmentation before anything is loaded."""
        super().__post_init__()
        if self.augmentation is not None and foreign.is_named(self.model):
            way_out = "leave it out, or take a network that is trained here"
            raise InputError(f"augmentation is {self.augmentation!r}, and {self.model} is trained already: {way_out}")
        regimes.of_text(None if self.augmentation == "none" else self.augmentation)


class PictureSettings(NetworkSettings):
    """The settings of an experiment about single pictures, with noise around them and pixels that are removed."""

    contrast: float | None = choice(
        None,
        "Deviation of the noise in units of pixel intensity (black 0, white 1). By default a threshold: that at which "
        "the answer is given in three of four presentations.",
        at_least=1e-6,
    )
    coarseness: int = choice(
        1, "Side in pixels of the squares in which the noise is drawn; it divides height and width.", at_least=1
    )
    reference: str | None = choice(
        None,
        "What stands in the place of a removed pixel: the median training pixel (by channel), or the picture blurred "
        "(blur). By default the median, and with --dataset=none, which has no training pixels, the blur.",
        choices=tuple(attributions.REFERENCES),
    )
    seed: int = setting(0, "Random seed of the noise.", at_least=0, at_most=2**32 - 1)


class NoiseSettings(NetworkSettings):
    """The settings of an experiment that shows noise to a trained network."""

    noise: str = setting(
        "matched",
        f"The noise: {', '.join(noise.NAMES)}. Uniform noise lies in [0, 1]; matched noise has the mean and deviation "
        "of the training pixels; uniform/8 is uniform noise in squares of 8x8 pixels, with maps of a pixel for each.",
    )
    seed: int = setting(0, "Random seed of the noise.", at_least=0, at_most=2**32 - 1)


class LoopSettings(NoiseSettings):
    """The settings of an experiment that streams noise samples through the loop."""

    num_samples: int = setting(1_000_000, "How many noise samples to draw.", at_least=1)
    batch_size: int | None = setting(
        None,
        "Noise samples per network pass: memory grows with it, and the result does not change. By default up to 512 "
        "on a CPU and 65,536 on an accelerator, with fields 16,384 and 262,144; fewer where images are large.",
        at_least=1,
    )
    precision: str = setting(
        "float32",
        "Numbers in which the network answers to noise: float32 (on a GPU with TF32 products), or bfloat16, which is "
        "faster on accelerators, slower on CPUs, and changes the decision about one image in a few hundred.",
        choices=PRECISIONS,
        names_folder=True,
    )


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


def types_of(settings_type: type[Settings]) -> dict[str, tuple[type, bool]]:
    """The type of each field (str, int, float or bool), or of its items, and whether it is a list."""
    hints, found = get_type_hints(settings_type), {}
    for each in fields(settings_type):
        hint = hints[each.name]
        if isinstance(hint, types.UnionType):
            (hint,) = set(get_args(hint)) - {types.NoneType}
        is_list = get_origin(hint) is tuple
        found[each.name] = (get_args(hint)[0] if is_list else hint), is_list
    return found


def as_text(value: Any) -> str:
    """A value as its flag takes it."""
    return ",".join(map(as_text, value)) if isinstance(value, tuple | list) else f"{value}"
