"""Exports the weights as a .safetensors file, which `model=checkpoint model.path=FILE` reads."""

import copy
from collections.abc import Mapping

from safetensors.torch import load
from torch import nn

from regraft.core.tensor_bytes import tensor_bytes
from regraft.deployment.export.program import Runner


def to_bytes(network: nn.Module, metadata: Mapping[str, str]) -> bytes:
    """Returns the file's content, with the tensor names of a run's checkpoints."""
    return tensor_bytes({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, metadata)


def runner(content: bytes, network: nn.Module) -> Runner:
    """Returns a function that runs a copy of a network with the tensors of a file's content."""
    filled = copy.deepcopy(network)
    for parameter in filled.parameters():
        parameter.data.fill_(float("nan"))  # so that a missing tensor shows
    filled.load_state_dict(load(content))
    return filled
