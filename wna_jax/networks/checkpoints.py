"""Checkpoints: trained parameters on disk, together with the spec that they were trained by."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from wna_jax.data import Dataset
from wna_jax.networks.network import fingerprint
from wna_jax.networks.training import Trained, TrainingSpec, default_augmentation, fit
from wna_jax.runs.errors import InputError, damage_said, failure_said
from wna_jax.runs.files import as_file_name, check_writable, digest_of, locked
from wna_jax.runs.processes import uninterrupted
from wna_jax.runs.progress import Report, silent

_WAY_OUT = "pass --retrain to replace it, or another --checkpoint_dir"


def path_of(spec: TrainingSpec, directory: Path) -> Path:
    """The path of a spec's checkpoint: <directory>/<data set>-<model>-seed<seed>, and any unusual augmentation."""
    usual = spec.augmentation == default_augmentation(spec.dataset)
    name = f"{spec.dataset}-{spec.model}-seed{spec.seed}" + ("" if usual else f"-{spec.augmentation}")
    return Path(directory).absolute() / as_file_name(name)


def save(path: Path, spec: TrainingSpec, trained: Trained) -> None:
    """Writes parameters, spec and metrics to `path` as one Orbax checkpoint, under a temporary name until complete."""
    metadata = {"spec": asdict(spec), "metrics": trained.metrics, "fingerprint": fingerprint(trained.parameters)}
    with uninterrupted(), failure_said(path):
        ocp.save(path, trained.parameters, overwrite=True, custom_metadata=metadata)


def restore(path: Path, spec: TrainingSpec) -> Trained:
    """Reads what `save` wrote, if the specs are the same.

    Raises:
        InputError: the checkpoint was made with another spec, or it is damaged; the message says what to do.
    """
    with uninterrupted(), damage_said(f"the checkpoint {path}", _WAY_OUT):
        metadata: Any = ocp.metadata(path).custom_metadata
        made_by, metrics = metadata["spec"], metadata["metrics"]
    asked = asdict(spec)
    different = sorted(name for name in made_by.keys() | asked.keys() if made_by.get(name) != asked.get(name))
    if different:
        was = ", ".join(f"{name} {made_by.get(name)!r} (asked for: {asked.get(name)!r})" for name in different)
        raise InputError(f"the checkpoint {path} was made with {was}: {_WAY_OUT}")
    with uninterrupted(), damage_said(f"the checkpoint {path}", _WAY_OUT):
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
    """The result of a training, and whether it was loaded: from the checkpoint of its spec, or else trained and saved.

    Each spec has a folder in the directory; `retrain` replaces what is there. An interrupted training resumes after its
    last complete epoch, from the state in a directory that `train` is given (or None, and then keeps none).

    Raises:
        InputError: as in `restore` and `train`; or the directory cannot be written, which is checked before training.
    """
    path = path_of(spec, directory)
    if path.exists() and not retrain:
        return restore(path, spec), True
    check_writable("checkpoint", path.parent, "choose another")
    with _state_folder(path.with_name(f".unfinished-{digest_of(json.dumps(asdict(spec)))}")) as unfinished:
        trained = train(spec, dataset, report, unfinished)
        save(path, spec, trained)
    return trained, False


@contextlib.contextmanager
def _state_folder(folder: Path) -> Iterator[Path | None]:
    """A folder for the state of a training, deleted on success; None while another job runs the same training.

    Jobs that start together may need the same network; the later ones then train it without saving their state.
    """
    one_process = jax.process_count() == 1  # the processes of one job share the folder
    lock = locked(folder.with_suffix(".lock")) if one_process else contextlib.nullcontext(True)
    with lock as alone:
        yield folder if alone else None
        if alone:
            shutil.rmtree(folder, ignore_errors=True)
