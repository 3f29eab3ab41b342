import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import noise_robustness
from wna_jax import data, models, robustness
from wna_jax.errors import InputError
from wna_jax.models import layers
from wna_jax.progress import Progress

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
    module = models.create(name, (28, 28, 1), 10)
    shapes = jax.eval_shape(lambda: models.initial_parameters(module, jax.random.key(0)))
    assert models.parameter_count(shapes) == count  # noise_cnn: 320 + 18,496 + 9,216 x 128 + 128 + 1,290


@pytest.fixture(scope="module")
def both() -> tuple[robustness.Study, robustness.Study]:
    digits = data.load("digits")
    return tuple(  # type: ignore[return-value]
        robustness.study("dropout_mlp", digits, [0, 1], [0, 3], epochs=4, together=together)
        for together in (True, False)
    )


def test_networks_trained_together_are_those_trained_alone(both: tuple[robustness.Study, robustness.Study]) -> None:
    together, alone = both
    np.testing.assert_allclose(together.transfer, alone.transfer, atol=0.02)
    for split in together.loss:
        np.testing.assert_allclose(together.loss[split], alone.loss[split], rtol=0.03)


def test_training_in_noise_helps_in_noise(both: tuple[robustness.Study, robustness.Study]) -> None:
    transfer = both[0].transfer.mean(axis=-1)
    np.testing.assert_allclose(transfer[[0, 1], [0, 1]], both[0].accuracy["test"].mean(axis=-1))
    assert transfer[0, 0] > 0.9
    assert transfer[1, 1] > transfer[0, 1] + 0.03
    assert both[0].loss["test"][1].mean() > both[0].loss["test"][0].mean()


def test_a_stopped_study_goes_on_after_its_last_network(tmp_path: Path) -> None:
    digits = data.load("digits")
    train, validation, test = (
        data.Split(split.images[:100], split.labels[:100]) for split in (digits.train, digits.validation, digits.test)
    )
    digits = replace(digits, train=train, validation=validation, test=test)

    def study(epochs: int = 1, **more: Any) -> robustness.Study:
        return robustness.study("logistic", digits, [0, 1], [0, 3], epochs=epochs, together=False, **more)

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


def test_batch_normalisation_is_that_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = data.load("digits")
    few = replace(digits, train=data.Split(*(part[:256] for part in digits.train)))
    seen: list[dict] = []

    def fold(parameters: dict, statistics: dict) -> dict:
        seen.append(statistics)
        return layers.fold_statistics(parameters, statistics)

    monkeypatch.setattr(robustness, "fold_statistics", fold)
    robustness.study("deep_cnn", few, [0], [0], epochs=1)
    assert sorted(seen[0]) == ["bn2", "bn4", "bn6"]
    robustness.study("logistic", few, [0], [0], epochs=1)
    assert seen[1] == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([-0.1], [0]), "levels are -0.1"),
        (([], [0]), "levels are none"),
        (([0.1], []), "0 seeds"),
    ],
)
def test_wrong_studies_are_named(arguments: tuple, said: str) -> None:
    with pytest.raises(InputError, match=said):
        robustness.study("logistic", data.load("digits"), *arguments)


def run(out_dir: Path, **changes: Any) -> dict:
    own: dict[str, Any] = {
        "dataset": "digits",
        "data_dir": None,
        "models": ("logistic",),
        "epochs": 10,
        "levels": ("0", "0.5"),
        "conditions": ("each_image", "range_mistake", "one_number"),
        "optimiser": "one_cycle",
        "train_seed": 0,
        "num_train_seeds": 2,
    }
    noise_robustness.run(noise_robustness.Settings(**(own | changes), out_dir=str(out_dir)))
    return json.loads((out_dir / "metrics.json").read_text())


def test_the_range_mistake_leaves_nothing_to_learn(tmp_path: Path) -> None:
    conditions = run(tmp_path)["conditions"]
    test = {name: np.mean(of["accuracy"]["test"], axis=-1) for name, of in conditions.items()}
    assert test["each_image"][0] == test["range_mistake"][0] == test["one_number"][0] > 0.85
    assert test["range_mistake"][1] < 0.3 < test["each_image"][1]
    for name in ("accuracy", "loss", "transfer", "examples"):
        assert (tmp_path / f"{name}.png").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"levels": ("-1",)}, "levels is '-1'"),
        ({"levels": ("loud",)}, "levels is 'loud'"),
        ({"conditions": ("each_pixel",)}, "unknown condition 'each_pixel'"),
        ({"conditions": ()}, "conditions is empty"),
        ({"models": ("mpl",)}, "unknown model 'mpl'"),
    ],
)
def test_wrong_input_is_named(tmp_path: Path, changes: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(tmp_path, **changes)
