"""All tests run on the CPU backend, with JAX's strictest type and rank rules."""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import jax
import pytest

from wna_jax import data, models
from wna_jax.training import TrainingSpec, fit, logits_function

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def collect_garbage() -> Iterator[None]:
    """What a test leaves behind is found in that test, and warned of there."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    return data.load("digits")


@pytest.fixture(scope="session")
def network(digits: data.Dataset) -> Callable[[jax.Array], jax.Array]:
    """The paper's network, trained on digits: images -> logits."""
    spec = TrainingSpec("digits", digits.fingerprint, "paper_cnn", epochs=8)
    module = models.create("paper_cnn", digits.image_shape, digits.num_classes)
    return logits_function(module, fit(spec, digits).parameters)


@pytest.fixture(scope="session")
def network_settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The flags of `NetworkSettings`, but for out_dir: a small network that is trained in a second, once."""
    return {
        "dataset": "digits",
        "data_dir": None,
        "model": "logistic",
        "epochs": 5,
        "train_seed": 0,
        "checkpoint_dir": str(tmp_path_factory.mktemp("checkpoints")),
        "retrain": False,
    }
