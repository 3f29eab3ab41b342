"""The one error that a user's input can cause."""

import contextlib
import difflib
import gc
import logging
import sys
from collections.abc import Iterator, Sequence


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


@contextlib.contextmanager
def damage_said(what: str, way_out: str) -> Iterator[None]:
    """Turns whatever a reader of files raises into one line, and keeps Orbax's own account of it off the terminal."""
    log = logging.getLogger("absl")
    level, hook = log.level, sys.unraisablehook
    log.setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda _: None  # Orbax's readers that were cut short
    try:
        yield
    except Exception as error:
        gc.collect()
        text = f"{type(error).__name__}: {error}".splitlines()[0][:160]
        raise InputError(f"{what} is damaged ({text}): {way_out}") from error
    finally:
        log.setLevel(level)
        sys.unraisablehook = hook
