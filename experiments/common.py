"""What every experiment shares: the flags and the settings made of them, the files it writes, and how errors end it."""

import contextlib
import ctypes
import difflib
import functools
import importlib.metadata
import json
import os
import platform
import signal
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from matplotlib.figure import Figure

from wna_jax import checkpoints, data, interventions, models, noise, reverse_correlation, training, units
from wna_jax.checkpoints import as_file_name
from wna_jax.errors import InputError, unknown_name
from wna_jax.progress import Report, show, silent

flags.DEFINE_string(
    "dataset",
    "digits",
    "digits (needs no files), mnist, fashion_mnist, cifar10, folder:PATH, tfds:NAME; some classes of one: mnist:5,6",
)
flags.DEFINE_string(
    "data_dir", None, "holds a folder for each data set, such as DIR/mnist/*.gz; what is not there is downloaded"
)
flags.DEFINE_string("model", "paper_cnn", f"the network: {', '.join(models.NAMES)}")
flags.DEFINE_integer("epochs", None, "passes over the training images (by default what data set and network need)")
flags.DEFINE_string(
    "noise",
    "matched",
    "uniform in [0, 1], gaussian or gaussian:MEAN,DEVIATION, matched to the data's pixels, binary; or with pixels that "
    "depend on each other: gabor_pca, gabor_filtered, stripes, blocks, natural, autoencoder, vae",
)
flags.DEFINE_list(
    "response",
    "decision,probability",
    "what is averaged, comma-separated: decision, probability or probability:SHARPNESS, "
    "confident:THRESHOLD, confidence, logit",
)
flags.DEFINE_enum(
    "sampling",
    "auto",
    reverse_correlation.SAMPLINGS,
    "independent noise images, overlapping windows of a larger field (several times faster), or auto: a field where "
    "noise and network allow it and at least 20,480 samples are asked for",
)
flags.DEFINE_integer("num_samples", 1_000_000, "how many noise images", lower_bound=1)
flags.DEFINE_integer(
    "batch_size", None, "noise images in one pass of the network (by default what suits the device)", lower_bound=1
)
flags.DEFINE_integer("seed", 0, "of the noise", lower_bound=0, upper_bound=2**32 - 1)
flags.DEFINE_integer(
    "permutations", 199, "null maps that clusters are compared with; the smallest p is 1 in one more", lower_bound=19
)
flags.DEFINE_integer(
    "gradient_samples", 1000, "for the gradient maps that convergence is seen against; 0: none", lower_bound=0
)
flags.DEFINE_list("layers", None, "whose units to look at, comma-separated (by default all that have a say in it)")
flags.DEFINE_integer("images_a_class", 200, "test images of each class, at most", lower_bound=1)
flags.DEFINE_integer("train_seed", 0, "of the training", lower_bound=0, upper_bound=2**32 - 1)
flags.DEFINE_integer("num_train_seeds", 3, "networks, trained from --train_seed on", lower_bound=2)
flags.DEFINE_float("noise_weight", 0.2, "of the noise in noisy images", lower_bound=0, upper_bound=1)
flags.DEFINE_string("out_dir", None, "where results are written (by default a folder of runs/ named by the settings)")
flags.DEFINE_string("checkpoint_dir", "runs/checkpoints", "where trained networks are kept, and found again")
flags.DEFINE_boolean("retrain", False, "train even if there is a checkpoint, and replace it")
flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0 of a job of several processes; auto on a cluster that JAX knows"
)
flags.DEFINE_integer("num_processes", None, "of the job, with --coordinator=HOST:PORT", lower_bound=1)
flags.DEFINE_integer("process_id", None, "of this process, from 0 on, with --coordinator=HOST:PORT", lower_bound=0)


_OF_JOBS = ("coordinator", "num_processes", "process_id")
_CHOICES = {
    *("augmentation", "augmentations", "autoencoders", "classes", "conditions", "denoise", "gammas", "image_size"),
    *("layer", "layers", "levels", "mix", "models", "noise_weight", "noises", "optimiser", "pattern", "response"),
    *("strengths", "trained_on", "unit", "units"),
}
"""Flags that make another experiment of a run: where they are given, they are in the default folder's name."""


@dataclass(frozen=True)
class NetworkSettings:
    """The flags that every experiment on a trained network has: the data, the network, and where things lie."""

    dataset: str
    data_dir: str | None
    model: str
    epochs: int | None
    train_seed: int
    out_dir: str
    checkpoint_dir: str
    retrain: bool


@dataclass(frozen=True)
class Settings(NetworkSettings):
    """The flags of a run of noise maps, as a value."""

    noise: str
    response: tuple[str, ...]
    sampling: reverse_correlation.Sampling
    num_samples: int
    batch_size: int | None
    permutations: int
    gradient_samples: int
    seed: int


