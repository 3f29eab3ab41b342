"""Maps of few samples, with and without the prior, against those of many."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from experiments import fewer_samples, launch
from experiments.launch import Result
from wna_jax.runs.errors import InputError


@pytest.fixture(scope="module")
def settings(network_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> fewer_samples.Settings:
    own = network_settings | {"out_dir": str(tmp_path_factory.mktemp("fewer"))}
    return fewer_samples.Settings(**own, num_samples=40_000, counts=(500, 2000), num_seeds=2, response=("probability",))


@pytest.fixture(scope="module")
def result(settings: fewer_samples.Settings) -> Result:
    return launch.execute(fewer_samples.run, settings)


@pytest.mark.slow
def test_maps_with_the_prior_are_nearer_to_those_of_many_samples(result: Result) -> None:
    few, more = result.metrics["correlations"]["probability"]
    assert few["prior"]["mean"] > few["plain"]["mean"] + 0.1
    assert few["samples_gained"] > 1.4
    assert more["plain"]["mean"] > few["plain"]["mean"] + 0.1
    low, high = few["plain"]["interval_95"]
    assert low < few["plain"]["mean"] < high
    for row in (few, more):
        assert row["prior"]["mean"] == pytest.approx(row["expected"]["mean"], abs=0.04)
    reliability = np.array(result.metrics["reliability_of_reference"]["probability"], float)
    n0 = 40_000 * (1 / reliability - 1)
    for row in (few, more):
        predicted = np.mean(1 / np.sqrt(1 + n0 / row["samples"]))
        assert row["plain"]["mean"] == pytest.approx(predicted, abs=0.05)


@pytest.mark.slow
def test_files_are_whole(settings: fewer_samples.Settings, result: Result) -> None:
    files = {file.name for file in settings.folder.iterdir()}
    assert {"fewer_samples.png", "fewer_samples_maps.png", "metrics.json"} <= files


def test_what_cannot_be_compared_is_refused_before_the_training(settings: fewer_samples.Settings) -> None:
    with pytest.raises(InputError, match="at least twice as many"):
        fewer_samples.run(replace(settings, num_samples=3000))
    with pytest.raises(InputError, match="needs white noise"):
        fewer_samples.run(replace(settings, noise="stripes"))
