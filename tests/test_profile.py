import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments.profile import Step, _steps

RUN, LOOP, PART = (
    ("/a/experiments/demo.py", 9, "run"),
    ("/b/loop.py", 5, "turn"),
    ("/a/experiments/demo.py", 12, "<listcomp>"),
)
COMPILED = ("/jax/compiler.py", 3, "compile_or_get_cached")


def test_steps_are_what_run_called_also_within_a_comprehension() -> None:
    def timed(seconds: float, **callers: Any) -> tuple:
        return 1, 1, 0.0, seconds, {where: (1, 1, 0.0, own) for where, own in callers.get("by", {}).items()}

    stats = {
        RUN: timed(9.0),
        PART: timed(3.0, by={RUN: 3.0}),
        LOOP: timed(8.0, by={RUN: 5.0, PART: 2.0, ("/c/other.py", 1, "run"): 1.0}),
        COMPILED: timed(4.0, by={LOOP: 4.0}),
    }
    assert list(_steps(stats, "demo", long=9.0)) == [
        Step("run", "loop.turn", 2.0),
        Step("run", "loop.turn", 5.0),
        Step("all", "imports", 0.0),
        Step("all", "tracing", 0.0),
        Step("all", "compiling", 4.0),
    ]


def test_what_a_long_step_of_the_package_consists_of_is_listed() -> None:
    analyse, other = ("/x/wna_jax/analysis.py", 1, "analyse"), ("/x/site-packages/other.py", 1, "work")
    stats = {
        RUN: (1, 1, 0.0, 9.0, {}),
        analyse: (1, 1, 0.0, 6.0, {RUN: (1, 1, 0.0, 6.0)}),
        LOOP: (1, 1, 0.0, 4.0, {analyse: (1, 1, 0.0, 4.0)}),
        other: (1, 1, 0.0, 3.0, {RUN: (1, 1, 0.0, 3.0)}),
        COMPILED: (1, 1, 0.0, 2.0, {other: (1, 1, 0.0, 2.0)}),
    }
    steps = [step for step in _steps(stats, "demo", long=2.5) if step.caller != "all"]
    assert steps == [
        Step("run", "analysis.analyse", 6.0),
        Step("analyse", "loop.turn", 4.0),
        Step("run", "other.work", 3.0),
    ]


@pytest.mark.slow
def test_an_experiment_is_profiled_by_its_command(tmp_path: Path, network_settings: dict[str, Any]) -> None:
    flags = [f"--{name}={value}" for name, value in network_settings.items()]
    command = [sys.executable, "-m", "experiments.profile", f"--json={tmp_path / 'steps.json'}", "noise_maps", *flags]
    short = [f"--out_dir={tmp_path / 'out'}", "--num_samples=2000", "--permutations=19", "--gradient_samples=0"]
    done = subprocess.run([*command, *short], capture_output=True, text=True, check=True)
    found = json.loads((tmp_path / "steps.json").read_text())
    seconds = {step["name"]: step["seconds"] for step in found["steps"]}
    assert found["seconds"] > sum(step["seconds"] for step in found["steps"] if step["caller"] == "run") > 0
    assert seconds["imports"] > 0.2
    assert seconds["parts.save"] > 0
    assert "s  in all" in done.stdout
    assert (tmp_path / "out" / "classification_images.png").exists()


def test_without_an_experiment_there_is_one_line() -> None:
    done = subprocess.run([sys.executable, "-m", "experiments.profile"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no experiment is named: such as")
