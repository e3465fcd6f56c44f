"""Depthwise convolutions with "same" padding give what timm's do, without its copy of the input."""

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from regraft.features.same_padding import unpad_inputs


@pytest.mark.parametrize("size", [(8, 8), (9, 11), (12, 7)])
@pytest.mark.parametrize("kernel", [2, 3, 5, (3, 5)])
@pytest.mark.parametrize("stride", [1, 2, 3, (1, 2)])
def test_outputs_are_those_of_timm(size, kernel, stride):
    network = nn.Sequential(Conv2dSame(4, 8, kernel, stride, groups=4, bias=True)).eval()
    inputs = torch.randn(2, 4, *size)
    with torch.no_grad():
        expected = network(inputs)
        unpad_inputs(network)
        torch.testing.assert_close(network(inputs), expected)
    assert not isinstance(network[0], Conv2dSame)


@pytest.mark.parametrize("given", [{"groups": 1}, {"groups": 4, "dilation": 2}])
def test_other_convolutions_stay(given):
    network = nn.Sequential(Conv2dSame(4, 4, 3, 2, **given))
    unpad_inputs(network)
    assert isinstance(network[0], Conv2dSame)


def test_inputs_are_not_copied():
    network = nn.ModuleDict({"block": nn.Sequential(Conv2dSame(16, 16, 3, 2, groups=16))})
    unpad_inputs(network)
    inputs = torch.randn(2, 16, 32, 32)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profile:
        network["block"](inputs)
    padded = [event.input_shapes[0] for event in profile.events() if event.name == "aten::constant_pad_nd"]
    assert padded == [[16, 1, 3, 3]]  # the kernel alone
