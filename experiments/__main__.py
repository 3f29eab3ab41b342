"""Lists the experiments: `python -m experiments`."""

import ast
from pathlib import Path


def listing() -> dict[str, str]:
    """The first line of each experiment's docstring, by name; nothing is imported."""
    lines = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source = path.read_text()
        if "launch.main(run" in source and path.stem != "__main__":
            lines[path.stem] = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    return lines


if __name__ == "__main__":
    print("python -m experiments.NAME --help describes an experiment and its flags.\n")
    for name, line in listing().items():
        print(f"  {name:28s}{line}")