class Network(NamedTuple):
    """A trained classifier, ready to be analysed."""

    module: nn.Module
    parameters: training.Parameters
    image_shape: tuple[int, int, int]
    logits_function: Callable[[jax.Array], jax.Array]
    """Images [n, H, W, C] in [0, 1] -> logits [n, K]."""
    fingerprint: str
    """Of its parameters."""
    metrics: dict[str, Any]
    """What training measured."""
    was_loaded: bool
    """From a checkpoint, not trained now."""


def main(run: Callable[[Any], None], settings_type: type = Settings) -> None:
    """Runs an experiment: reads the flags, calls `run`, and ends with one line and status 2 on a user's error.

    Args:
        run: the experiment.
        settings_type: what it takes: a dataclass with a field for each of the experiment's flags, `out_dir` among them,
            and, if need be, `DEFAULTS` of its own for flags that it shares.
    """

    def guarded(argv: Sequence[str]) -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's way to say Ctrl-C
        logging.set_verbosity(logging.WARNING)  # Orbax and JAX tell much that no user needs
        experiment = Path(sys.modules["__main__"].__file__ or "experiment").stem
        try:
            if len(argv) > 1:
                raise InputError(f"unexpected argument {argv[1]!r}: every setting is a --flag, see --help")
            _keep_freed_memory()
            _join_processes()
            run(_settings(experiment, settings_type))
        except InputError as error:
            sys.exit(_complain(str(error), 2))
        except OSError as error:
            sys.exit(_complain(f"{error.filename or 'a file'} cannot be read or written ({error.strerror})", 1))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            sys.exit(_complain("out of memory: lower --batch_size", 1))
        except KeyboardInterrupt:
            sys.exit(_complain("interrupted: the same command goes on with what is done", 130))

    app.run(guarded, flags_parser=functools.partial(_parse, settings_type))


def classes_to_tell(settings: Any, report: Report) -> data.Dataset:
    """Loads the data set, and sees that it has at least two classes, with training images of each."""
    dataset = data.load(settings.dataset, settings.data_dir, report)
    see_classes(dataset)
    return dataset


def see_classes(dataset: data.Dataset) -> None:
    """Sees that a data set has at least two classes, with training images of each."""
    if dataset.num_classes < 2:
        raise InputError(f"{dataset.name} has one class: put images of two or more classes into a subfolder each")
    counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
    if not counts.all():
        lacking = ", ".join(dataset.class_names[k] for k in np.flatnonzero(counts == 0))
        raise InputError(f"{dataset.name} has no training images of {lacking}: add some, or take the class away")


def epochs_for(settings: NetworkSettings, dataset: data.Dataset) -> int:
    """The epochs that were asked for, or those that suit data set and network."""
    return training.default_epochs(dataset.name, settings.model) if settings.epochs is None else settings.epochs


def trained_network(
    settings: NetworkSettings, dataset: data.Dataset, report: Report, augmentation: str | None = None
) -> Network:
    """The network that the settings ask for, from its checkpoint or trained now.

    Of an augmentation of its own, "none" among them, or by default of that which suits the data set.
    """
    usual = training.default_augmentation(dataset.name)
    spec = training.TrainingSpec(
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
        model=settings.model,
        seed=settings.train_seed,
        epochs=epochs_for(settings, dataset),
        augmentation={None: usual, "none": None}.get(augmentation, augmentation),
    )
    module = models.create(spec.model, dataset.image_shape, dataset.num_classes)
    trained, was_loaded = checkpoints.load_or_train(
        spec, dataset, Path(settings.checkpoint_dir), settings.retrain, report
    )
    logits_function = training.logits_function(module, trained.parameters)
    fingerprint = checkpoints.fingerprint(trained.parameters)
    return Network(
        module, trained.parameters, dataset.image_shape, logits_function, fingerprint, trained.metrics, was_loaded
    )


def noisy_images(settings: Any, dataset: data.Dataset, images: np.ndarray, report: Report) -> np.ndarray:
    """(1 - w) s + w z for images s [n, H, W, C] in [0, 1], w the noise_weight and z the noise of the settings."""
    background = noise.create(settings.noise, dataset, Path(settings.checkpoint_dir), False, report)
    z = jnp.asarray(reverse_correlation.draw_samples(background, len(images), seed=settings.seed))
    return np.asarray(interventions.blend(jnp.asarray(images), z, jnp.float32(settings.noise_weight)))


def chosen_layers(
    asked: Sequence[str] | None,
    network: Network,
    usual: Callable[..., tuple[str, ...]] = units.layer_names,
    *,
    with_maps: bool = False,
) -> tuple[str, ...]:
    """The layers that were asked for, or all that `usual` gives for a network and the images' shape.

    Raises:
        InputError: a layer that the network has not, or, `with_maps`, one without feature maps; or none is asked for,
            and `usual` gives none.
    """
    of_network = network.module, network.parameters, network.image_shape
    known = units.layer_names(*of_network)
    for name in asked or ():
        if name not in known:
            raise unknown_name("layer", name, known)
        if with_maps and name not in units.spatial_layers(*of_network):
            spatial = ", ".join(units.spatial_layers(*of_network)) or "none"
            raise InputError(f"layer {name} has no spatial positions: choose from those with feature maps, {spatial}")
    chosen = asked or usual(*of_network)
    if not chosen:
        way_out = "another --model" if with_maps else f"--layers from {', '.join(known)}"
        raise InputError(f"no layer of this network has feature maps: choose {way_out}")
    return tuple(dict.fromkeys(chosen))


