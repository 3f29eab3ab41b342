"""Never lose work: the state of a long job on disk, so that the same command goes on where it was stopped."""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import numpy as np
from jax.experimental import multihost_utils

from wna_jax.runs.errors import InputError, damage_said, failure_said
from wna_jax.runs.files import check_name, check_writable, locked
from wna_jax.runs.processes import uninterrupted

_SECONDS_BETWEEN_SAVES = 5.0
_ELSEWHERE = "give another output directory"


class State(NamedTuple):
    """How far a job is."""

    step: int
    """What is done, in steps of the job's own choosing."""
    tree: Any
    """A pytree of arrays."""
    record: Any = None
    """Anything else: JSON values."""


class Store:
    """A directory that keeps the newest state of one job, written to a temporary name and renamed.

    A run that is killed at any moment leaves the state before or after a save, never half of one.
    """

    def __init__(self, directory: Path, identity: Mapping[str, Any]) -> None:
        """Opens or makes the directory.

        Args:
            directory: of this job alone.
            identity: what decides the job's result (JSON values); a state made under another identity is refused.

        Raises:
            InputError: an identity of other values, or a directory that cannot be used.
        """
        from orbax.checkpoint import v1 as ocp  # here, since it takes longer to import than a small job to run

        self._directory, self._identity = Path(directory).absolute(), dict(identity)
        try:
            json.dumps(self._identity)
        except (TypeError, ValueError) as error:  # else the first save says so, after the work
            raise InputError(f"the identity of a run cannot be saved ({error}): expected JSON values") from None
        self._saved_at = time.monotonic()
        self._open = contextlib.ExitStack()
        check_writable("state", self._directory.parent, _ELSEWHERE)
        check_name("state", self._directory, _ELSEWHERE)
        if self._directory.exists() and not self._directory.is_dir():
            raise InputError(f"{self._directory} is a file where a state would be kept: move it away, or {_ELSEWHERE}")
        if jax.process_count() == 1:  # the processes of one job share the directory
            lock = locked(self._directory.with_name(f".{self._directory.name}.lock"))
            if not self._open.enter_context(lock):
                raise InputError(f"another job is writing to {self._directory}: wait for it, or {_ELSEWHERE}")
        with uninterrupted(), self._damage_said():
            self._checkpointer = ocp.training.Checkpointer(
                self._directory,
                preservation_policy=ocp.training.preservation_policies.LatestN(1),
                cleanup_tmp_directories=True,
            )
        self._open.callback(self._checkpointer.close)

    def _damage_said(self) -> contextlib.AbstractContextManager[None]:
        return damage_said(f"the unfinished run in {self._directory}", "delete that directory to start anew")

    def load(self, like: Callable[[Any], Any]) -> State | None:
        """The newest state, None if there is none.

        Args:
            like: the state's record -> a pytree of the structure that was saved; its leaves do not matter.

        Raises:
            InputError: the state is another job's, of another version of wna_jax, or damaged.
        """
        with uninterrupted(), self._damage_said():
            latest = self._checkpointer.latest
            if latest is None:
                return None
            metadata: Any = self._checkpointer.metadata().custom_metadata
            made_by = dict(metadata["identity"])
        if "record" not in metadata:
            raise InputError(
                f"{self._directory} holds a run of wna_jax 0.1, whose states this version does not read: delete that "
                "directory to start anew, give another output directory, or finish the run with 0.1"
            )
        with self._damage_said():
            if metadata["metadata_digest"] != _digest([], latest.step, made_by, metadata["record"]):
                raise ValueError("the record of the run is not the one that was saved")
        different = sorted(
            name for name in made_by.keys() | self._identity.keys() if made_by.get(name) != self._identity.get(name)
        )
        if different:
            was = ", ".join(f"{name} {made_by.get(name)!r} (now {self._identity.get(name)!r})" for name in different)
            raise InputError(
                f"{self._directory} holds a run with {was}: give another output directory, or delete that one"
            )
        with uninterrupted(), self._damage_said():
            loaded: Any = self._checkpointer.load()
            leaves = [np.asarray(leaf) for leaf in loaded["leaves"]]
            if metadata["digest"] != _digest(leaves):
                raise ValueError("the arrays are not those that were saved")
            tree = jax.tree.unflatten(jax.tree.structure(like(metadata["record"])), leaves)
        return State(latest.step, tree, metadata["record"])

    def save(self, state: State) -> None:
        """Writes a state, unless it is the one on disk.

        Raises:
            OSError: it cannot be written; the one on disk is still there.
        """
        latest = self._checkpointer.latest
        if latest is None or latest.step != state.step:
            leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state.tree)]
            digests = {
                "digest": _digest(leaves),
                "metadata_digest": _digest([], state.step, self._identity, state.record),
            }
            metadata = {"identity": self._identity, "record": state.record} | digests
            with uninterrupted(), failure_said(self._directory):
                self._checkpointer.save(state.step, {"leaves": leaves}, force=True, custom_metadata=metadata)
        self._saved_at = time.monotonic()

    def save_now_and_then(self, state: State) -> None:
        """Writes a state if the last was written some seconds ago.

        Saving is collective, so in a job of several processes all follow the clock of process 0: when each used its
        own, a two-process run deadlocked.
        """
        due = time.monotonic() - self._saved_at > _SECONDS_BETWEEN_SAVES
        if jax.process_count() > 1:
            due = bool(multihost_utils.broadcast_one_to_all(np.bool_(due)))
        if due:
            self.save(state)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for what is being written."""
        with uninterrupted(), failure_said(self._directory):  # a save that failed is told of again
            self._open.close()


def _digest(leaves: list[np.ndarray], *facts: Any) -> str:
    """A sha256 over arrays with their types and shapes, and over facts in JSON: what is read is what was written."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for leaf in leaves:
        digest.update(f"{leaf.dtype.str} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()
