"""The tutorial runs as it stands, and says what theory says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_tutorial_for_people_finds_their_templates(tmp_path: Path) -> None:
    command = [sys.executable, "examples/people.py", str(tmp_path / "people"), "400"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    found = re.search(r"r with their templates ([.\d]+), by theory ([.\d]+)", ended.stdout)
    assert found
    assert float(found[1]) == pytest.approx(float(found[2]), abs=0.05)
    assert (tmp_path / "people" / "people.png").exists()
