"""The scripts of examples/ that are tutorials: what their pages are made of, and what the scripts find."""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import wna_jax
from docs import tutorials

ROOT = Path(__file__).parent.parent
SCRIPT = '''"""A title: what is it?

  python examples/small.py

About it.
"""

import math

# Of the code: no text.
x = math.pi

# 1. A first step. It has 2.5 lines
# of text.
#
# And a second paragraph.

print(f"{x:.2f}")

# How to read it? Like this.
#
# ![The picture](picture.png)
'''
PAGE = """# A title: what is it?

    python examples/small.py

About it.

```python
import math

# Of the code: no text.
x = math.pi
```

## 1. A first step

It has 2.5 lines
of text.

And a second paragraph.

```python
print(f"{x:.2f}")
```

```text
3.14
```

## How to read it?

Like this.

![The picture](picture.png)
"""


class Made(NamedTuple):
    page: str
    folder: Path


def made(script: Path, folder: Path) -> Made:
    """The page of a script, made in a process of its own as for the site, and what the script wrote."""
    command = [sys.executable, tutorials.__file__, str(script)]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return Made(ended.stdout, folder / "runs" / script.stem)


@pytest.mark.parametrize("name", tutorials.NAMES)
def test_every_tutorial_is_a_short_script_with_its_picture_and_a_mistake(name: str) -> None:
    script = (ROOT / "examples" / f"{name}.py").read_text()
    assert script.count("\n") <= 80
    texts = [tutorials.text(part) for _, is_text, part in tutorials.parts(script) if is_text]
    headings = [text.partition("\n")[0] for text in texts]
    assert headings[0].startswith("## 1. ")
    assert headings[-2:] == ["## How to read it", "## A common mistake"]
    assert tutorials.PICTURE.search(texts[-2])
    assert max(map(len, headings)) < 75


def test_every_tutorial_is_in_the_navigation_and_in_the_readme() -> None:
    listed = re.findall(r"tutorials/(\w+)\.md", (ROOT / "mkdocs.yml").read_text())
    assert tuple(listed) == tutorials.NAMES
    readme = (ROOT / "README.md").read_text()
    assert all(f"(examples/{name}.py)" in readme for name in tutorials.NAMES)


def test_a_page_is_the_text_the_code_and_the_output_of_its_script(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(SCRIPT)
    assert made(tmp_path / "small.py", tmp_path).page == PAGE


def test_without_a_foreign_package_a_page_says_so_and_has_the_code_alone(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(SCRIPT.replace("import math", "import math, no_such_package"))
    page = made(tmp_path / "small.py", tmp_path).page
    assert f"*no_such_package {tutorials.MISSING}.*" in page
    assert "3.14" not in page
    assert "picture.png" not in page
    assert page.count("```python") == PAGE.count("```python")


@pytest.mark.parametrize("broken", ["import wna_jax.no_such_module", "raise ValueError"])
def test_a_script_that_fails_makes_no_page(broken: str, tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(SCRIPT.replace("x = math.pi", broken))
    command = [sys.executable, tutorials.__file__, str(tmp_path / "small.py")]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert 'small.py", line 11' in ended.stderr  # of the script, not of the part


@pytest.fixture(scope="module", params=tutorials.NAMES)
def tutorial(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    if request.param == "own_torch_network":
        pytest.importorskip("torch")
    return made(ROOT / "examples" / f"{request.param}.py", tmp_path_factory.mktemp(request.param))


@pytest.mark.slow
def test_a_tutorial_finds_what_is_known(tutorial: Made) -> None:
    page, folder = tutorial
    for _, picture in tutorials.PICTURE.findall(page):
        assert (folder / picture).stat().st_size > 10_000
    FACTS[folder.name](page, folder)


def has_maps_of_all_digits(page: str, folder: Path) -> None:
    assert "probability maps 10 of 10 classes" in page
    assert float(re.findall(r"test accuracy +([\d.]+)%", page)[0]) > 90
    assert wna_jax.load(folder).reliability["probability"].reliability.min() > 0.5


def finds_the_mark(page: str, folder: Path) -> None:
    """The strongest pixel of the circle's map is one of the mark, without which no circle is called one."""
    line = r"circle +strongest at row (\d+), column (\d+); right (\d+)%, with that covered (\d+)%"
    row, column, before, after = map(int, re.findall(line, page)[0])
    assert 2 <= row <= 4
    assert 22 <= column <= 24
    assert (before, after) == (100, 0)
    assert wna_jax.load(folder).class_names == ("circle", "square", "triangle")


def finds_the_templates(page: str, folder: Path) -> None:
    found = re.search(r"r with their templates ([.\d]+), by theory ([.\d]+)", page)
    assert found
    assert float(found[1]) == pytest.approx(float(found[2]), abs=0.05)
    assert (folder / "trials.csv").exists()


def finds_what_the_answer_rests_on(page: str, folder: Path) -> None:
    assert "classification image, logit" in page
    assert wna_jax.load(folder).reliability["probability"].reliability.min() > 0.5
    scores = re.findall(r"deletion ([.\d]+), insertion ([.\d]+)", page)
    deletion, insertion = np.array(scores, float).T
    assert (deletion < insertion / 2).all()


def finds_the_weights(page: str, folder: Path) -> None:
    (least,) = re.findall(r"r with the weights: ([\d.]+)", page)
    assert float(least) > 0.9
    average, feature = map(float, re.findall(r"its weights: average ([\d.]+), feature ([\d.]+)", page)[0])
    assert average < 0.6  # beyond three standard errors of r over 25 pixels
    assert feature > 0.99


FACTS = {
    "own_flax_network": has_maps_of_all_digits,
    "own_torch_network": has_maps_of_all_digits,
    "own_folder": finds_the_mark,
    "people": finds_the_templates,
    "around_a_picture": finds_what_the_answer_rests_on,
    "single_units": finds_the_weights,
}
