import dataclasses
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
