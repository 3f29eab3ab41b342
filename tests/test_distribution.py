"""What is given away: the wheel, the source distribution, and how the package is cited."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import wna_jax

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BUILD = "from setuptools import build_meta; build_meta.build_sdist('dist'); build_meta.build_wheel('dist')"
FILES = {
    str(path.relative_to(ROOT))
    for path in (ROOT / "wna_jax").rglob("*")
    if path.is_file() and path.parent.name != "__pycache__"
}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both distributions, built from a copy of the sources without anything from elsewhere."""
    pytest.importorskip("setuptools", minversion="77")
    copy = tmp_path_factory.mktemp("sources")
    for name in ("wna_jax", "experiments", "tests", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    built = subprocess.run([sys.executable, "-c", BUILD], cwd=copy, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return copy / "dist"


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        described = {Path(name).name: name for name in names if ".dist-info/" in name}
        metadata = Parser().parsestr(archive.read(described["METADATA"]).decode())
    assert names - set(described.values()) == FILES
    assert "LICENSE" in described
    assert metadata["Version"] == wna_jax.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_payload() == (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_source_distribution_can_be_built_again(dist: Path) -> None:
    (sources,) = dist.glob("*.tar.gz")
    with tarfile.open(sources) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert FILES | {"pyproject.toml", "README.md", "LICENSE"} <= names
    assert not [name for name in names if name.startswith(("experiments", "docs"))]


def test_version_and_licence_are_the_same_wherever_they_stand() -> None:
    cited = (ROOT / "CITATION.cff").read_text()
    changes = (ROOT / "CHANGELOG.md").read_text()
    (version,) = re.findall(r"^version: (\S+)$", cited, re.MULTILINE)
    (released,) = re.findall(r"^date-released: (\S+)$", cited, re.MULTILINE)
    assert version == PROJECT["version"] == wna_jax.__version__
    assert re.findall(r"^## \[(\S+)\] - (\S+)$", changes, re.MULTILINE)[0] == (version, released)
    assert f"\nlicense: {PROJECT['license']}\n" in cited
