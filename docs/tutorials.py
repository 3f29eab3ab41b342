"""The tutorials among these pages, made from the scripts in examples/: text, code, and what it printed and drew.

  python docs/tutorials.py examples/people.py > people.md    # writes the pictures of the page to runs/people

The docstring of a script is the head of its page. A comment at the margin before an empty line is text, whose first
sentence is the heading; all else is code. mkdocs calls `on_files`, which runs each script, once for each state of
script and package, and adds its page; what was made is kept in runs/docs.
"""

import ast
import contextlib
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("own_flax_network", "own_torch_network", "own_folder", "people", "around_a_picture", "single_units")
MISSING = "was not installed where this page was made, so it shows no output and no pictures"
PICTURE = re.compile(r"^(!\[.*?\])\((\w+\.png)\)\n*", re.MULTILINE)


def page(script: Path) -> str:
    """Runs a script, part by part in the working directory, and returns its page as Markdown.

    Where a package is missing that is none of this one, the page says so, and has code alone.
    """
    source = script.read_text()
    title, _, about = (ast.get_docstring(ast.parse(source)) or "").partition("\n")
    about = re.sub(r"^  (?=\S)", "    ", about.strip("\n"), flags=re.MULTILINE)
    written, missing = [f"# {title.removesuffix('.')}", about], ""
    main = types.ModuleType("__main__")
    main.__file__ = str(script)
    sys.modules["__main__"], sys.argv = main, [str(script)]
    for line, is_text, part in parts(source):
        if is_text:
            written.append(text(part))
            continue
        written.append(f"```python\n{part}\n```")
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec("" if missing else compile("\n" * line + part, script, "exec"), main.__dict__)
        except ModuleNotFoundError as error:
            if (error.name or "wna_jax").partition(".")[0] == "wna_jax":
                raise
            missing = f"*{error.name} {MISSING}.*"
            written.insert(2, missing)
        if printed.getvalue():
            written.append(f"```text\n{printed.getvalue().rstrip()}\n```")
    whole = "\n\n".join(written) + "\n"
    return PICTURE.sub("", whole) if missing else whole


def parts(source: str) -> list[tuple[int, bool, str]]:
    """A script after its docstring: the number of lines before each part, whether it is text, and the part."""
    start = ast.parse(source).body[0].end_lineno or 0
    rest = "".join(source.splitlines(keepends=True)[start:])
    pieces = re.split(r"(?:^|(?<=\n\n))((?:#.*\n)+)(?=\n|\Z)", rest)
    found = []
    for i, piece in enumerate(pieces):
        if piece.strip():
            before = start + "".join(pieces[:i]).count("\n") + len(piece) - len(piece.lstrip("\n"))
            found.append((before, i % 2 == 1, piece.strip("\n")))
    return found


def text(comment: str) -> str:
    """A comment as Markdown: its first sentence as the heading of the rest."""
    plain = re.sub(r"^#[ ]*", "", comment, flags=re.MULTILINE)
    heading, end, rest = re.split(r"(?<!\d)([.?])(?:\s+|$)", plain, maxsplit=1)
    return f"## {' '.join(heading.split())}{end.strip('.')}\n\n{rest}".strip()


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages and their pictures to those of mkdocs."""
    from mkdocs.structure.files import File

    for name in NAMES:
        folder = made(name)
        content = (folder / "page.md").read_text()
        for _, picture in PICTURE.findall(content):
            data = (folder / "runs" / name / picture).read_bytes()
            files.append(File.generated(config, f"tutorials/{name}/{picture}", content=data))
        linked = PICTURE.sub(rf"[\1({name}/\2)]({name}/\2)\n\n", content)  # to its full size
        files.append(File.generated(config, f"tutorials/{name}.md", content=f"---\nhide: [toc]\n---\n\n{linked}"))
    return files


def made(name: str) -> Path:
    """The folder with the page of a script, and what the script wrote; made anew where script or package changed."""
    script, folder = ROOT / "examples" / f"{name}.py", ROOT / "runs" / "docs" / name
    state = hashlib.sha256()
    for path in (Path(__file__), script, *sorted((ROOT / "wna_jax").rglob("*.py"))):
        state.update(path.read_bytes())
    if not (folder / state.hexdigest()).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        print(f"INFO    -  Running {script.relative_to(ROOT)}", file=sys.stderr)
        environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        command = [sys.executable, __file__, str(script)]
        with (folder / "page.md").open("w") as file:
            subprocess.run(command, cwd=folder, env=environment, stdout=file, check=True)
        if MISSING not in (folder / "page.md").read_text():
            (folder / state.hexdigest()).touch()
    return folder


if __name__ == "__main__":
    print(page(Path(sys.argv[1]).resolve()), end="")
