import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
import pytest

from wna_jax.data import Dataset
from wna_jax.networks import autoencoders, training
from wna_jax.networks.checkpoints import load_or_train, path_of, save
from wna_jax.networks.network import fingerprint
from wna_jax.networks.training import Trained, TrainingSpec
from wna_jax.runs import store
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Progress

# Orbax leaves readers of damaged files unfinished, and Python warns when it collects them: here, in the same test.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collect_garbage"),
]


@pytest.fixture(scope="module")
def spec(digits: Dataset) -> TrainingSpec:
    return TrainingSpec("digits", digits.fingerprint, "logistic", epochs=2)


def test_trained_once_loaded_ever_after(digits: Dataset, spec: TrainingSpec, tmp_path: Path) -> None:
    reports: list[Progress] = []
    first, was_loaded = load_or_train(spec, digits, tmp_path, report=reports.append)
    assert not was_loaded
    assert reports
    reports.clear()
    second, was_loaded = load_or_train(spec, digits, tmp_path, report=reports.append)
    assert was_loaded
    assert not reports
    assert second.metrics == first.metrics
    jax.tree.map(np.testing.assert_array_equal, first.parameters, second.parameters)
    assert not load_or_train(spec, digits, tmp_path, retrain=True)[1]
    assert not load_or_train(replace(spec, seed=1), digits, tmp_path)[1]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("model", "train", "blow"),
    [
        ("logistic", training.fit, KeyboardInterrupt),
        pytest.param("autoencoder", autoencoders.fit, RuntimeError, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_training_goes_on_to_the_same_bits(
    digits: Dataset,
    spec: TrainingSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    train: Any,
    blow: type[BaseException],
) -> None:
    if blow is not KeyboardInterrupt:  # which leaves time to save
        monkeypatch.setattr(store, "_SECONDS_BETWEEN_SAVES", -1.0)
    spec = replace(spec, model=model, epochs=5)
    whole = train(spec, digits)
    seen: list[float] = []

    def stop(progress: Progress) -> None:
        seen.append(progress.done / progress.total)
        if 0.6 < seen[-1] < 1:
            raise blow

    with pytest.raises(blow):
        load_or_train(spec, digits, tmp_path, False, stop, train)
    assert seen[-1] <= 0.8
    seen.clear()
    resumed, was_loaded = load_or_train(spec, digits, tmp_path, False, lambda p: seen.append(p.done / p.total), train)
    assert not was_loaded
    assert seen[0] > 0.6
    jax.tree.map(np.testing.assert_array_equal, resumed.parameters, whole.parameters)
    assert resumed.metrics | {"training_seconds": 0} == whole.metrics | {"training_seconds": 0}
    assert [path.name for path in tmp_path.iterdir()] == [path_of(spec, tmp_path).name]


def test_two_jobs_at_the_same_training_do_not_share_its_state(
    digits: Dataset, spec: TrainingSpec, tmp_path: Path
) -> None:
    folders: list[Path | None] = []

    def train(spec: TrainingSpec, dataset: Dataset, report: Any, state_dir: Path | None) -> Trained:
        folders.append(state_dir)
        if len(folders) == 1:
            load_or_train(spec, dataset, tmp_path, True, report, train)
        return training.fit(spec, dataset, report, state_dir)

    load_or_train(spec, digits, tmp_path, train=train)
    assert folders[0] is not None
    assert folders[1] is None
    assert [path.name for path in tmp_path.iterdir()] == [path_of(spec, tmp_path).name]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "mlp"}, r"model 'logistic' \(asked for: 'mlp'\)"),
        ({"epochs": 3}, r"epochs 2 \(asked for: 3\)"),
        ({"fingerprint": "other"}, r"fingerprint .* \(asked for: 'other'\)"),
    ],
)
def test_a_checkpoint_of_another_spec_is_refused(
    digits: Dataset, spec: TrainingSpec, tmp_path: Path, change: dict, said: str
) -> None:
    load_or_train(spec, digits, tmp_path)
    asked = replace(spec, **change)
    path_of(spec, tmp_path).rename(path_of(asked, tmp_path))
    with pytest.raises(InputError, match=f"was made with {said}: pass --retrain to replace it"):
        load_or_train(asked, digits, tmp_path)


@pytest.mark.parametrize("part", ["_CHECKPOINT_METADATA", "state/manifest.ocdbt", "state/_METADATA", "state/d/*"])
def test_a_damaged_checkpoint_is_refused_and_retraining_mends_it(
    digits: Dataset, spec: TrainingSpec, tmp_path: Path, part: str, capfd: pytest.CaptureFixture
) -> None:
    load_or_train(spec, digits, tmp_path)
    path = path_of(spec, tmp_path)
    (file,) = path.glob(part)
    content = bytearray(file.read_bytes())
    file.write_bytes(content[:-20])
    with pytest.raises(InputError, match=rf"{re.escape(str(path))} is damaged \(.*\): pass --retrain"):
        load_or_train(spec, digits, tmp_path)
    assert capfd.readouterr().err == ""
    load_or_train(spec, digits, tmp_path, retrain=True)
    assert load_or_train(spec, digits, tmp_path)[1]


def test_a_checkpoint_that_does_not_fit_on_the_disk_is_one_line_and_not_there(
    digits: Dataset, spec: TrainingSpec, tmp_path: Path, disk_of: Any
) -> None:
    trained = Trained({"w": np.random.default_rng(0).uniform(size=(9, 9))}, {})
    with disk_of(100), pytest.raises(OSError, match="File too large") as full:
        save(path_of(spec, tmp_path), spec, trained)
    assert full.value.filename == str(path_of(spec, tmp_path))
    assert not path_of(spec, tmp_path).exists()
    save(path_of(spec, tmp_path), spec, trained)


def test_a_folder_that_is_no_checkpoint_is_refused(digits: Dataset, spec: TrainingSpec, tmp_path: Path) -> None:
    path_of(spec, tmp_path).mkdir()
    with pytest.raises(InputError, match="is damaged"):
        load_or_train(spec, digits, tmp_path)


def test_parameters_that_changed_on_disk_are_refused(digits: Dataset, spec: TrainingSpec, tmp_path: Path) -> None:
    trained, _ = load_or_train(spec, digits, tmp_path)
    changed = jax.tree.map(lambda leaf: leaf + 0, trained.parameters)
    changed["fc1"]["bias"][0] += 1e-3
    genuine = fingerprint(trained.parameters)
    with mock.patch("wna_jax.networks.checkpoints.fingerprint", return_value=genuine):
        save(path_of(spec, tmp_path), spec, Trained(changed, trained.metrics))
    with pytest.raises(InputError, match=r"is damaged .*not those that were saved.*: pass --retrain"):
        load_or_train(spec, digits, tmp_path)
