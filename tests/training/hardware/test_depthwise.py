"""Depthwise convolutions: the same outputs, and gradients that differ by rounding."""

import copy
import pickle

import pytest
import timm
import torch
from timm.layers import Conv2dSame
from torch import nn

from regraft.training.hardware.depthwise import use_fast_gradients

SHAPES = [
    # size of the map, kernel, stride, padding
    ((9, 9), 5, 1, 2),
    ((8, 8), 5, 2, 2),
    ((3, 9), 5, 1, 2),
    ((9, 3), (3, 7), 1, (1, 3)),
    ((10, 7), (5, 4), (2, 1), (0, 1)),
    ((7, 7), 7, 1, 3),
    ((9, 8), 3, 2, 1),
    ((2, 2), 5, 2, 2),
    ((2, 2), 7, 1, 3),  # columns of the window that see nothing but padding
    ((1, 1), 5, 1, 2),
]


def both(conv, inputs):
    """Returns outputs and gradients of inputs and parameters of a convolution as it is, and of one made faster."""
    fast = copy.deepcopy(conv)
    use_fast_gradients(fast)
    assert "forward" in vars(fast)
    results = []
    for each in (conv, fast):
        given = inputs.clone().requires_grad_(inputs.dtype != torch.bfloat16)
        output = each(given)
        output.float().square().sum().backward()
        results.append([output, *(value.grad for value in (given, *each.parameters()) if value.grad is not None)])
    return results


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("size", "kernel", "stride", "padding"), SHAPES)
def test_gradients_are_those_of_torch(size, kernel, stride, padding, memory_format):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 6, kernel, stride, padding, groups=6).to(memory_format=memory_format)
    plain, fast = both(conv, torch.randn(2, 6, *size).to(memory_format=memory_format))
    assert torch.equal(plain[0], fast[0])
    assert len(plain) == 4
    for expected, found in zip(plain[1:], fast[1:], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize(("size", "kernel", "stride"), [((9, 8), 5, 1), ((9, 8), 5, 2), ((8, 9), 3, 2), ((3, 3), 5, 1)])
def test_what_timm_pads_as_tensorflow_is_padded_alike(size, kernel, stride):
    torch.manual_seed(0)
    conv = Conv2dSame(6, 6, kernel, stride, groups=6, bias=False)
    plain, fast = both(conv, torch.randn(2, 6, *size))
    assert torch.equal(plain[0], fast[0])
    for expected, found in zip(plain[1:], fast[1:], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("stride", [1, 2])
def test_under_autocast_gradients_are_as_exact_as_bfloat16_is(stride):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 6, 5, stride, 2, groups=6)
    inputs = torch.randn(2, 6, 9, 9)
    exact, _ = both(conv, inputs)
    conv.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        _, fast = both(conv, inputs)
    assert fast[0].dtype == torch.bfloat16
    for expected, found in zip(exact[1:], fast[1:], strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05 * expected.abs().max().item())


def test_second_derivatives():
    conv = nn.Conv2d(2, 2, 5, 2, 2, groups=2).double()
    use_fast_gradients(conv)
    inputs = torch.randn(1, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conv, (inputs,))
    assert torch.autograd.gradgradcheck(conv, (inputs,))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(6, 6, 3, groups=6),
        nn.Conv2d(6, 6, 5),
        nn.Conv2d(6, 12, 5, groups=6),
        nn.Conv2d(6, 6, 5, groups=6, dilation=2),
        nn.Conv2d(6, 6, 5, groups=6, padding_mode="reflect", padding=2),
        nn.Conv2d(6, 6, 5, groups=6, padding="same"),
        nn.Conv2d(1, 1, 5),
    ],
)
def test_other_convolutions_are_left_alone(conv):
    use_fast_gradients(conv)
    assert "forward" not in vars(conv)


def test_a_copy_has_its_own_weights_and_a_network_can_be_pickled():
    network = nn.Sequential(nn.Conv2d(6, 6, 5, groups=6, bias=False))
    keys = list(network.state_dict())
    use_fast_gradients(network)
    use_fast_gradients(network)
    inputs = torch.randn(1, 6, 5, 5)
    expected = network(inputs)
    for copied in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        with torch.no_grad():
            network[0].weight.mul_(2)
        assert torch.equal(copied(inputs), expected)
        with torch.no_grad():
            network[0].weight.div_(2)
    assert list(network.state_dict()) == keys


def test_a_whole_network_learns_the_same():
    torch.manual_seed(0)
    plain = timm.create_model("tf_efficientnet_lite0", num_classes=3).train()
    fast = copy.deepcopy(plain)
    use_fast_gradients(fast)
    images = torch.randn(4, 3, 64, 64)
    for each in (plain, fast):
        torch.manual_seed(0)
        each(images).square().sum().backward()
    changed = 0
    for expected, found in zip(plain.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-3, atol=1e-3 * expected.grad.abs().max().item())
        changed += not torch.equal(found.grad, expected.grad)
    assert changed


def test_an_image_without_a_batch():
    torch.manual_seed(0)
    plain, fast = both(nn.Conv2d(6, 6, 5, 2, groups=6), torch.randn(6, 9, 9))
    for expected, found in zip(plain, fast, strict=True):
        assert torch.equal(found, expected)
