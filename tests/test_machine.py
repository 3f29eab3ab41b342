import subprocess
import sys
from pathlib import Path

import pytest

from experiments import machine
from experiments.machine import Meter

STAT = "cpu  100 50 30 900 40 5 5 10 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n"


@pytest.mark.parametrize(
    ("cpuinfo", "said"),
    [
        ("model name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512f sse2\n", "AMD EPYC (AVX-512, AVX2)"),
        ("model name\t: Xeon\nflags\t\t: avx2 amx_tile avx512f\n", "Xeon (AMX, AVX-512, AVX2)"),
        ("model name\t: Xeon\nflags\t\t: sse2 avx\n", "Xeon (instruction sets unknown)"),
        ("model name\t: Arm\nFeatures\t: fp asimd sve\n", "Arm (SVE, NEON)"),
    ],
)
def test_the_cpu_is_named_with_its_instruction_sets(
    cpuinfo: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    assert machine.cpu() == said


def test_idle_cores_and_waiting_for_disks_are_no_work_and_time_of_other_virtual_machines_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stat").write_text(STAT)
    monkeypatch.setattr(machine, "_STAT", tmp_path / "stat")
    monkeypatch.setattr(machine.os, "sysconf", lambda _: 100)
    assert machine._busy_seconds() == pytest.approx((100 + 50 + 30 + 5 + 5 + 10) / 100)
    monkeypatch.setattr(machine, "_STAT", tmp_path / "none")
    assert machine._busy_seconds() is None


def test_what_is_not_this_process_is_other_work() -> None:
    start = Meter(at=10.0, machine=100.0, own=3.0)
    assert start.others(Meter(at=12.0, machine=104.0, own=6.0)) == pytest.approx(0.5)
    assert start.others(Meter(at=12.0, machine=102.0, own=5.01)) == 0  # both clocks have their steps
    assert start.others(Meter(at=10.1, machine=100.2, own=3.0)) is None
    assert start.others(Meter(at=12.0, machine=None, own=6.0)) is None


def test_a_process_that_computes_is_seen() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        seen = machine.others(0.5)
    finally:
        busy.kill()
        busy.wait()
    assert seen is None or seen > 0.4  # if it did not get its core, others had it
