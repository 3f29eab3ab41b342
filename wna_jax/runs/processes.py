"""The process that a run lives in: its memory, its place in a job of several processes, its compiled programs."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import jax

from wna_jax.runs.errors import InputError
from wna_jax.runs.files import cache_directory
from wna_jax.runs.progress import Report, show, silent


def keep_freed_memory() -> None:
    """Has the C library hand a step's large arrays to the next one, instead of returning them to the system.

    Which would clear every page again: with this, training on a CPU is a fifth faster.
    """
    mmap_threshold, trim_threshold, arenas, largest = -3, -1, -8, 2**31 - 1  # of malloc.h
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        for parameter, value in ((arenas, 1), (mmap_threshold, largest), (trim_threshold, largest)):
            library.mallopt(parameter, value)


def keep_compiled_programs() -> None:
    """Has JAX keep its compiled programs in the cache directory: a second run of the same kind compiles nothing.

    Networks are arguments of the programs, so that other weights need no other program. JAX_COMPILATION_CACHE_DIR
    names another place; JAX itself deletes what has not been used for long above a GiB.
    """
    if not getattr(jax.config, "jax_compilation_cache_dir", None):
        jax.config.update("jax_compilation_cache_dir", str(cache_directory() / "programs"))
        jax.config.update("jax_compilation_cache_max_size", 2**30)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Makes this process one of a job of several, if the arguments say that it is.

    Args:
        coordinator: HOST:PORT of process 0, or "auto" on a cluster that JAX knows; None for a job of one process.
        num_processes: of the job.
        process_id: of this process, from 0 on.

    Raises:
        InputError: arguments that do not fit together.
    """
    if coordinator is None and (num_processes, process_id) != (None, None):
        raise InputError("num_processes and process_id say which process of a job this is: give --coordinator too")
    if coordinator == "auto":
        jax.distributed.initialize()
    elif coordinator is not None:
        if num_processes is None or process_id is None or process_id >= num_processes:
            raise InputError(
                f"num_processes is {num_processes} and process_id {process_id}: with --coordinator=HOST:PORT give "
                "both, and a process_id from 0 to num_processes - 1"
            )
        jax.distributed.initialize(coordinator, num_processes, process_id)


def is_first() -> bool:
    """This process writes: in a job of several, every process ends with the full result, and only process 0 writes."""
    return jax.process_index() == 0


def leave(status: int) -> NoReturn:
    """Ends the process at once, after all that Python knows of is closed.

    At the usual end of an interrupted process Python takes down what XLA's threads still compute with, and may crash.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Holds Ctrl-C and SIGTERM back until the end of the context.

    Orbax waits for ever, or crashes, where an exception from outside cuts it short.
    """
    held: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield
        return
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not None]
    before = {number: signal.signal(number, lambda got, _: held.append(got)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


@contextlib.contextmanager
def reporting(log_path: Path) -> Iterator[Report]:
    """Progress bars and a log of JSON lines; of several processes only process 0 reports."""
    if is_first():
        with show(log_path) as report:
            yield report
    else:
        yield silent
