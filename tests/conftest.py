"""All tests run with JAX's strictest type and rank rules, core functions with checked shapes; by default on the CPU.

WNA_JAX_TEST_PLATFORM=gpu, or another platform of JAX, runs them on an accelerator (make test PLATFORM=gpu). Products
are then computed in float32, as on a CPU, so that one tolerance serves all platforms: a GPU's default is TF32, with
errors of 1e-3, which would hide what the tests look for. What TF32 and bfloat16 change is measured by
`experiments.benchmark --accelerator`. "imitated" runs the code for accelerators (forms of layers, whole epochs and
several batches per dispatch) on the CPU.
"""

import contextlib
import fcntl
import gc
import math
import os
import resource
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from jaxtyping import install_import_hook

PLATFORM = os.environ.get("WNA_JAX_TEST_PLATFORM", "cpu")
_IMITATED, _XLA_FLAGS = PLATFORM == "imitated", os.environ.get("XLA_FLAGS", "")
os.environ["JAX_PLATFORMS"] = {"imitated": "cpu", "gpu": "cuda,cpu"}.get(PLATFORM, PLATFORM)
if PLATFORM not in ("cpu", "imitated"):
    os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # several processes share a GPU
    # Bits are compared: the same kernels every time, not those that a timing chose, and no sums in any order.
    _XLA_FLAGS += " --xla_gpu_autotune_level=0 --xla_gpu_exclude_nondeterministic_ops=true"
if "PYTEST_XDIST_WORKER" in os.environ:
    # As many workers as cores: each, and each process that it starts, compiles and computes on one core.
    os.environ["NPROC"] = "1"
    _XLA_FLAGS += " --xla_cpu_parallel_codegen_split_count=1"
os.environ["XLA_FLAGS"] = _XLA_FLAGS.strip()

CHECKED = [f"wna_jax.{name}" for name in ("correlation.fields", "correlation.program", "responses")]
with install_import_hook(CHECKED, "beartype.beartype"):
    import wna_jax  # noqa: F401 - before anything else imports it

import flax.linen as nn
import jax
import numpy as np
import pytest
from PIL import Image

from wna_jax import data
from wna_jax.correlation import loop
from wna_jax.networks import Network, checkpoints, models
from wna_jax.networks.training import TrainingSpec

if _IMITATED:
    jax.default_backend = lambda: "gpu"
    loop._BYTES_PER_BATCH = 2**20  # or a CPU would take minutes for a batch
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def collect_garbage() -> Iterator[None]:
    """What a test leaves behind is found in that test, and warned of there."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all workers of a test run: what one of them has trained or compiled serves the others."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def compiled_programs(shared_folder: Path) -> None:
    """Programs are compiled once for all workers."""
    jax.config.update("jax_compilation_cache_dir", str(shared_folder / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Files that grow beyond a size cannot be written, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def disk_of() -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """`with disk_of(4096):` no file may be larger than that."""
    return files_of_at_most


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    return data.load("digits")


@pytest.fixture(scope="session")
def random_network() -> Callable[[nn.Module], Network]:
    """Makes a network of random weights and positive biases, without the seconds that compiling its `init` takes."""

    def draw(module: nn.Module) -> Network:
        random = np.random.default_rng(0)
        shapes = jax.eval_shape(partial(models.initial_parameters, module), jax.random.key(0))
        return Network(module, jax.tree.map(lambda leaf: one(random, leaf.shape), shapes))

    def one(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        numbers = random.standard_normal(shape, np.float32) / np.float32(math.sqrt(math.prod(shape[:-1])))
        return numbers if len(shape) > 1 else np.abs(numbers) / 10

    return draw


@pytest.fixture(scope="session")
def network(digits: data.Dataset, shared_folder: Path) -> Network:
    """The paper's network, trained on digits by the first worker that needs it."""
    spec = TrainingSpec("digits", digits.fingerprint, "paper_cnn", epochs=8)
    with one_at_a_time(shared_folder / "network.lock"):
        trained, _ = checkpoints.load_or_train(spec, digits, shared_folder / "network")
    return Network(models.create("paper_cnn", digits.image_shape, digits.num_classes), trained.parameters)


@pytest.fixture(scope="session")
def network_settings(shared_folder: Path, digits: data.Dataset) -> dict[str, Any]:
    """Settings of `NetworkSettings`, but for out_dir: a small network that is trained in a second, once."""
    spec = TrainingSpec("digits", digits.fingerprint, "logistic", epochs=5)
    with one_at_a_time(shared_folder / "logistic.lock"):
        checkpoints.load_or_train(spec, digits, shared_folder / "checkpoints")
    return {
        "dataset": "digits",
        "model": "logistic",
        "epochs": 5,
        "checkpoint_dir": str(shared_folder / "checkpoints"),
    }


@pytest.fixture(scope="session")
def small_digits(shared_folder: Path, digits: data.Dataset) -> str:
    """The name of a data set, a folder of all digits at 20x20 pixels, for what takes long at 28x28."""
    folder = shared_folder / "digits_20"
    with one_at_a_time(shared_folder / "digits_20.lock"):
        if not folder.exists():
            small = digits.resized(20)
            for part in ("train", "validation", "test"):
                images, labels = getattr(small, part)
                for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                    (folder / str(label)).mkdir(parents=True, exist_ok=True)
                    Image.fromarray(image[..., 0]).save(folder / str(label) / f"{part}_{i}.png")
    return f"folder:{folder}"


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """Ctrl-C raises, also in a process that was started to ignore it, as a shell starts those in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
