"""Tensors that processes divide among them, torch's DTensor, as whole ones and back.

Nothing here imports DTensor unless there is one.
"""

from typing import Any, TypeGuard

from torch import Tensor


def is_sharded(tensor: Tensor | None) -> "TypeGuard[Any]":
    """Whether a tensor is a DTensor, of which each process holds a part."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """Returns a DTensor as a whole tensor on its mesh's device, a collective call; any other tensor unchanged."""
    if not is_sharded(tensor):
        return tensor
    found: Tensor = tensor.to(tensor.device_mesh.device_type).full_tensor()
    return found


def part_of(tensor: Tensor, like: Tensor | None) -> Tensor:
    """Returns a whole tensor divided among the processes as `like` is; unchanged if that isn't divided.

    Each process has the whole tensor, so that nothing is sent.
    """
    if not is_sharded(like) or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    on_device = tensor.to(like.device_mesh.device_type)
    return distribute_tensor(on_device, like.device_mesh, like.placements, src_data_rank=None)
