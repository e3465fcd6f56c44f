"""Activation checkpointing: the same gradients and statistics, from a second pass through the stages that train."""

import pytest
import torch
from torch import nn

from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.models.backbones.small import simple_cnn
from regraft.models.stage_outputs import tapped


def cnn():
    return simple_cnn(widths=[4, 8], batch_norm=True, weights=None, image_size=16, num_channels=3)


def in_place():
    """A backbone whose second stage begins with an operation in place, and drops."""
    stages = {
        "first": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
        "second": nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1)),
        "third": nn.Flatten(),
    }
    return Backbone(stages, 4, ImageSpec(16, 3))


class Named(nn.Module):
    """Passes on more than one tensor."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return {"maps": self.conv(images), "size": 16, "mask": None}


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(4)

    def forward(self, named):
        return self.norm(named["maps"].relu_()).mean((2, 3))


def by_name():
    return Backbone({"first": Named(), "second": Pooled()}, 4, ImageSpec(16, 3))


MAKERS = {"cnn": cnn, "tapped": lambda: tapped(cnn(), "all"), "in place": in_place, "by name": by_name}


def step(make, *, is_checkpointed, frozen=()):
    """Returns gradients, buffers and the state of random numbers after a step, and how often each stage was called."""
    torch.manual_seed(0)
    backbone, calls = make().train(), dict.fromkeys(make().stage_names, 0)
    for name in frozen:
        backbone.stages[name].eval().requires_grad_(False)
    for name, stage in backbone.stages.items():
        stage.register_forward_pre_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    backbone.checkpoints_activations = is_checkpointed
    size = backbone.input_spec.image_size
    backbone(torch.randn(4, 3, size, size)).square().sum().backward()
    tensors = {name: each.grad for name, each in backbone.named_parameters() if each.requires_grad}
    return tensors | dict(backbone.named_buffers()) | {"random": torch.get_rng_state()}, calls


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_gradients_statistics_and_random_numbers_are_the_same(make):
    (plain, once), (checkpointed, calls) = (step(make, is_checkpointed=each) for each in (False, True))
    assert plain.keys() == checkpointed.keys()
    assert [name for name in plain if not torch.equal(plain[name], checkpointed[name])] == []
    assert set(once.values()) == {1}
    assert [calls[name] for name, has_any in make().has_parameters.items() if has_any] == [2, 2]


def test_frozen_stages_are_computed_once():
    _, calls = step(cnn, is_checkpointed=True, frozen=["conv1"])
    assert calls == {"conv1": 1, "conv2": 2}


def test_without_gradients_nothing_is_checkpointed():
    backbone = cnn()
    backbone.checkpoints_activations = True
    with torch.no_grad():
        assert backbone(torch.randn(2, 3, 16, 16)).shape == (2, 8)
