import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import launch, noise_robustness
from wna_jax import data
from wna_jax.data import Dataset, Split
from wna_jax.networks import models
from wna_jax.networks.models import layers
from wna_jax.networks.models.dense import DenseNetwork
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Progress
from wna_jax.studies import robustness

GREY = jnp.full((40, 20, 20, 1), 0.5)


def change(name: str, level: float, number: float = 1.0) -> np.ndarray:
    return np.asarray(
        robustness.CONDITIONS[name](jax.random.key(0), GREY, jnp.float32(level), jnp.float32(number)), np.float64
    )


def test_each_pixel_has_noise_of_its_own_in_units_of_the_pixel_range() -> None:
    noisy = change("each_image", 0.1)
    assert noisy.mean() == pytest.approx(0.5, abs=0.004)  # five standard errors of 16,000 pixels
    assert noisy.std() == pytest.approx(0.1, abs=0.003)
    assert np.abs(np.corrcoef(noisy.reshape(40, -1)) - np.eye(40)).max() < 0.3
    assert (change("each_image", 4.0).min(), change("each_image", 4.0).max()) == (0, 1)


def test_the_mistakes_are_those_of_the_studies() -> None:
    assert change("range_mistake", 0.1).std() == pytest.approx(25.5, rel=0.03)
    np.testing.assert_allclose(change("one_number", 0.5, -0.4), 0.3)
    np.testing.assert_allclose(change("one_number", 2.0, 1.0), 1.0)
    for name in robustness.CONDITIONS:
        np.testing.assert_array_equal(change(name, 0.0), 0.5)


@pytest.mark.parametrize(("name", "count"), [("dropout_mlp", 669_706), ("noise_cnn", 1_199_882)])
def test_the_networks_of_the_first_study_have_its_parameters(name: str, count: int) -> None:
    shapes = jax.eval_shape(lambda: models.untrained(name, (28, 28, 1), 10))
    assert shapes.parameter_count == count  # noise_cnn: 320 + 18,496 + 9,216 x 128 + 128 + 1,290


def few(digits: Dataset, train: int, others: int) -> Dataset:
    """The first images of each split."""
    sizes = {"train": train, "validation": others, "test": others}
    splits = {name: Split(*(part[:count] for part in getattr(digits, name))) for name, count in sizes.items()}
    return replace(digits, **splits)  # type: ignore[arg-type]


