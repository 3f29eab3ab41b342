"""The experiments: each is a choice of settings, and a `run` from settings to results."""

import os
import sys
from types import TracebackType


def _said_in_a_line(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if isinstance(error, ModuleNotFoundError) and error.name:
        way_out = "say python -m pip install -e . in the checkout"
        print(f"error: the package {error.name.partition('.')[0]} is not installed: {way_out}", file=sys.stderr)
    elif isinstance(error, KeyboardInterrupt):
        print("error: interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


if sys.argv[:1] == ["-m"]:  # python -m experiments.NAME
    sys.excepthook = _said_in_a_line  # much is imported before an experiment can catch an error
    os.environ["MPLBACKEND"] = "agg"  # figures are files; a notebook's backend may not be there, and matplotlib raises
