"""The one error that a user's input can cause."""

import contextlib
import difflib
import errno
import gc
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path


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
def of_path(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Has an OSError name the path: those of writing (a full disk) name none, others the temporary one."""
    try:
        yield
    except OSError as error:
        named = error.filename is not None and str(error.filename) != str(temporary)
        if error.errno is None or named:  # of a server, or of another file
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def damage_said(what: str, way_out: str) -> Iterator[None]:
    """Turns whatever a reader of files raises into one line, and keeps Orbax's own account of it off the terminal."""
    with _quiet():
        try:
            yield
        except Exception as error:
            text = f"{type(error).__name__}: {error}".splitlines()[0][:160]
            raise InputError(f"{what} is damaged ({text}): {way_out}") from error


@contextlib.contextmanager
def failure_said(path: Path) -> Iterator[None]:
    """Turns whatever Orbax raises where it cannot write, as on a full disk, into an OSError of the path, quietly."""
    with _quiet():
        try:
            yield
        except Exception as error:
            code = re.search(r"(?:OS error |os_error_code=')(\d+)", str(error))
            number = int(code[1]) if code else getattr(error, "errno", None) or errno.EIO
            raise OSError(number, os.strerror(number), str(path)) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Orbax tells of each of its many tasks that failed, in logs and when they are collected: none of it is shown."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels, hook = [log.level for log in loggers], sys.unraisablehook
    for log in loggers:
        log.setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    try:
        yield
    except Exception:
        gc.collect()
        raise
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)
        sys.unraisablehook = hook
