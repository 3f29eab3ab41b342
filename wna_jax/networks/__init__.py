"""Networks: the models of the registry, their training and checkpoints, and the units of their layers."""

from wna_jax.networks.foreign import Foreign, PerImage
from wna_jax.networks.models import NAMES, create, initial_parameters, untrained
from wna_jax.networks.network import PRECISIONS, Network, Parameters, of_linen
from wna_jax.networks.torch_network import TorchNetwork

__all__ = [
    "NAMES",
    "PRECISIONS",
    "Foreign",
    "Network",
    "Parameters",
    "PerImage",
    "TorchNetwork",
    "create",
    "initial_parameters",
    "of_linen",
    "untrained",
]
