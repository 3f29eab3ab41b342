"""Train once, analyse many: parameters on disk together with the spec that made them."""

import contextlib
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from wna_jax.data import Dataset
from wna_jax.errors import InputError, damage_said
from wna_jax.progress import Report, silent
from wna_jax.training import Parameters, Trained, TrainingSpec, default_augmentation, fit

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LONGEST = 150
_WAY_OUT = "pass --retrain to replace it, or another --checkpoint_dir"


def path_of(spec: TrainingSpec, directory: Path) -> Path:
    """Where a spec's checkpoint lies: <directory>/<data set>-<model>-seed<seed>, and any unusual augmentation."""
    usual = spec.augmentation == default_augmentation(spec.dataset)
    name = f"{spec.dataset}-{spec.model}-seed{spec.seed}" + ("" if usual else f"-{spec.augmentation}")
    return Path(directory).absolute() / as_file_name(name)


def as_file_name(text: str) -> str:
    """A text as the name of a file, for which systems allow 255 bytes: of a long one its end after a hash."""
    name = re.sub(r"[^\w.-]+", "_", text)
    return name if len(name) <= _LONGEST else f"{_hash(name)}{name[8 - _LONGEST :]}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def save(path: Path, spec: TrainingSpec, trained: Trained) -> None:
    """Writes parameters, spec and metrics to `path` as one Orbax checkpoint (a temporary name, then a rename)."""
    metadata = {"spec": asdict(spec), "metrics": trained.metrics, "fingerprint": fingerprint(trained.parameters)}
    ocp.save(path, trained.parameters, overwrite=True, custom_metadata=metadata)


def fingerprint(parameters: Parameters) -> str:
    """The start (16 hex digits) of a sha256 over all parameters: which network a result is of."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(parameters):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()[:16]


def restore(path: Path, spec: TrainingSpec) -> Trained:
    """Reads what `save` wrote, if the same spec made it.

    Raises:
        InputError: the checkpoint was made by another spec, or it is damaged; the message says how to go on.
    """
    with damage_said(f"the checkpoint {path}", _WAY_OUT):
        metadata: Any = ocp.metadata(path).custom_metadata
        made_by, metrics = metadata["spec"], metadata["metrics"]
    asked = asdict(spec)
    different = sorted(name for name in made_by.keys() | asked.keys() if made_by.get(name) != asked.get(name))
    if different:
        was = ", ".join(f"{name} {made_by.get(name)!r} (asked for: {asked.get(name)!r})" for name in different)
        raise InputError(f"the checkpoint {path} was made with {was}: {_WAY_OUT}")
    with damage_said(f"the checkpoint {path}", _WAY_OUT):
        parameters = jax.tree.map(np.asarray, ocp.load(path))
        if fingerprint(parameters) != metadata["fingerprint"]:
            raise ValueError("the parameters are not those that were saved")
        return Trained(parameters, metrics)


def load_or_train(
    spec: TrainingSpec,
    dataset: Dataset,
    directory: Path,
    retrain: bool = False,
    report: Report = silent,
    train: Callable[[TrainingSpec, Dataset, Report, Path | None], Trained] = fit,
) -> tuple[Trained, bool]:
    """Gives the network of a spec: from its checkpoint where there is one, else trained now and saved.

    A training that was interrupted goes on after its last whole epoch.

    Args:
        spec: what to train and how.
        dataset: the data set that the spec names.
        directory: of all checkpoints; each spec has a folder in it.
        retrain: train anew, and replace the checkpoint.
        report: progress of the training.
        train: how, and with which directory for the state of the training; by default as a classifier.

    Returns:
        The network, and whether it was loaded.

    Raises:
        InputError: as `restore` and `train`; or the directory cannot be written (said before the training).
    """
    path = path_of(spec, directory)
    if path.exists() and not retrain:
        return restore(path, spec), True
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise InputError(
            f"the checkpoint directory {path.parent} cannot be written ({error.strerror}): choose another"
        ) from error
    with _state_folder(path.with_name(f".unfinished-{_hash(json.dumps(asdict(spec)))}")) as unfinished:
        trained = train(spec, dataset, report, unfinished)
        save(path, spec, trained)
    return trained, False


@contextlib.contextmanager
def _state_folder(folder: Path) -> Iterator[Path | None]:
    """The folder for the state of a training, deleted when that went well; None while another job is at the same one.

    Jobs that were started together may need the same network: the later ones train it for themselves.
    """
    with folder.with_suffix(".lock").open("w") as lock:
        try:
            if fcntl and jax.process_count() == 1:  # the processes of one job share the folder
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
        Path(lock.name).unlink(missing_ok=True)
