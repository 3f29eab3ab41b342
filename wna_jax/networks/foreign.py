"""Networks of other packages as this package takes them, and what the command line asks of them."""

import contextlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from wna_jax.runs.errors import InputError, unknown_name


@register_dataclass
@dataclass(frozen=True, eq=False)
class PerImage:
    """A JAX module of one image [C, H, W], as Equinox's layers take it, mapped over a batch: [n, H, W, C] -> [n, K].

    Of a module that returns more than its answers, such as a state, the first is taken.
    """

    module: Any
    state: tuple[Any, ...] = ()
    """Further arguments of the module, such as the state of Equinox's batch normalisation."""

    def __call__(self, images: jax.Array) -> jax.Array:
        """Images [n, H, W, C] -> answers [n, K]."""
        return self.map(self.module, images)

    def map(self, module: Callable[..., Any], images: jax.Array) -> Any:
        """What another function of one image and the state gives for each image."""

        def of_image(image: jax.Array) -> Any:
            answers = module(image, *self.state)
            return answers[0] if isinstance(answers, tuple) else answers

        return jax.vmap(of_image)(jnp.moveaxis(images, -1, 1))


def is_equinox(network: object) -> bool:
    """Whether something is an Equinox module; Equinox is not imported for that."""
    equinox = sys.modules.get("equinox")
    return equinox is not None and isinstance(network, equinox.Module)


@dataclass(frozen=True, eq=False)
class Foreign:
    """A network of one's own, with what a command must know of it: what a function named by --model returns.

    Raises:
        InputError: a shape that is none of an image, or a class name that is given twice.
    """

    network: Any
    """What `responses.of_network` takes."""
    image_shape: tuple[int, int, int] | None = None
    """(H, W, C) of the images that it takes; by default those of the data set are shown."""
    class_names: Sequence[str] | None = None
    """By default those of the data set, or numbers."""
    outputs: str | None = None
    """What it returns: one of `responses.OUTPUTS`, by default logits."""

    def __post_init__(self) -> None:
        """Checks the fields."""
        shape, names = self.image_shape, self.class_names
        whole = shape is None or (len(shape) == 3 and all(isinstance(each, int) and each > 0 for each in shape))
        if not whole:
            raise InputError(f"image_shape is {shape}: expected (height, width, channels), such as (28, 28, 1)")
        if shape is not None:  # a list is compared with tuples later
            object.__setattr__(self, "image_shape", tuple(shape))
        if names is not None and len(set(names)) < len(names):
            raise InputError(f"class_names has {len(names)} names, of which some are the same: name each class once")


def is_named(model: str) -> bool:
    """Whether a model is the name of a function of one's own, as `load` takes it, not one of the registry."""
    return ":" in model or model.endswith(".py")


def title_of(model: str) -> str:
    """What a model is called in titles: the function that returns it, or the file or module of one named "create"."""
    where, _, function = model.rpartition(":")
    return (Path(where).stem if where.endswith(".py") else where.split(".")[-1]) if function == "create" else function


def load(model: str) -> Foreign:
    """The network that a function without arguments returns, by its name: "package.module:create", "file.py:create".

    The function returns a network that `responses.of_network` takes, or a `Foreign`, which says more of it.

    Raises:
        InputError: a module that cannot be imported, no such function, one that raises, or returns what is no network.
    """
    if ":" not in model:
        raise InputError(f"model is {model!r}: name the function in it that returns the network, as in {model}:create")
    where, _, name = model.rpartition(":")
    module = _imported(where, f"model is {model!r}")
    create = getattr(module, name, None)
    if not callable(create):
        own = [each for each, of in vars(module).items() if getattr(of, "__module__", None) == module.__name__]
        raise unknown_name(f"function of {where}", name, [each for each in own if callable(getattr(module, each))])
    with _told(f"model is {model!r}: {name}()", "expected a function without arguments that returns a network"):
        made = create()
    foreign = made if isinstance(made, Foreign) else Foreign(made)
    if not (callable(foreign.network) or hasattr(foreign.network, "weigh")):
        raise InputError(
            f"model is {model!r}: {name}() returned a {type(foreign.network).__name__}: expected a network that can be "
            "called, or networks.Foreign(network, image_shape)"
        )
    return foreign


def _imported(where: str, what: str) -> types.ModuleType:
    with _told(what, "expected package.module:function or path/to/file.py:function, and a file that can be imported"):
        if not where.endswith(".py"):
            return importlib.import_module(where)
        path = Path(where).expanduser().resolve()
        spec = importlib.util.spec_from_file_location(f"model_{path.stem}", path)
        if spec is None or spec.loader is None or not path.exists():
            raise InputError(f"{what}: there is no file {path}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        if str(path.parent) not in sys.path:  # as of a script: what lies beside it can be imported
            sys.path.append(str(path.parent))
        spec.loader.exec_module(module)
        return module


@contextlib.contextmanager
def _told(what: str, expected: str) -> Iterator[None]:
    """Whatever somebody's code raises, in one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(f"{what} raised {type(error).__name__}: {said}; {expected}") from error
