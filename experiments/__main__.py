"""Lists the experiments: `python -m experiments`."""

import ast
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path


def listing() -> dict[str, str]:
    """The first line of each experiment's docstring, by name; nothing is imported."""
    lines = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source = path.read_text()
        if "launch.main(run" in source and path.stem != "__main__":
            lines[path.stem] = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    return lines


def mistaken(arguments: Sequence[str]) -> str:
    """What to say in the place of `python -m experiments ARGUMENTS`."""
    known = listing()
    for given in arguments:
        if (name := given.removesuffix(".py").replace("/", ".").removeprefix("experiments.")) in known:
            rest = [each for each in arguments if each is not given]
            return f"say {shlex.join(['python', '-m', f'experiments.{name}', *rest])}"
    return f"{arguments[0]} is no experiment: python -m experiments lists them, python -m experiments.NAME runs one"


if __name__ == "__main__":
    if set(sys.argv[1:]) - {"--help", "-h"}:
        sys.exit(print(f"error: {mistaken(sys.argv[1:])}", file=sys.stderr) or 2)
    print("python -m experiments.NAME --help describes an experiment and its flags.\n")
    for name, line in listing().items():
        print(f"  {name:28s}{line}")
