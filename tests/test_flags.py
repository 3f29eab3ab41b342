"""A flag is changed and the output folder kept: the second run is refused, or it is what a run in a new folder is."""

import ast
import importlib
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.__main__ import listing
from experiments.settings import rules_of, types_of
from wna_jax import data
from wna_jax.networks import autoencoders
from wna_jax.runs.errors import InputError

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collect_garbage"),
]

SMALL: dict[str, Any] = {
    "model": "logistic",
    "models": ("logistic",),
    "epochs": 2,
    "num_samples": 200,
    "batch_size": 50,
    "permutations": 19,
    "gradient_samples": 20,
    "natural_samples": 100,
    "num_images": 10,
    "num_passes": 300,
    "num_train_seeds": 2,
    "num_seeds": 4,
    "num_poisoned": 10,
    "patch_left": 2,
    "source": "8",
    "target": "9",
    "gammas": (0.0, 0.3),
    "levels": (0.0, 0.5),
    "conditions": ("each_image",),
    "noises": ("matched",),
    "pattern": ("decision",),
    "width": 2,
    "hidden": 4,
    "code_size": 3,
    "real_images": 16,
    "regimes": ("plain", "noise:0.3"),
    "counts": (50, 100),
    "populations": 3,
    "chains": 20,
    "steps": 3,
}
"""What makes an experiment short."""
OF_LAYERS: dict[str, Any] = {"model": "paper_cnn", "layer": "conv1", "layers": ("conv1",), "units": (0, 1)}
ANOTHER: dict[str, Any] = {
    "dataset": "digits:3,8,9",
    "model": "wide_cnn",
    "noise": "gaussian:0.5,0.6",
    "noises": ("uniform",),
    "response": ("confidence",),
    "classes": ("8", "9"),
    "layer": "conv2",
    "layers": ("conv2",),
    "source": "3",
    "target": "3",
    "image": "results/benchmark.png",
    "contrast": 0.7,
    "image_size": 20,
    "image_shape": (16, 16, 1),  # that of the data: another one is refused
    "roi": (2, 3, 9, 8),
    "regimes": ("plain", "blur:1"),
    "augmentation": "flip",
}
"""Other values of settings that are free texts or have no value."""


def stateful() -> list[str]:
    """The experiments that keep a state to go on from, as their docstrings say."""
    sources = {name: Path("experiments", f"{name}.py").read_text() for name in listing()}
    return [name for name, source in sources.items() if "state/" in (ast.get_docstring(ast.parse(source)) or "")]


def short(name: str, **own: Any) -> Any:
    """Short settings of an experiment."""
    kind = importlib.import_module(f"experiments.{name}").Settings
    known = {each.name for each in fields(kind)}
    small = SMALL | (OF_LAYERS if {"layer", "layers"} & known else {}) | own
    return kind(**{each: value for each, value in small.items() if each in known})


def changed(settings: Any, flag: str, folder: Path) -> Any:
    """Another value of a setting, by its choices, its type or its name."""
    value, rules = getattr(settings, flag), rules_of(settings.__dataclass_fields__[flag])
    item, is_list = types_of(type(settings))[flag]
    first = value[0] if is_list and value else value
    if rules.choices:
        new: Any = next(known for known in rules.choices if known != first)
    elif flag.endswith("_dir"):
        new = str(folder / flag)
    elif item is bool:
        new = not first
    elif item is int and first is not None:
        new = first + 1
    elif item is float and first is not None:
        new = (first + rules.at_most) / 2 if rules.at_most is not None else 1.5 * first or 0.1
    else:
        assert flag in ANOTHER, f"say another value of {flag} in ANOTHER"
        return (ANOTHER[flag],) * 2 if is_list and isinstance(ANOTHER[flag], str) else ANOTHER[flag]
    return (new, *value[1:]) if is_list else new


def same(a: Any, b: Any) -> bool:
    """Equal metrics or arrays, but for what depends on the clock or on what was there already."""
    if isinstance(a, Mapping):
        of_clock = {name for name in a if "second" in str(name) or "was_loaded" in str(name)}
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a.keys() - of_clock)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, digits: data.Dataset) -> str:
    """A folder of 60 digits of three classes at 16x16 pixels."""
    small, folder = digits.resized(16), tmp_path_factory.mktemp("tiny")
    for k in (3, 8, 9):
        (folder / str(k)).mkdir()
        for i, image in enumerate(small.members(k)[:60]):
            Image.fromarray(image[..., 0]).save(folder / str(k) / f"{i}.png")
    return f"folder:{folder}"


def walk(name: str, dataset: str, folder: Path, monkeypatch: pytest.MonkeyPatch, some: Sequence[str] = ()) -> None:
    """Changes every flag of an experiment, or some, one after the other, in a copy of the folder of a finished run."""
    usual = autoencoders.default_spec
    monkeypatch.setattr(autoencoders, "default_spec", lambda *given: replace(usual(*given), epochs=1))
    run = importlib.import_module(f"experiments.{name}").run
    first = short(name, dataset=dataset, out_dir=str(folder / "first"), checkpoint_dir=str(folder / "checkpoints"))
    run(first)
    for flag in some or [each.name for each in fields(first) if each.name != "out_dir"]:
        kept, fresh = folder / f"{flag}-kept", folder / f"{flag}-fresh"
        other = replace(first, **{flag: changed(first, flag, folder)})
        shutil.copytree(first.folder, kept)
        try:
            second = run(replace(other, out_dir=str(kept)))
        except InputError as error:
            refused = str(error)
            if "the checkpoint" in refused or (f"{kept}/state" in refused and "another output directory" in refused):
                continue
            raise
        expected = run(replace(other, out_dir=str(fresh)))
        assert same(second.metrics, expected.metrics), flag
        assert same(second.arrays, expected.arrays), flag


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "some"),
    [("noise_maps", ["response", "noise", "num_samples"]), ("signal_in_noise", ["noise", "gammas", "seed"])],
)
def test_a_changed_flag_that_decides_the_sums_is_refused_or_gives_what_a_new_folder_gives(
    name: str, some: list[str], tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk(name, tiny, tmp_path, monkeypatch, some)


@pytest.mark.slow
@pytest.mark.parametrize("name", stateful())
def test_any_changed_flag_is_refused_or_gives_what_a_new_folder_gives(
    name: str, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk(name, tiny, tmp_path, monkeypatch)


def test_all_experiments_that_keep_a_state_are_walked() -> None:
    keep = re.compile(r"loop_options\(|state_dir=|\"state\"")
    assert stateful() == [name for name in listing() if keep.search(Path("experiments", f"{name}.py").read_text())]
