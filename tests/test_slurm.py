"""The batch script of examples/, with a Slurm that only writes down what it is told."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "slurm.sh"


def ended(folder: Path, status: int, tasks: int, *arguments: str) -> tuple[int, list[str]]:
    """The script's exit status, and the commands of Slurm that it ran; srun ends with a status of its own."""
    for name, exit_status in (("srun", status), ("scontrol", 0)):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >>"{folder}/said"\nexit {exit_status}\n')
        (folder / name).chmod(0o755)
    slurm = {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_NTASKS": str(tasks)}
    done = subprocess.run([SCRIPT, *arguments], env=os.environ | slurm, capture_output=True, check=False)
    said = folder / "said"
    return done.returncode, said.read_text().splitlines() if said.exists() else []


@pytest.mark.parametrize("status", [0, 1, 2, 143])
def test_a_job_that_ran_out_of_time_goes_back_into_the_queue_and_no_other(tmp_path: Path, status: int) -> None:
    returned, said = ended(tmp_path, status, 1, "noise_maps", "--dataset=mnist", "--num_samples=1e9")
    assert returned == status
    command = "srun --gpu-bind=none .venv/bin/python -m experiments.noise_maps --dataset=mnist --num_samples=1e9"
    assert said == [command, *["scontrol requeue 7"] * (status == 143)]


@pytest.mark.parametrize(("tasks", "together"), [(1, False), (8, True)])
def test_several_processes_find_each_other(tmp_path: Path, tasks: int, together: bool) -> None:
    _, said = ended(tmp_path, 0, tasks, "noise_maps")
    assert said[0].endswith("--coordinator=auto") == together


def test_without_an_experiment_nothing_is_run(tmp_path: Path) -> None:
    returned, said = ended(tmp_path, 0, 1)
    assert returned != 0
    assert not said
