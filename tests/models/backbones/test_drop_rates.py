"""Rates of dropout and stochastic depth inside models of torchvision and timm."""

import pytest
import torch
from torch import nn

from regraft.models.backbones import efficientnet_lite, timm, torchvision

RANDOM = {"weights": None, "image_size": None, "num_channels": 3, "drop_rate": None, "drop_path": None}


def rates_of(backbone, kind):
    layers = [layer for layer in backbone.modules() if type(layer).__name__.startswith(kind)]
    return [layer.p if hasattr(layer, "p") else layer.drop_prob for layer in layers]


def test_stochastic_depth_grows_up_to_the_rate_that_is_given():
    with torch.device("meta"):
        own = rates_of(torchvision.build(name="efficientnet_b0", pool=True, **RANDOM), "Stochastic")
        given = rates_of(
            torchvision.build(name="efficientnet_b0", pool=True, **RANDOM | {"drop_path": 0.4}), "Stochastic"
        )
    assert max(given) == pytest.approx(0.4)
    assert given == pytest.approx([rate * 0.4 / max(own) for rate in own])
    of_timm = rates_of(efficientnet_lite.efficientnet_lite0(**RANDOM | {"drop_path": 0.4}), "DropPath")
    assert max(of_timm) == pytest.approx(0.375)  # timm's own ramp, to its last block but one


@pytest.mark.parametrize(("build", "name"), [(torchvision.build, "densenet121"), (timm.build, "resnet18")])
def test_dropout_acts_in_training_alone(build, name):
    pooled = {"pool": True} if build is torchvision.build else {}
    backbone = build(name=name, **pooled, **RANDOM | {"image_size": 64, "drop_rate": 0.5})
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for mode, is_same in ((True, False), (False, True)):
            backbone.train(mode)
            for layer in backbone.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()
            assert torch.equal(backbone(images), backbone(images)) is is_same


@pytest.mark.parametrize(
    ("build", "name", "rate", "message"),
    [
        (torchvision.build, "resnet18", {"drop_path": 0.2}, r"resnet18 .* has no stochastic depth"),
        (torchvision.build, "vgg11", {"drop_rate": 0.2}, r"vgg11 .* has no dropout\. .*head\.dropout"),
        (timm.build, "densenet121", {"drop_path": 0.2}, r"densenet121 .* has no stochastic depth"),
        (timm.build, "resnet18", {"drop_path": 1.0}, r"got 1\.0; allowed: 0 or more, less than 1"),
    ],
)
def test_a_model_without_such_layers_is_refused(build, name, rate, message):
    pooled = {"pool": True} if build is torchvision.build else {}
    with torch.device("meta"), pytest.raises(ValueError, match=rf"^model\.{next(iter(rate))}: .*{message}"):
        build(name=name, **pooled, **RANDOM | rate)
