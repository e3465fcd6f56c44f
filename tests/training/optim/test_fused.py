"""Fused kernels of optimizers: used where they are right, and without a trace afterwards."""

import pytest
import torch
from torch import nn

from regraft.training.optim.fused import fused_kernels, lay_out_states


def stepped(kind, *, is_fused, **options):
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(4, 3, 3, 3, generator=generator).to(memory_format=torch.channels_last))
    optimizer = kind([weight], lr=0.01, **options)
    used = []
    for _ in range(3):
        weight.grad = torch.empty_like(weight).copy_(torch.randn(4, 3, 3, 3, generator=generator))
        with fused_kernels(optimizer) as fuse:
            if is_fused:
                fuse()
            used.append(optimizer.param_groups[0].get("fused"))
            optimizer.step()
        assert optimizer.param_groups[0].get("fused") is None
    return weight.detach(), used


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD, torch.optim.Adagrad])
def test_a_fused_step_is_the_same_up_to_rounding(kind):
    (fused, used), (plain, _) = (stepped(kind, is_fused=each) for each in (True, False))
    assert used == [True] * 3
    torch.testing.assert_close(fused, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("kind", "options"), [(torch.optim.AdamW, {"foreach": True}), (torch.optim.RMSprop, {})])
def test_other_optimizers_and_chosen_kernels_stay_as_they_are(kind, options):
    assert stepped(kind, is_fused=True, **options)[1] == [None] * 3


def test_a_gradient_that_lies_otherwise_in_memory_is_not_fused():
    weight = nn.Parameter(torch.zeros(4, 3, 3, 3).to(memory_format=torch.channels_last))
    weight.grad = torch.ones(4, 3, 3, 3)
    optimizer = torch.optim.AdamW([weight])
    with fused_kernels(optimizer) as fuse:
        fuse()
        assert optimizer.param_groups[0]["fused"] is None


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_a_parameter_may_have_its_first_gradient_later_than_others(kind):
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}

    def trained(*, is_fused):
        early, late = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
        optimizer = kind([early, late], lr=0.1, **options)
        for step in range(3):
            early.grad, late.grad = torch.ones(3), torch.ones(3) if step else None
            with fused_kernels(optimizer) as fuse:
                if is_fused:
                    fuse()
                optimizer.step()
        return torch.stack([early, late]).detach()

    torch.testing.assert_close(trained(is_fused=True), trained(is_fused=False))


def test_states_get_the_memory_format_of_their_parameters():
    weight = nn.Parameter(torch.zeros(4, 3, 3, 3))
    optimizer = torch.optim.AdamW([weight])
    weight.grad = torch.randn(4, 3, 3, 3)
    optimizer.step()
    before = optimizer.state[weight]["exp_avg"].clone()
    weight.data = weight.data.to(memory_format=torch.channels_last)
    lay_out_states(optimizer)
    assert optimizer.state[weight]["exp_avg"].stride() == weight.stride()
    assert torch.equal(optimizer.state[weight]["exp_avg"], before)
    assert optimizer.state[weight]["step"] == 1
