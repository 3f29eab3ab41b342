"""Networks: the models of the registry, their training and checkpoints, and the units of their layers."""

from wna_jax.networks.models import NAMES, create, initial_parameters, untrained
from wna_jax.networks.network import PRECISIONS, Network, Parameters

__all__ = ["NAMES", "PRECISIONS", "Network", "Parameters", "create", "initial_parameters", "untrained"]
