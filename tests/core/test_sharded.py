"""Tensors divided among processes, here among a single one."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from regraft.core.sharded import is_sharded, part_of, whole


@pytest.fixture
def divided():
    """A tensor that one process has all of."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield distribute_tensor(torch.arange(6.0).reshape(3, 2), init_device_mesh("cpu", (1,)), [Shard(0)])
    dist.destroy_process_group()


def test_a_divided_tensor_is_whole_again_and_another_one_is_divided_like_it(divided):
    assert is_sharded(divided)
    tensor = whole(divided)
    assert type(tensor) is torch.Tensor
    assert torch.equal(tensor, torch.arange(6.0).reshape(3, 2))
    part = part_of(2 * tensor, divided)
    assert part.placements == (Shard(0),) != (Replicate(),)
    assert torch.equal(whole(part), 2 * tensor)
    number = torch.tensor(3.0)  # such as an optimizer's count of its steps
    assert part_of(number, divided) is number


def test_any_other_tensor_is_left_as_it_is():
    tensor = torch.zeros(3)
    assert whole(tensor) is tensor
    assert part_of(tensor, torch.ones(3)) is tensor
    assert part_of(tensor, None) is tensor
    assert not is_sharded(tensor)