def open_output(settings: Any) -> Path:
    """Makes the output directory, and sees that it can be written."""
    directory = Path(settings.out_dir)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise InputError(
            f"the output directory {directory} cannot be written ({error.strerror}): give another --out_dir"
        ) from error
    return directory


@contextlib.contextmanager
def reporting(out_dir: Path) -> Iterator[Report]:
    """Progress bars and log.jsonl; of several processes only the first one reports."""
    if jax.process_index() > 0:
        yield silent
    else:
        with show(out_dir / "log.jsonl") as report:
            yield report


def write_config(directory: Path, settings: Any) -> None:
    """Puts config.json beside the results that these settings gave."""
    write_json(directory / "config.json", asdict(settings) | {"environment": _environment()})


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def write_arrays(path: Path, **arrays: Any) -> None:
    """Writes arrays by name to an .npz file, whole or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` to write to, and renames it to `path` when that went well."""
    temporary = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _keep_freed_memory() -> None:
    """Has the C library hand a step's large arrays to the next one, instead of returning them to the system.

    Which would clear every page again: with this, training on a CPU is a fifth faster.
    """
    mmap_threshold, trim_threshold, arenas, largest = -3, -1, -8, 2**31 - 1  # of malloc.h
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        for parameter, value in ((arenas, 1), (mmap_threshold, largest), (trim_threshold, largest)):
            library.mallopt(parameter, value)


def _join_processes() -> None:
    """Makes this process one of a job, if the flags say that it is."""
    address, count, own = (flags.FLAGS[name].value for name in ("coordinator", "num_processes", "process_id"))
    if address is None and (count, own) != (None, None):
        raise InputError("num_processes and process_id say which process of a job this is: give --coordinator too")
    if address == "auto":
        jax.distributed.initialize()
    elif address is not None:
        if count is None or own is None or own >= count:
            raise InputError(
                f"num_processes is {count} and process_id {own}: with --coordinator=HOST:PORT give both, and a "
                "process_id from 0 to num_processes - 1"
            )
        jax.distributed.initialize(address, count, own)


def _settings(experiment: str, settings_type: Any) -> Any:
    own = getattr(settings_type, "DEFAULTS", {})
    values = {
        name: own[name] if name in own and flags.FLAGS[name].using_default_value else flags.FLAGS[name].value
        for name in (field.name for field in fields(settings_type))
    }
    values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    label = {"dataset": "", "model": "", "noise": "", "train_seed": "train", "seed": "seed"}
    parts = [f"{text}{values[part]}" for part, text in label.items() if values.get(part) is not None]
    others = [name for name in values if name in _CHOICES and not flags.FLAGS[name].using_default_value]
    parts += [f"{name}_{flags.FLAGS[name].serialize().partition('=')[2]}" for name in others]
    name = "-".join(parts)
    values["out_dir"] = values["out_dir"] or str(Path("runs") / experiment / as_file_name(name))
    return settings_type(**values)


def _environment() -> dict[str, Any]:
    packages = ("wna_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "random_generator": f"threefry2x32-20 (wna_jax.generator), keys {jax.random.key_impl(jax.random.key(0))}",
    }


def _parse(settings_type: Any, argv: Sequence[str]) -> list[str]:
    if {"--help", "-h", "--helpshort", "--helpfull"} & set(argv[1:]):
        print(_help(settings_type))
        sys.exit(0)
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        sys.exit(_complain(" ".join(str(error).split()) + ": see --help for the flags of this experiment", 2))
    used = (*(field.name for field in fields(settings_type)), *_OF_JOBS)
    for flag in flags.FLAGS.flags_by_module_dict()[__name__]:
        if flag.present and flag.name not in used:
            close = difflib.get_close_matches(flag.name, used, n=1)
            hint = f" (did you mean --{close[0]}?)" if close else ""
            sys.exit(_complain(f"--{flag.name} is no flag of this experiment{hint}: see --help", 2))
    return rest


def _help(settings_type: Any) -> str:
    """The experiment's docstring and its flags in the order of definition, with their defaults."""
    lines = [(sys.modules["__main__"].__doc__ or "").strip(), "", "Flags:"]
    several = _OF_JOBS if settings_type is Settings else ()
    for name in (*(field.name for field in fields(settings_type)), *several):
        flag = flags.FLAGS[name]
        default = getattr(settings_type, "DEFAULTS", {}).get(name, flag.default)
        default = ",".join(default) if isinstance(default, list) else default
        text = flag.help if default is None else f"{flag.help} [{default}]"
        lines += textwrap.wrap(text, 100, initial_indent=f"  --{name}".ljust(22), subsequent_indent=" " * 22)
    return "\n".join(lines)


def _complain(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status
