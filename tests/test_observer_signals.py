"""A signal in exported stimuli: shown, answered by observers who can be calculated, and mapped by kind of trial."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.observer import Settings, run
from wna_jax import draw_samples, maps, moments_from_trials, noise, observers, statistics
from wna_jax.observers import Trials, read_trials
from wna_jax.runs.errors import InputError

SIZE, COUNT, PEOPLE, INTERNAL = 12, 600, 3, 0.7
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE]
SHOWN = noise.gaussian((SIZE, SIZE, 1), 0.5, 0.1)


def blob(row: float, column: float) -> np.ndarray:
    image = np.exp(-((ROWS - row) ** 2 + (COLUMNS - column) ** 2) / 6.0)
    return (image - image.mean())[..., None]


TEMPLATE, SIGNAL = blob(4, 7), 0.1 * blob(5, 6) / np.abs(blob(5, 6)).max()  # what is looked for is not quite the signal
STRENGTH = float((TEMPLATE * SIGNAL).sum() / (0.1 * np.linalg.norm(TEMPLATE)))  # in deviations of the decision variable


def exported(folder: Path, design: str) -> list[dict[str, str]]:
    observers.export_stimuli(folder, SHOWN, COUNT, seed=2, design=design, signal=SIGNAL)
    return list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))


def answered(folder: Path, rows: list[dict[str, str]], files: bool) -> Path:
    """The table filled in by people who see the files themselves."""
    see, criterion = observers.linear_observer(TEMPLATE, SHOWN), STRENGTH / 2 if "signal" in rows[0] else 0.0
    shown = {
        name: [folder / f"{int(row[name]):06d}.png" for row in rows]
        for name in ("stimulus", "second")
        if name in rows[0]
    }
    path = folder / f"answers_{files}.csv"
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, ["participant", *rows[0]])
        table.writeheader()
        for i in range(PEOPLE):
            said = observers.answer(see, *shown.values(), criterion=criterion, internal_noise=INTERNAL, seed=i)
            words = np.where(said > 0, "1", "2") if "second" in shown else np.where(said > 0, "yes", "no")
            for k, row in enumerate(rows):
                names = {name: of[k].name for name, of in shown.items()} if files else {}
                table.writerow(row | names | {"participant": f"P{i}", "response": words[k]})
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("design", "files"), [("yes_no", False), ("yes_no", True), ("2afc", False)])
def test_maps_of_each_kind_of_trial_come_back_as_well_as_theory_says(design: str, files: bool, tmp_path: Path) -> None:
    rows = exported(tmp_path, design)
    table = answered(tmp_path, rows, files)
    trials, shown = observers.found_stimuli(table, read_trials(table), noise="gaussian:0.5,0.1" if files else None)
    intervals, c = (1, STRENGTH / 2) if design == "yes_no" else (2, 0.0)
    criteria = (
        {"signal absent": c, "signal present": c - STRENGTH}
        if intervals == 1
        else {"interval 1": -STRENGTH, "interval 2": STRENGTH}
    )
    found: dict[str, list[float]] = {kind: [] for kind in (*criteria, "all")}
    for who, own in trials.items():
        of_kinds = observers.maps_by_kind({who: own}, shown)
        of_kinds["all"] = observers.analyse_trials(*own[:2], second=own.second, classes=own.classes, noise=shown).maps[
            "choice"
        ]
        for kind, of in of_kinds.items():
            found[kind].append(statistics.map_correlation(of.images, TEMPLATE[None])[0])
    for kind, correlations in found.items():
        n0 = observers.n0_of_linear_observer(
            SIZE**2, INTERNAL, list(criteria.values()) if kind == "all" else criteria[kind], intervals
        )
        expected = float(statistics.predicted_correlation(COUNT if kind == "all" else COUNT / 2, n0))
        assert 0.5 < expected < 0.95
        # one map has the deviation (1 - r^2) / sqrt(D), and all see the same noise
        assert np.mean(correlations) == pytest.approx(expected, abs=3 * (1 - expected**2) / SIZE), kind


@pytest.mark.slow
def test_the_command_exports_a_signal_and_maps_each_kind_of_trial(tmp_path: Path) -> None:
    settings = Settings(
        export=str(tmp_path), num_trials=200, signal="digits:3", contrast=0.15, noise="gaussian:0.5,0.1", seed=1
    )
    said = run(settings)
    assert any(line.startswith("signal          an ideal observer has d' =") for line in said.summary)
    rows = list(csv.DictReader((tmp_path / "trials.csv").read_text().splitlines()))
    present = np.array([row["signal"] == "present" for row in rows])
    assert present.sum() == 100
    draws = np.asarray(draw_samples(noise.gaussian((28, 28, 1), 0.5, 0.1), 200, seed=1))
    added = np.stack([observers.read_image(tmp_path / f"{i:06d}.png") for i in range(200)]) - draws
    signal = np.median(added[present], axis=0)
    assert np.abs(added[~present]).mean() < 0.002
    assert np.abs(signal).max() == pytest.approx(0.15, abs=0.005)
    assert signal.mean() == pytest.approx(0, abs=0.002)
    score = added.reshape(200, -1) @ signal.ravel() > np.square(signal).sum() / 2  # who sees the signal, and no noise
    lines = [f"{row['stimulus']},{row['signal']},{int(yes)}" for row, yes in zip(rows, score, strict=True)]
    lines[0] = lines[0][:-1] + str(1 - int(lines[0][-1]))  # one slip per kind, or there is nothing to compare
    other = int(np.flatnonzero(present != present[0])[0])
    lines[other] = lines[other][:-1] + str(1 - int(lines[other][-1]))
    (tmp_path / "answers.csv").write_text("\n".join(["stimulus,signal,response", *lines]))
    result = run(Settings(trials=str(tmp_path / "answers.csv"), permutations=19))
    kinds = result.metrics["kinds"]
    assert {kind: of["answered_yes"] for kind, of in kinds.items()} == {"signal absent": 1, "signal present": 99}
    assert [name for name, _ in result.draw()] == ["observers.png", "kinds.png"]
    assert result.arrays["kinds.npz"]["map_signal_present"].shape == (28, 28, 1)


def test_answers_to_the_signal_alone_leave_no_signal_in_a_map_of_files(tmp_path: Path) -> None:
    rows = exported(tmp_path, "yes_no")
    present = np.array([row["signal"] == "present" for row in rows])
    yes = np.random.default_rng(0).random(COUNT) < np.where(present, 0.85, 0.15)
    own = Trials([tmp_path / f"{i:06d}.png" for i in range(COUNT)], yes, classes=present)
    z = statistics.z_map(maps.choice_images(moments_from_trials(*own[:2], classes=present), SHOWN))
    leaking = statistics.z_map(maps.choice_images(moments_from_trials(*own[:2]), SHOWN))
    assert z.std() == pytest.approx(1, abs=3 / np.sqrt(2 * SIZE**2))
    assert abs(statistics.map_correlation(z, SIGNAL[None])[0]) < 3 / SIZE
    assert statistics.map_correlation(leaking, SIGNAL[None])[0] > 0.9


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"signal": "digits"}, "signal is digits, which is no image file: expected one, or a class"),
        ({"signal": "digits:ten"}, "unknown class of digits 'ten'"),
        ({"signal": "nowhere:3"}, "unknown data set 'nowhere'"),
        ({"signal": "flat.png"}, "is the same everywhere"),
        ({"signal": "digits:3", "design": "inverted"}, "expected design yes_no or 2afc"),
        ({"signal": "digits:3", "image_shape": (20, 20)}, "a signal of 28x28x1 pixels for stimuli of 20x20x1 pixels"),
    ],
)
def test_signals_that_cannot_be_shown_are_refused(
    settings: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("L", (28, 28), 90).save("flat.png")
    with pytest.raises(InputError, match=said) as raised:
        run(Settings(export=str(tmp_path / "s"), num_trials=4, **settings))
    assert "\n" not in str(raised.value)
