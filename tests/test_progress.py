import json
from pathlib import Path

import pytest

from wna_jax.runs.progress import Progress, in_parts, show


def test_each_report_is_a_line_and_each_job_a_bar(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    log = tmp_path / "log.jsonl"
    with show(log) as report:
        report(Progress("training", 10, 20, "images", {"loss": 0.5}))
        report(Progress("training", 20, 20, "images", {"loss": 0.25}))
        report(Progress("noise", 5, 5, "samples"))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["job"], line["done"], line["total"], line["unit"]) for line in lines] == [
        ("training", 10, 20, "images"),
        ("training", 20, 20, "images"),
        ("noise", 5, 5, "samples"),
    ]
    assert [line.get("loss") for line in lines] == [0.5, 0.25, None]
    assert all(line["seconds"] >= 0 for line in lines)
    drawn = capfd.readouterr()
    assert drawn.out == ""
    assert "training: 100%" in drawn.err
    assert "loss=0.25" in drawn.err
    assert "noise: 100%" in drawn.err


def test_parts_of_parts_are_one_job_of_which_the_whole_is_told() -> None:
    told: list[Progress] = []
    for _, of_part in in_parts(told.append, ("a", "b"), "answers"):
        for _, of_half in in_parts(of_part, range(2), "answers"):
            of_half(Progress("answers", 5, 10, "images"))
            of_half(Progress("answers", 10, 10, "images"))
            of_half(Progress("training", 3, 3, "images"))
    answers = [(progress.done, progress.total) for progress in told if progress.job == "answers"]
    assert answers == [(done, 40) for done in range(5, 45, 5)]
    assert [progress[1:3] for progress in told if progress.job == "training"] == [(3, 3)] * 4


def test_one_bar_is_drawn_of_all_parts(capfd: pytest.CaptureFixture) -> None:
    with show() as report:
        for _, tell in in_parts(report, range(37), "answers"):
            tell(Progress("answers", 100, 100, "images"))
    assert "3.70k/3.70k" in capfd.readouterr().err.splitlines()[-1]


def test_there_is_no_log_before_its_first_line_and_half_a_line_is_removed(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with show(log):
        pass
    assert not log.exists()
    log.write_text('{"job": "noise"}\n{"job": "noi')
    with show(log) as report:
        report(Progress("noise", 1, 1, "samples"))
    assert [json.loads(line)["job"] for line in log.read_text().splitlines()] == ["noise", "noise"]
