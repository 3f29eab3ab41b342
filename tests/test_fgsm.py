from typing import Any

import pytest

from experiments import fgsm, launch
from experiments.fgsm import Settings
from experiments.launch import Result
from wna_jax.runs.errors import InputError

pytestmark = pytest.mark.slow  # whole experiments


@pytest.fixture(scope="module")
def settings(network_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("fgsm")
    return Settings(**network_settings, out_dir=str(folder), epsilons=(0.0, 0.1, 0.3), shown_epsilons=(0.1,))


@pytest.fixture(scope="module")
def result(settings: Settings) -> Result:
    return launch.execute(fgsm.run, settings)


def test_accuracy_falls_with_epsilon_and_below_that_of_random_steps(result: Result) -> None:
    metrics = result.metrics
    attacked, shaken = metrics["accuracy"]["sign of the gradient"], metrics["accuracy"]["random signs"]
    assert attacked[0] == shaken[0] == pytest.approx(metrics["test_accuracy"])
    assert attacked[0] > attacked[1] > attacked[2]
    assert attacked[1] < shaken[1] - 0.2
    changed = metrics["num_images"] * (attacked[0] - attacked[1])  # a step up the loss sets no answer right
    assert sum(metrics["mean_adversarial_counts"]["0.1"]) == pytest.approx(changed, abs=1)


@pytest.mark.usefixtures("result")
def test_it_writes_its_files(settings: Settings) -> None:
    for name in ("accuracy.png", "mean_adversarial_images.png", "maps.npz", "metrics.json", "config.json", "log.jsonl"):
        assert (settings.folder / name).stat().st_size > 0
    assert not list(settings.folder.glob(".partial*"))


@pytest.mark.parametrize("wrong", [-1.0, float("inf"), float("nan")])
def test_wrong_epsilons_are_said(wrong: float) -> None:
    with pytest.raises(InputError, match="expected numbers of at least 0"):
        Settings(epsilons=(wrong,))
