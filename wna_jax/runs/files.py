"""Files that are whole or not there at all, their names, and folders that can be written."""

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from wna_jax.runs.errors import InputError, of_path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LONGEST = 150
_PATTERNS = "[]*?\\"  # Orbax takes these for patterns, and then does not find what it wrote


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def or_none(values: Any) -> Any:
    """Numbers of any depth, masked or not, as JSON values of four digits; None where they are masked or not finite."""
    if np.ndim(values):
        return [or_none(value) for value in values]
    return None if values is np.ma.masked or not np.isfinite(values) else float(f"{values:.4g}")


def write_arrays(path: Path, **arrays: Any) -> None:
    """Writes arrays by name to an .npz file, whole or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` to write to, and renames it to `path` when that went well."""
    temporary = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        with of_path(path, temporary):
            yield temporary
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_writable(what: str, directory: Path, way_out: str) -> None:
    """Makes a directory and writes to it, so that nobody computes for hours what cannot be kept.

    Raises:
        InputError: it cannot be written, or not be found again by its name.
    """
    check_name(what, directory, way_out)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise InputError(f"the {what} directory {directory} cannot be written ({error.strerror}): {way_out}") from error


def check_name(what: str, directory: Path, way_out: str) -> None:
    """Raises an InputError if a directory has a name that Orbax does not find again."""
    if "://" in str(directory) or re.match(r"\w{2,}:/", str(directory)):  # Path makes one slash of two
        raise InputError(f"the {what} directory {directory} is an address, not a folder of this machine: {way_out}")
    wrong = sorted(set(_PATTERNS) & set(str(Path(directory).absolute())))
    if wrong:
        raise InputError(f"the {what} directory {directory} has {' '.join(wrong)} in its path: {way_out}")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Whether this process alone has a lock file until the end of the context; a killed process leaves no lock behind.

    On file systems without locks it is True for everyone.
    """
    with path.open("w") as lock:
        alone = _take(lock)
        if alone and not _is_at(path, lock):  # its last owner deleted it in between
            with locked(path) as alone:
                yield alone
            return
        try:
            yield alone
        finally:
            if alone:
                path.unlink(missing_ok=True)


def _is_at(path: Path, lock: IO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(lock.fileno()))
    except FileNotFoundError:
        return False


def _take(lock: IO) -> bool:
    try:
        if fcntl:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks here
        pass
    return True


def cache_directory() -> Path:
    """For downloads and compiled programs: WNA_JAX_CACHE, else XDG_CACHE_HOME/wna_jax, else ~/.cache/wna_jax.

    Where nobody is at home (no HOME, an unknown user), it is a folder of the user's in the system's temporary one.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    try:
        return Path(os.environ.get("WNA_JAX_CACHE") or caches / "wna_jax").expanduser()
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"wna_jax-{os.getuid()}"


def as_file_name(text: str) -> str:
    """A text as the name of a file, for which systems allow 255 bytes: of a long one its end after a hash."""
    name = re.sub(r"[^\w.-]+", "_", text)
    return name if len(name) <= _LONGEST else f"{digest_of(name)}{name[8 - _LONGEST :]}"


def digest_of(text: str) -> str:
    """The start (8 hex digits) of a text's sha256."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]
