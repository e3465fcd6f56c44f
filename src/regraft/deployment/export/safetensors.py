"""A trained model's weights as a .safetensors file, which `model=checkpoint model.path=FILE` reads."""

import copy
from collections.abc import Mapping

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from regraft.deployment.export.program import Runner


def to_bytes(network: nn.Module, metadata: Mapping[str, str]) -> bytes:
    """Returns the file's content: the tensors under the names that they have in a run's checkpoints.

    Args:
        network: backbone and head.
        metadata: what is kept with them.
    """
    return save({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, dict(metadata))


def runner(content: bytes, network: nn.Module) -> Runner:
    """Returns what runs a network with the tensors of a file's content.

    Args:
        content: the file's.
        network: of the same architecture; it is left as it is.
    """
    filled = copy.deepcopy(network)
    for parameter in filled.parameters():
        parameter.data.fill_(float("nan"))  # so that none of them is there by chance
    filled.load_state_dict(load(content))

    @torch.inference_mode()
    def run(images: Tensor) -> Tensor:
        logits: Tensor = filled(images)
        return logits

    return run
