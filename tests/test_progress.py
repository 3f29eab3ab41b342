import json
from pathlib import Path

import pytest

from wna_jax.runs.progress import Progress, show


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