@pytest.fixture(scope="module", autouse=True)
def one_size_of_batches() -> Iterator[None]:
    """All splits are judged in batches of one size, so by one program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(robustness, "_EVALUATION_BATCH", 143)
        yield


@pytest.fixture(scope="module")
def both(digits: Dataset) -> tuple[robustness.Study, robustness.Study]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models._REGISTRY, "narrow", partial(DenseNetwork, widths=(256,), dropout=0.2))
        together, alone = (
            robustness.study("narrow", few(digits, 572, 143), [0, 1], [0, 3], epochs=20, together=together)
            for together in (True, False)
        )
    return together, alone


@pytest.mark.slow
def test_networks_trained_together_are_those_trained_alone(both: tuple[robustness.Study, robustness.Study]) -> None:
    together, alone = both
    np.testing.assert_allclose(together.transfer, alone.transfer, atol=0.02)
    for split in together.loss:
        np.testing.assert_allclose(together.loss[split], alone.loss[split], rtol=0.03)


@pytest.mark.slow
def test_training_in_noise_helps_in_noise(both: tuple[robustness.Study, robustness.Study]) -> None:
    transfer = both[0].transfer.mean(axis=-1)
    np.testing.assert_allclose(transfer[[0, 1], [0, 1]], both[0].accuracy["test"].mean(axis=-1))
    assert transfer[0, 0] > 0.9
    assert transfer[1, 1] > transfer[0, 1] + 0.03
    assert both[0].loss["test"][1].mean() > both[0].loss["test"][0].mean()


@pytest.mark.slow
def test_a_stopped_study_goes_on_after_its_last_network(digits: Dataset, tmp_path: Path) -> None:
    def study(epochs: int = 1, **more: Any) -> robustness.Study:
        return robustness.study(
            "logistic", few(digits, 100, 100), [0, 1], [0, 3], epochs=epochs, together=False, **more
        )

    seen: list[float] = []

    def stop(progress: Progress) -> None:
        seen.append(progress.done / progress.total)
        if len(seen) > 1 and seen[-1] > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study(state_dir=tmp_path, report=stop)
    seen.clear()
    resumed = study(state_dir=tmp_path, report=lambda progress: seen.append(progress.done / progress.total))
    assert seen[0] > 0.5
    assert seen[-1] == 1
    whole = study()
    np.testing.assert_array_equal(resumed.transfer, whole.transfer)
    np.testing.assert_array_equal(resumed.loss["validation"], whole.loss["validation"])
    with pytest.raises(InputError, match=r"epochs 1 \(now 2\)"):
        study(2, state_dir=tmp_path)


class Normalised(nn.Module):
    image_shape: tuple[int, int, int]
    num_classes: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = images.reshape(len(images), -1)
        for name in ("bn1", "bn2"):
            x = layers.BatchNormalisation(name=name)(nn.Dense(self.num_classes)(x))
        return x


@pytest.mark.slow
def test_batch_normalisation_is_that_of_training(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict] = []
    monkeypatch.setitem(models._REGISTRY, "normalised", Normalised)

    def fold(parameters: dict, statistics: dict) -> dict:
        seen.append(statistics)
        return layers.fold_statistics(parameters, statistics)

    monkeypatch.setattr(robustness, "fold_statistics", fold)
    robustness.study("normalised", few(digits, 128, 128), [0], [0], epochs=1)
    assert sorted(seen[0]) == ["bn1", "bn2"]
    robustness.study("logistic", few(digits, 128, 128), [0], [0], epochs=1)
    assert seen[1] == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([-0.1], [0]), "levels are -0.1"),
        (([], [0]), "levels are none"),
        (([0.1], []), "0 seeds"),
    ],
)
def test_wrong_studies_are_named(digits: Dataset, arguments: tuple, said: str) -> None:
    with pytest.raises(InputError, match=said):
        robustness.study("logistic", digits, *arguments)


def settings(**changes: Any) -> noise_robustness.Settings:
    own: dict[str, Any] = {"models": ("logistic",), "epochs": 30, "levels": (0.0, 0.5), "num_train_seeds": 2}
    return noise_robustness.Settings(**(own | changes))


@pytest.mark.slow
def test_the_range_mistake_leaves_nothing_to_learn(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "load", lambda *_: few(digits, 572, 143))
    conditions = launch.execute(noise_robustness.run, settings(out_dir=str(tmp_path))).metrics["conditions"]
    assert json.loads((tmp_path / "metrics.json").read_text())["conditions"] == conditions
    test = {name: np.mean(of["accuracy"]["test"], axis=-1) for name, of in conditions.items()}
    assert test["each_image"][0] == test["range_mistake"][0] == test["one_number"][0] > 0.85
    assert test["range_mistake"][1] < 0.3 < test["each_image"][1]
    for name in ("accuracy", "loss", "transfer", "examples"):
        assert (tmp_path / f"{name}.png").stat().st_size > 0
    assert not list(tmp_path.glob(".partial*"))
    with np.load(tmp_path / "curves.npz") as arrays:
        np.testing.assert_array_equal(arrays["levels"], [0, 0.5])
        np.testing.assert_array_equal(arrays["one_number_test_loss"], conditions["one_number"]["loss"]["test"])
        np.testing.assert_array_equal(arrays["each_image_transfer"].mean(axis=-1), conditions["each_image"]["transfer"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"levels": (-1.0,)}, "levels is -1"),
        ({"conditions": ("each_pixel",)}, "unknown condition 'each_pixel'"),
        ({"conditions": ()}, "conditions is empty: choose from each_image"),
        ({"models": ("mpl",)}, "unknown model 'mpl'"),
        ({"optimiser": "sgd"}, "unknown optimiser 'sgd'"),
    ],
)
def test_wrong_input_is_named(changes: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        settings(**changes)


def test_levels_that_are_no_numbers_are_named() -> None:
    with pytest.raises(InputError, match=r"levels is 'loud': expected numbers separated by commas, such as 0\.0,0\.1"):
        launch._items("levels", ["loud"], float, (0.0, 0.1))
