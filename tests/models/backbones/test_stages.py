"""The cut of any module: where boundaries fall, what crosses them, and what is left whole."""

import copy
import logging

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.models.backbones.stages import split


class Plain(nn.Module):
    """Two layers, one shared dropout, a skip across the boundary, a loose parameter, a tensor never used."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.drop = nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.full((4,), 2.0))
        self.register_buffer("shift", torch.ones(4))
        self.unused = nn.Linear(4, 4)

    def forward(self, x: Tensor, scale_twice: bool = False) -> Tensor:
        skip = self.drop(self.first(x))
        x = self.drop(self.second(skip)) * self.scale + self.shift
        if scale_twice:
            x = x * self.scale
        return x + skip


STAGES = {
    "low": ["first.weight", "first.bias", "scale"],
    "high": ["second.0.weight", "second.0.bias", "second.1.weight", "second.1.bias"],
}


def compose(parts: dict[str, nn.Module], x: Tensor) -> Tensor:
    for part in parts.values():
        x = part(x)
    return x


def test_composition_is_the_model_though_two_values_cross() -> None:
    model = Plain().eval()
    parts = split(model, STAGES, "plain")
    x = torch.randn(3, 4)
    assert list(parts) == ["low", "high"]
    assert torch.equal(compose(parts, x), model(x))


def test_a_loose_parameter_is_its_users_and_a_buffer_too() -> None:
    parts = split(Plain(), STAGES, "plain")
    assert set(parts["low"].state_dict()) == {"first.weight", "first.bias"}
    assert {"scale", "shift", "second.1.running_mean"} <= set(parts["high"].state_dict())


def test_a_module_used_in_two_stages_follows_each_ones_mode() -> None:
    parts = split(Plain().train(), STAGES, "plain")
    parts["low"].eval()
    x = torch.randn(3, 4)
    low = parts["low"](x)
    assert torch.equal(low, parts["low"](x))
    assert not torch.equal(parts["high"](low), parts["high"](low))
    assert parts["high"].drop.training


def test_what_features_do_not_touch_is_left_out_and_logged(caplog) -> None:
    with caplog.at_level(logging.INFO):
        parts = split(Plain(), {**STAGES, "rest": ["unused.weight", "unused.bias"]}, "plain")
    assert list(parts) == ["low", "high"]
    assert "plain: features don't depend on unused.bias, unused.weight; left out." in caplog.text


class Functional(nn.Module):
    """Drops out by a function, which gets the mode, and calls one that can't be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(self.first(x), 0.5, training=self.training)
        return self.second(halve_if_large(x))


def halve_if_large(x: Tensor) -> Tensor:
    return x / 2 if x.numel() > 2 else x


def test_functional_dropout_follows_its_stages_mode_and_functions_can_be_left_whole() -> None:
    model = Functional().train()
    stages = {name: [f"{name}.weight", f"{name}.bias"] for name in ("first", "second")}
    parts = split(model, stages, "functional", [halve_if_large])
    assert list(parts) == ["first", "second"]
    x = torch.randn(3, 4)
    assert not torch.equal(parts["first"](x), parts["first"](x))
    model.eval()
    for part in parts.values():
        part.eval()
    assert torch.equal(compose(parts, x), model(x))


def test_the_model_keeps_its_mode_and_its_modules() -> None:
    model = Plain().eval()
    parts = split(model, STAGES, "plain")
    assert not any(module.training for module in model.modules())
    assert parts["low"].first is model.first


def test_a_copy_keeps_names_modes_and_results() -> None:
    parts = nn.ModuleDict(split(Plain(), STAGES, "plain")).eval()
    clone = copy.deepcopy(parts)
    x = torch.randn(3, 4)
    assert torch.equal(compose(dict(clone.items()), x), compose(dict(parts.items()), x))
    assert clone.state_dict().keys() == parts.state_dict().keys()
    assert not any(module.training for module in clone.modules())


class Backwards(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.first(self.second(x))


class Branching(Backwards):
    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) if x.sum() > 0 else x


class ByMode(Backwards):
    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x) if self.training else 2 * self.first(x))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Backwards(), "first is used after the next stage has begun"),
        (Branching(), "control flow"),
        (ByMode(), "its forward differs between training and evaluation"),
    ],
)
def test_what_cannot_be_cut_is_one_stage_and_logged(model: nn.Module, reason: str, caplog) -> None:
    stages = {name: [f"{name}.weight", f"{name}.bias"] for name in ("first", "second")}
    with caplog.at_level(logging.WARNING):
        parts = split(model, stages, "odd")
    assert parts == {"backbone": model}
    assert "odd can't be split into stages" in caplog.text
    assert reason in caplog.text
