import dataclasses
from typing import Any

import pytest
from absl import flags

from experiments import augmentation, backdoor, black_box_attack, fgsm, invariance, signal_in_noise


@pytest.mark.parametrize("experiment", [augmentation, backdoor, black_box_attack, fgsm, invariance, signal_in_noise])
def test_every_setting_is_a_flag(experiment: Any) -> None:
    assert {field.name for field in dataclasses.fields(experiment.Settings)} <= set(flags.FLAGS)
