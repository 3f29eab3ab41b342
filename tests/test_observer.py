"""The command for people: from a table to maps and back, and what is wrong in a table, by its row."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from experiments import launch
from experiments.observer import Settings, run
from wna_jax import draw_samples, load, noise, observers, statistics
from wna_jax.observers import Drawn, read_trials
from wna_jax.runs.errors import InputError

ROWS, COLUMNS = np.mgrid[:12, :12]
BLOB = np.exp(-((ROWS - 4) ** 2 + (COLUMNS - 7) ** 2) / 6.0)
TEMPLATE = (BLOB - BLOB.mean())[..., None]
SHAPE = (12, 12)


def written(path: Path, columns: str, *rows: str) -> Path:
    path.write_text("\n".join([columns, *rows]) + "\n")
    return path


def filled_in(folder: Path, people: Sequence[str], shown: noise.Noise, seed: int, internal: float) -> Path:
    """The exported table, answered by people who look for the template."""
    rows = list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
    numbers = {name: np.array([int(row[name]) for row in rows]) for name in ("stimulus", "second") if name in rows[0]}
    stimuli = [Drawn(shown, column, seed) for column in numbers.values()]
    see = observers.linear_observer(TEMPLATE, shown)
    lines, files = [], []
    for i, who in enumerate(people):
        answers = observers.answer(see, *stimuli, internal_noise=internal, seed=i)
        told = np.where(answers > 0, "1", "2") if len(stimuli) == 2 else np.where(answers > 0, "yes", "no")
        for *shown_numbers, word in zip(*numbers.values(), told.tolist(), strict=True):
            lines.append(",".join([who, *map(str, shown_numbers), word]))
            files.append(",".join([who, *(f"{number:06d}.png" for number in shown_numbers), word]))
    columns = ",".join(["participant", *numbers, "response"])
    written(folder / "of_files.csv", columns, *files)
    return written(folder / "answers.csv", columns, *lines)


@pytest.mark.parametrize("design", ["yes_no", "2afc"])
def test_the_template_comes_back_from_what_was_exported_shown_and_answered(design: str, tmp_path: Path) -> None:
    folder, trials, internal = tmp_path / "stimuli", 600, 1.0
    export = Settings(
        export=str(folder), num_trials=trials, design=design, seed=3, noise="gaussian:0.5,0.15", image_shape=SHAPE
    )
    exported = run(export)
    assert exported.metrics["files"] == (trials if design == "yes_no" else 2 * trials)
    shown = noise.gaussian((*SHAPE, 1), 0.5, 0.15)
    people = ["anna", "ben", "cem", "dora"]
    table = filled_in(folder, people, shown, 3, internal)
    settings = Settings(trials=str(table), permutations=199, out_dir=str(tmp_path / "out"))
    result = run(settings)
    n0 = observers.n0_of_linear_observer(144, internal, 0, 1 if design == "yes_no" else 2)
    result.write(tmp_path, settings)
    found = [
        statistics.map_correlation(load(tmp_path / name).maps["choice"].images, TEMPLATE[None])[0]
        for name in result.arrays
        if name.startswith("participant")
    ]
    expected = float(statistics.predicted_correlation(trials, n0))
    assert len(found) == 4
    assert np.mean(found) == pytest.approx(expected, abs=3 * 0.06 / 2)  # sd (1 - r^2) / sqrt(D) of one
    group = np.load(tmp_path / "maps.npz")
    r = statistics.map_correlation(group["group_map"][None], TEMPLATE[None])[0]
    assert r > max(found)
    assert result.metrics["group"]["error"] == "across participants and stimuli"
    assert result.metrics["group"]["significant_pixels"]["smoothed"] > 0
    assert [*result.metrics["participants"]] == people
    (name, figure), *_ = result.draw()
    assert name == "observers.png"
    assert isinstance(figure, Figure)
    # the images themselves give the same maps, but for their rounding
    of_files = folder / "of_files.csv"
    files = run(Settings(trials=str(of_files), noise="gaussian:0.5,0.15", permutations=19))
    assert files.metrics["group"]["info_val"] == pytest.approx(result.metrics["group"]["info_val"], rel=0.02)


def test_images_of_unknown_noise_in_several_kinds_of_trials_are_tested_against_themselves(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    smooth = np.kron(random.normal(0.5, 0.1, (300, 4, 4)), np.ones((2, 2)))
    present = np.arange(300) % 2
    shown = np.clip(smooth + 0.1 * present[:, None, None] * BLOB[:8, :8], 0, 1)
    for i, image in enumerate(shown):
        Image.fromarray(np.uint8(np.rint(255 * image))).save(tmp_path / f"face_{i}.png")
    answers = (smooth[:, :4, 4:].mean(axis=(1, 2)) + 0.05 * random.standard_normal(300) > 0.5).astype(int)
    lines = [f"face_{i}.png;{'signal' if present[i] else 'none'};{answers[i]}" for i in range(300)]
    table = written(tmp_path / "answers.csv", "Stimulus;signal;response", *lines)
    base = tmp_path / "base.png"
    Image.fromarray(np.uint8(np.full((8, 8), 90))).save(base)
    result = run(Settings(trials=str(table), base=str(base), scaling="matched", permutations=99))
    inside = result.arrays["maps.npz"]["significant_pixels"]
    assert inside[:4, 4:].sum() >= 8  # 2x2 blocks that decided
    assert inside[4:].sum() + inside[:, :4].sum() <= 2
    assert result.metrics["noise"] == "the stimuli's own"
    assert result.metrics["participants"]["participant"]["answered_yes"] == answers.sum()
    assert [name for name, _ in result.draw()] == ["observers.png", "kinds.png"]


@pytest.mark.parametrize(
    ("columns", "rows", "said"),
    [
        ("stimulus,response", ["0,1", "1,"], r"row 3: no response \(1 of 2 rows have none\)"),
        ("stimulus,response", ["0,", "1,"], "row 2: no response"),
        ("stimulus,response,age", ["0,1,30"], "row 1: unknown column 'age'"),
        ("stimulus,respons", ["0,1"], "did you mean 'response'"),
        ("stimulus,stimulus,response", ["0,1,1"], "two columns 'stimulus'"),
        ("response,trial", ["0,1"], "no column 'stimulus'"),
        ("stimulus,response", ["0,1", "1,0", "2,maybe"], r"row 4: a third value of the response \('1', '0', 'maybe'\)"),
        ("stimulus,response", ["0,left", "1,right"], "row 2: response 'left': say which value is yes"),
        ("stimulus,response", ["0,yes", "1,1"], "responses are 'yes' and '1': say which"),
        ("stimulus,response", ["0,1", "1,0", "0,1"], "rows 2 and 4: participant saw stimulus 0 twice"),
        ("stimulus,second,response", ["0,1,1", "2,2,2"], "row 3: participant saw stimulus 2 twice"),
        ("stimulus,response", ["0,1,1"], "row 2: 3 cells, expected 2"),
        ("stimulus,response", ["0,1", "1"], "row 3: 1 cell, expected 2"),
        ("stimulus,response", ["0,1", '"1,0'], "row 3: 1 cell, expected 2"),
        ("stimulus,response", ["0,1", "a.png,1", "2,0"], "row 3: stimulus 'a.png' is a file, 2 others are numbers"),
        ("stimulus,response", ["a.png,1", "c.png,1", "7,0"], "row 4: stimulus '7' is a number, 2 others are image"),
        ("stimulus,second,response", ["0,1,1", "2,a.png,2"], "row 3: stimulus 'a.png' is a file, 3 others"),
        ("stimulus,response", ["0,1", "1.5,0"], "row 3: stimulus '1.5' is no whole number"),
        ("stimulus,response", ["0,1", "-1,0"], "row 3: stimulus '-1' is no whole number"),
        ("stimulus,response", ["0\0,1"], "not a text in UTF-8"),
        ("stimulus,response", ["a" * 200_000 + ",1"], "line 2 cannot be read as CSV"),
        ("stimulus response", ["0 1"], "row 1: stimulus response: expected the columns' names"),
        ("0,1", ["1,0"], "row 1: 0, 1: expected the columns' names"),
        ("stimulus,response", ["0,1", ",0"], "row 3: stimulus is empty"),
        ("stimulus,response", [], "has no trials"),
        ("stimulus,response", ["0,1", "1,0"], "row 2: .*000000.png is not there"),
        ("stimulus,response", ["a.png,1", "b.png,0"], "row 3: .*b.png is not there"),
        ("stimulus,response", ["a.png,1", "wide.png,0"], "row 3: .*wide.png has 8x9 pixels, grey, .*a.png has 8x8"),
        ("stimulus,response", ["a.png,1", "colour.png,0"], "row 3: .*colour.png has 8x8 pixels, colour"),
        ("stimulus,response", ["a.png,1", "text.png,0"], "row 3: .*text.png is not an image"),
        ("stimulus,response", ["a.png,1", "again.png,0", "c.png,1"], r"a\.png and .*again\.png hold the same image"),
    ],
)
def test_what_is_wrong_in_a_table_is_said_in_a_line_with_its_row(
    columns: str, rows: list[str], said: str, tmp_path: Path
) -> None:
    random = np.random.default_rng(1)
    pictures: dict[str, Any] = {name: random.integers(0, 256, (8, 8), np.uint8) for name in ("a", "c")}
    pictures |= {"again": pictures["a"], "wide": np.zeros((8, 9), np.uint8), "colour": np.zeros((8, 8, 3), np.uint8)}
    for name, picture in pictures.items():
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    (tmp_path / "text.png").write_text("no image")
    table = written(tmp_path / "trials.csv", columns, *rows)
    with pytest.raises(InputError, match=said) as raised:
        run(Settings(trials=str(table)))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        "stimulus,response\n7,1\n8,-1\n",
        "\ufeffstimulus;response\r\n7;1\r\n8;-1\r\n;\r\n\r\n",  # Excel, in half of Europe
        "sep=;\nResponse ; Stimulus;;\n1,0;7,0;;\n-1,0;8,0;;;\n",
        '"stimulus", "response"\n"7", "1"\n"8", "-1"',
        ",stimulus,response\n0,7.0,1.0\n1,8.0,-1.0\n",  # pandas, after a missing value
        "\n\nstimulus\tresponse\n7e+00\t1\n8\t\N{MINUS SIGN}1\n",
        "stimulus,response\r7,1\r8,-1\r",
    ],
)
def test_tables_are_read_however_programs_write_them(content: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content.encode())
    (trials,) = read_trials(tmp_path / "t.csv").values()
    assert (trials.stimuli.tolist(), trials.responses.tolist()) == ([7, 8], [1, -1])


def test_columns_of_other_names_are_read_and_no_others(tmp_path: Path) -> None:
    export = Settings(export=str(tmp_path / "s"), num_trials=20, image_shape=(8, 8), noise="gaussian:0.5,0.1")
    run(export)
    lines = [f"{i},{i % 2},{'ann' if i < 10 else 'bo'},3.2" for i in range(20)]
    table = written(tmp_path / "s" / "t.csv", "Trial Nr,Key,subject,age", *lines)
    columns = ("stimulus:trial nr", "response:Key", "participant:subject")
    result = run(Settings(trials=str(table), columns=columns, permutations=19))
    assert [*result.metrics["participants"]] == ["ann", "bo"]
    for wrong, said in (
        (("stimulus:nr", "response:key"), "no column 'nr' for stimulus: it has trial nr, key, subject, age"),
        (("stimulus:trial nr",), "no column 'response', only stimulus: expected"),
        (("stimulus",), "columns has 'stimulus': expected NAME:COLUMN"),
        (("picture:trial nr",), "unknown column 'picture'"),
    ):
        with pytest.raises(InputError, match=said):
            run(Settings(trials=str(table), columns=wrong))


def test_paths_of_windows_and_of_folders_that_are_elsewhere_are_found(tmp_path: Path) -> None:
    observers.export_stimuli(tmp_path / "shown", noise.gaussian((8, 8, 1), 0.5, 0.1), 6)
    names = ["shown\\000000.png", "C:\\study\\shown\\000001.png", "/home/someone/000002.png"]
    found = {}
    for folder, own in ((tmp_path, names[:1]), (tmp_path / "shown", names[1:])):
        table = written(folder / "t.csv", "stimulus,response", *(f"{name},1" for name in own))
        trials, _ = observers.found_stimuli(table, read_trials(table), noise="gaussian:0.5,0.1")
        found[folder] = [path.name for path in trials["participant"].stimuli]
    assert [*found.values()] == [["000000.png"], ["000001.png", "000002.png"]]


def test_flags_say_what_a_table_leaves_open(tmp_path: Path) -> None:
    table = written(tmp_path / "t.csv", "stimulus,response,rt", "0,left,300", "1,right,200", "2,,", "3,left,1")
    found = read_trials(table, yes="left", ignore=["rt"], skip_unanswered=True)["participant"]
    assert found.responses.tolist() == [1, 0, 1]
    assert found.rows.tolist() == [2, 3, 5]
    kinds = written(
        tmp_path / "k.csv",
        "stimulus,second,response,signal,interval",
        "0,1,1,a,1",
        "2,3,2,a,2",
        "4,5,2,a,1",
        "6,7,1,b,1",
    )
    found = read_trials(kinds)["participant"]
    assert found.responses.tolist() == [1, -1, -1, 1]
    assert len(set(found.classes.tolist())) == 3
    assert found.classes[0] == found.classes[2]
    inverted = written(tmp_path / "i.csv", "stimulus\tresponse", "0\toriginal", "1\tinverted")
    assert read_trials(inverted)["participant"].responses.tolist() == [1, -1]
    with pytest.raises(InputError, match="no response is 'up', only 'left', 'right'"):
        read_trials(table, yes="up", ignore=["rt"], skip_unanswered=True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "give one of --trials=TABLE.csv"),
        ({"trials": "a.csv", "export": "b"}, "give one of"),
        ({"trials": "nowhere.csv"}, "nowhere.csv is not there"),
        ({"export": "out", "image_shape": (28,)}, "the shape of images is 28: expected HEIGHT,WIDTH"),
        ({"export": "out", "noise": "matched"}, "unknown noise 'matched'"),
        ({"export": "out", "bits": 12}, "12 bits for 1 channels: expected 8, or 16"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    settings: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        run(Settings(**settings))


def test_numbers_that_were_not_exported_and_damaged_notes_are_said(tmp_path: Path) -> None:
    run(Settings(export=str(tmp_path), num_trials=5, image_shape=(6, 6)))
    table = written(tmp_path / "answers.csv", "stimulus,response", "0,1", "7,0")
    with pytest.raises(InputError, match=r"row 3: stimulus 7 is not there: .*stimuli\.json has 0 to 4"):
        run(Settings(trials=str(table)))
    (tmp_path / "stimuli.json").write_text("{}")
    with pytest.raises(InputError, match=r"stimuli\.json is damaged"):
        run(Settings(trials=str(table)))
    (tmp_path / "stimuli.json").unlink()
    with pytest.raises(InputError, match="give the shape of its images too"):
        run(Settings(trials=str(table), noise="uniform"))


@pytest.mark.filterwarnings("ignore:all .* answers of")
def test_one_who_always_says_yes_gets_no_map_and_it_is_said(tmp_path: Path) -> None:
    run(Settings(export=str(tmp_path / "s"), num_trials=20, image_shape=(9, 9)))
    table = written(tmp_path / "s" / "answers.csv", "stimulus,response", *(f"{i},yes" for i in range(20)))
    settings = Settings(trials=str(table), permutations=19, out_dir=str(tmp_path / "out"))
    result = launch.execute(run, settings)
    assert result.metrics["group"]["participants_with_a_map"] == 0
    assert (tmp_path / "out" / "observers.png").exists()
    assert "maps.npz" not in result.arrays


@pytest.mark.parametrize("base", [None, np.full((8, 8, 1), 0.4)])
def test_a_stimulus_beside_its_inverted_one_is_twice_the_noise(base: np.ndarray | None, tmp_path: Path) -> None:
    shown, count = noise.gaussian((8, 8, 1), 0.5, 0.1), 300
    observers.export_stimuli(tmp_path, shown, count, design="inverted", base=base)
    answers = np.random.default_rng(0).integers(1, 3, count)
    rows = [f"{i:06d}.png,{i:06d}_inverted.png,{answers[i]}" for i in range(count)]
    pairs = written(tmp_path / "pairs.csv", "stimulus,second,response", *rows)
    trials, known = observers.found_stimuli(pairs, read_trials(pairs))
    z = observers.analyse_group(trials, known, permutations=19).analyses["participant"].z["choice"]
    assert float(np.std(draws := np.asarray(draw_samples(known, 500)))) == pytest.approx(0.2, rel=0.02)
    np.testing.assert_allclose(known.deviation, 0.2)
    assert abs(draws.mean()) < 0.01
    assert float(z.std()) == pytest.approx(1, abs=4 / np.sqrt(2 * 64))
    same = [f"{i:06d}.png,{i + 1:06d}.png,{answers[i]}" for i in range(0, count, 2)]
    two = written(tmp_path / "two.csv", "stimulus,second,response", *same)
    assert np.allclose(observers.found_stimuli(two, read_trials(two))[1].deviation, 0.1 * np.sqrt(2))


def test_another_noise_than_was_exported_is_refused(tmp_path: Path) -> None:
    observers.export_stimuli(tmp_path, noise.uniform((8, 8, 1)), 20, seed=5)
    table = written(tmp_path / "t.csv", "stimulus,response", *(f"{i},{i % 2}" for i in range(20)))
    given: dict[str, Any] = {"shape": (8, 8), "noise": "uniform"}
    assert observers.found_stimuli(table, read_trials(table), seed=5, **given)[1].name == "uniform"
    for wrong in ({"seed": 0}, {"seed": 5, "noise": "binary"}):
        with pytest.raises(InputError, match="leave out the noise"):
            observers.found_stimuli(table, read_trials(table), **given | wrong)


def test_tables_of_r_and_pandas_are_read_and_no_answer_is_not_no(tmp_path: Path) -> None:
    table = written(tmp_path / "t.csv", ",stimulus,response,", "0,7,1,", "1,8,NA,", "2,9,nan,", "3,10,1,")
    with pytest.raises(InputError, match=r"row 3: no response .2 of 4 rows"):
        read_trials(table, yes="1")
    (trials,) = read_trials(table, yes="1", skip_unanswered=True).values()
    assert (trials.stimuli.tolist(), trials.responses.tolist()) == ([7, 10], [1, 1])


def test_answers_that_are_all_the_same_are_told(tmp_path: Path) -> None:
    run(Settings(export=str(tmp_path / "shown"), num_trials=6, noise="gaussian:0.5,0.15", image_shape=(6, 6)))
    table = written(tmp_path / "shown" / "same.csv", "stimulus,response", *(f"{i},yes" for i in range(6)))
    with pytest.warns(UserWarning, match="all 6 answers of participant are the same"):
        result = run(Settings(trials=str(table), yes="yes", permutations=19, out_dir=str(tmp_path / "out")))
    assert "infoVal         not known" in result.summary
