from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.deployment.attribution import attention
from regraft.deployment.classifier import Classifier
from regraft.deployment.network import Network
from regraft.models.backbones import timm
from regraft.models.stage_outputs import tapped

SPEC = ImageSpec(32, mean=(0.5,) * 3, std=(0.5,) * 3)


class Laid(nn.Module):
    """Gives the mean of each 4 x 4 pixels as it is asked to lay out places."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.layout = layout

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        places = nn.functional.avg_pool2d(images, 4)
        if self.layout == "first":
            return places
        if self.layout == "last":
            return places.permute(0, 2, 3, 1)
        tokens = places.flatten(2).transpose(1, 2)
        others = tokens.new_zeros(len(tokens), int(self.layout), tokens.shape[2])
        return torch.cat([others, tokens], 1)


class Pooled(nn.Module):
    def __init__(self, layout: str) -> None:
        super().__init__()
        self.dims = {"first": (2, 3), "last": (1, 2)}.get(layout, (1,))

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        return places.mean(self.dims)


def model_of(backbone: Backbone, num_classes: int = 2) -> Classifier:
    head = nn.Linear(backbone.num_features, num_classes, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.linspace(1, -1, num_classes)[:, None].expand_as(head.weight))
    names = tuple(map(str, range(num_classes)))
    spec = replace(SPEC, image_size=backbone.input_spec.image_size)
    return Classifier(Network(backbone, head).eval(), names, replace(spec, eval_view="square"), 1.0, Path("none.ckpt"))


@pytest.mark.parametrize("stages", ["last", "all"])
@pytest.mark.parametrize("layout", ["first", "last", "0", "1", "5"])
def test_what_is_bright_speaks_for_the_bright_class(layout, stages):
    backbone = tapped(Backbone({"places": Laid(layout), "pool": Pooled(layout)}, 3, SPEC), stages)
    view = torch.full((3, 32, 32), 128, dtype=torch.uint8)
    view[:, 8:16, 20:28] = 250
    view[:, 24:, :8] = 3
    heat = attention(model_of(backbone), view, 0)
    assert heat.shape == (32, 32)
    assert heat.max() == 1
    assert heat[10:14, 22:26].min() > 0.7
    assert heat[24:, :8].max() < 0.1
    assert backbone.stage_names == ("places", "pool")
    assert isinstance(backbone.untapped_stages["places"], Laid)


@pytest.mark.parametrize(("name", "size"), [("vit_tiny_patch16_224", 96), ("test_convnext", 64)])
def test_of_real_architectures(name, size):
    torch.manual_seed(0)
    backbone = timm.build(name=name, weights=None, image_size=size, num_channels=3)
    view = torch.randint(0, 256, (3, size, size), dtype=torch.uint8)
    model = model_of(backbone)
    with torch.no_grad():
        nn.init.normal_(model.network.head.weight)
    heats = [attention(model, view, index) for index in (0, 1)]
    assert all(heat.shape == (size, size) and heat.max() == 1 for heat in heats)
    assert not torch.equal(*heats)


def test_a_backbone_without_places_is_refused():
    backbone = Backbone({"flat": nn.Flatten()}, 3 * 32 * 32, SPEC)
    with pytest.raises(ValueError, match="needs a stage whose output has positions"):
        attention(model_of(backbone), torch.zeros(3, 32, 32, dtype=torch.uint8), 0)


def test_a_class_that_hangs_on_nothing_is_refused():
    backbone = Backbone({"places": Laid("first"), "pool": Pooled("first")}, 3, SPEC)
    model = model_of(backbone)
    nn.init.zeros_(model.network.head.weight)
    with pytest.raises(ValueError, match="doesn't depend on any position"):
        attention(model, torch.zeros(3, 32, 32, dtype=torch.uint8), 0)
