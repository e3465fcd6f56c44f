"""Merged groups and fused kernels of optimizers: used where they are right, and without a trace afterwards."""

import pytest
import torch
from torch import nn

from regraft.training.optim.fused import lay_out_states, merge_groups
from regraft.training.optim.parameter_groups import scaled_learning_rates


def take_step(optimizer, *, is_merged):
    """Takes a step, and returns the groups that it was taken on."""
    with scaled_learning_rates(optimizer):
        if is_merged:
            merge_groups(optimizer)
        groups = optimizer.param_groups
        optimizer.step()
    return groups


def stepped(kind, *, is_merged, **options):
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(4, 3, 3, 3, generator=generator).to(memory_format=torch.channels_last))
    optimizer = kind([{"params": [weight], "lr_factor": 1.0}], lr=0.01, **options)
    used = []
    for _ in range(3):
        weight.grad = torch.empty_like(weight).copy_(torch.randn(4, 3, 3, 3, generator=generator))
        used += [group.get("fused") for group in take_step(optimizer, is_merged=is_merged)]
        assert optimizer.param_groups[0].get("fused") is None
    return weight.detach(), used


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD, torch.optim.Adagrad])
def test_a_fused_step_is_the_same_up_to_rounding(kind):
    (fused, used), (plain, _) = (stepped(kind, is_merged=each) for each in (True, False))
    assert used == [True] * 3
    torch.testing.assert_close(fused, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("kind", "options"), [(torch.optim.AdamW, {"foreach": True}), (torch.optim.RMSprop, {})])
def test_other_optimizers_and_chosen_kernels_stay_as_they_are(kind, options):
    assert stepped(kind, is_merged=True, **options)[1] == [None] * 3


def test_a_gradient_that_lies_otherwise_in_memory_is_not_fused():
    weight = nn.Parameter(torch.zeros(4, 3, 3, 3).to(memory_format=torch.channels_last))
    weight.grad = torch.ones(4, 3, 3, 3)
    optimizer = torch.optim.AdamW([{"params": [weight], "lr_factor": 1.0}])
    assert take_step(optimizer, is_merged=True)[0]["fused"] is None


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_a_parameter_may_have_its_first_gradient_later_than_others(kind):
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}

    def trained(*, is_merged):
        early, late = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
        optimizer = kind([{"params": [each], "lr_factor": 1.0} for each in (early, late)], lr=0.1, **options)
        for step in range(3):
            early.grad, late.grad = torch.ones(3), torch.ones(3) if step else None
            take_step(optimizer, is_merged=is_merged)
        return torch.stack([early, late]).detach()

    torch.testing.assert_close(trained(is_merged=True), trained(is_merged=False))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.AdamW, {"fused": True}),
        (torch.optim.AdamW, {"foreach": True, "betas": [0.9, 0.99]}),
        (torch.optim.SGD, {"fused": True, "momentum": 0.9}),
        (torch.optim.RMSprop, {"momentum": 0.9}),
    ],
)
def test_groups_with_the_same_options_become_one_and_weights_are_the_same_bit_for_bit(kind, options):
    def trained(*, is_merged):
        generator = torch.Generator().manual_seed(0)
        weights = [nn.Parameter(torch.randn(5, 3, generator=generator)) for _ in range(6)]
        decays, factors = (0.1, 0.0, 0.1, 0.0, 0.1, 0.1), (1.0, 1.0, 1.0, 1.0, 0.5, 0.0)
        groups = [
            {"params": [weight], "name": f"stage{number}/decay", "weight_decay": decay, "lr_factor": factor}
            for number, (weight, decay, factor) in enumerate(zip(weights, decays, factors, strict=True))
        ]
        optimizer = kind(groups, lr=0.01, **options)
        for _ in range(3):
            for weight in weights[:-1]:  # the last one is frozen
                weight.grad = torch.randn(5, 3, generator=generator)
            used = take_step(optimizer, is_merged=is_merged)
        assert [group["name"] for group in optimizer.param_groups] == [group["name"] for group in groups]
        return weights, len(used), optimizer.state_dict()

    (merged, few, state), (plain, many, plain_state) = (trained(is_merged=each) for each in (True, False))
    assert (few, many) == (3, 6)
    assert all(torch.equal(one, other) for one, other in zip(merged, plain, strict=True))
    assert state["state"].keys() == plain_state["state"].keys()
    assert state["param_groups"] == plain_state["param_groups"]


def test_groups_of_other_packages_optimizers_stay_as_they_are():
    class Counting(torch.optim.SGD):
        """An optimizer that keeps something in its groups."""

    weights = [nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimizer = Counting([{"params": [each], "lr_factor": 1.0} for each in weights], lr=0.1)
    for weight in weights:
        weight.grad = torch.ones(2)
    assert take_step(optimizer, is_merged=True) is optimizer.param_groups


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
