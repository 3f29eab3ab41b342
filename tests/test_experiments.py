import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import (
    augmentation,
    autoencoder,
    backdoor,
    black_box_attack,
    classify,
    common,
    fgsm,
    gan,
    invariance,
    noise_robustness,
    signal_in_noise,
)


@pytest.mark.parametrize(
    "experiment",
    [
        *(augmentation, autoencoder, backdoor, black_box_attack, classify, fgsm, gan),
        *(invariance, noise_robustness, signal_in_noise),
    ],
)
def test_every_setting_is_a_flag(experiment: Any) -> None:
    assert {field.name for field in dataclasses.fields(experiment.Settings)} <= set(flags.FLAGS)


def test_a_flag_of_other_experiments_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as stop:
        common._parse(noise_robustness.Settings, ["noise_robustness", "--model=noise_cnn"])
    assert stop.value.code == 2
    assert "--model is no flag of this experiment (did you mean --models?)" in capsys.readouterr().err
    with flagsaver.flagsaver():
        assert common._parse(classify.Settings, ["classify", "--model=noise_cnn"]) == ["classify"]


def test_every_printed_command_names_flags_of_its_experiment() -> None:
    root = Path(__file__).parents[1]
    commands = [
        found
        for path in (root / "README.md", root / "results" / "README.md", *(root / "experiments").glob("*.py"))
        for found in re.finditer(r"python -m experiments\.(\w+)([^\n`]*)", path.read_text())
        if (root / "experiments" / f"{found[1]}.py").exists()
    ]
    assert len(commands) > 80
    for command in commands:
        experiment = importlib.import_module(f"experiments.{command[1]}")
        settings = getattr(experiment, "Settings", common.Settings)
        known = {field.name for field in dataclasses.fields(settings)} | {"help", *common._OF_JOBS}
        assert set(re.findall(r"--(\w+)", command[2])) <= known, command[0]
