"""The one error that a user's input can cause."""

import difflib
from collections.abc import Sequence


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: what was given, what was expected, and what to do. The experiments print it without a
    traceback and exit with status 2; in a library call it is an ordinary `ValueError`.
    """


def unknown_name(kind: str, given: str, known: Sequence[str]) -> InputError:
    """The error for a name that is in no list: says which are, and the nearest."""
    close = difflib.get_close_matches(given, known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return InputError(f"unknown {kind} {given!r}{hint}: choose one of {', '.join(known)}")
