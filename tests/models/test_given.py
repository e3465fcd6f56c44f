"""Modules of somebody's own as backbones and heads."""

import pytest
import torch
from torch import nn

import regraft
from regraft.config.given import name_of
from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.models.given import given_backbone, given_head, given_strategy, require_logits


class Net(nn.Module):
    """Two convolutions and a linear layer, for images of any size."""

    def __init__(self, pooled=True):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.conv2 = nn.Conv2d(4, 6, 3, stride=2)
        self.keys = nn.Conv2d(6, 6, 1)
        self.pooled = pooled

    def forward(self, images):
        maps = self.keys(self.conv2(self.conv1(images)))
        return maps.mean((2, 3)) if self.pooled else maps


def made(module, **options):
    return given_backbone(given=name_of(module), **options)


@pytest.mark.parametrize("pooled", [True, False])
def test_the_children_of_a_module_are_stages_and_its_output_the_features(pooled):
    net = Net(pooled).eval()
    backbone = made(net, image_size=16).eval()
    assert backbone.stage_names == ("conv1", "conv2", "keys_")
    assert (backbone.num_features, backbone.input_spec) == (6, ImageSpec(16))
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(backbone(images), net(images) if pooled else net(images).mean((2, 3)))


def test_a_network_that_still_classifies_is_pointed_out(caplog):
    class Classifying(Net):
        def __init__(self):
            super().__init__()
            self.fc = nn.Sequential(nn.Dropout(0.1), nn.Linear(6, 5))

        def forward(self, images):
            return self.fc(super().forward(images))

    assert made(Classifying(), image_size=8).num_features == 5
    assert "Classifying.fc gives 5 outputs, which are the features here" in caplog.text


def test_a_run_trains_a_copy():
    net = Net()
    with torch.no_grad():
        next(made(net).parameters()).zero_()
    assert next(net.parameters()).any()


def test_the_size_is_the_first_that_the_module_takes():
    fixed = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 5), nn.Tanh())
    backbone = made(fixed)
    assert (backbone.input_spec.image_size, backbone.input_spec.num_channels, backbone.num_features) == (28, 1, 5)


def test_a_module_around_a_network_has_the_stages_of_the_network():
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))

        def forward(self, images):
            return {"last_hidden_state": self.net(images).flatten(2).transpose(1, 2)}

    backbone = made(Around(), image_size=8)
    assert backbone.stage_names == ("stage0", "stage1") or backbone.stage_names == ("backbone",)
    assert backbone(torch.zeros(1, 3, 8, 8)).shape == (1, 4)


def test_what_a_module_says_of_its_input_is_used():
    timm = pytest.importorskip("timm")
    backbone = made(timm.create_model("resnet10t", num_classes=0, pretrained=False))
    assert backbone.input_spec.image_size == 176
    assert backbone.input_spec.mean == (0.485, 0.456, 0.406)
    given = Backbone({"all": nn.Flatten()}, 12, ImageSpec(2))
    assert made(given).input_spec == ImageSpec(2)
    with pytest.raises(ValueError, match=r"model.image_size: got 3; .*allowed: 2"):
        made(given, image_size=3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Net, "got 'the class Net'; allowed: a torch.nn.Module"),
        (len, "got 'builtin_function_or_method'"),
        (nn.LSTM(7, 3), "LSTM takes no images of any usual size"),
    ],
)
def test_what_is_no_backbone_is_one_sentence(given, said):
    with pytest.raises(ValueError, match=said):
        made(given)


def test_a_head_is_a_module_or_what_makes_one():
    head = nn.Linear(6, 3)
    built = given_head(6, 3, given=name_of(head))
    assert built is not head
    assert built.weight.equal(head.weight)
    assert given_head(6, 3, given=name_of(nn.Linear)).weight.shape == (3, 6)
    assert given_head(6, 3, given=name_of(lambda num_features, num_classes: nn.Identity())).training
    for wrong, said in ((5, "got 'int'"), (lambda num_features, num_classes: 5, "returns a int")):
        with pytest.raises(ValueError, match=said):
            given_head(6, 3, given=name_of(wrong))


def test_a_head_gives_logits_of_all_classes():
    require_logits(nn.Linear(6, 3), 6, 3)
    with pytest.raises(ValueError, match=r"head: it gives \(2, 4\); allowed: .2, 3., a logit for each class"):
        require_logits(nn.Linear(6, 4), 6, 3)
    with pytest.raises(ValueError, match=r"head: it doesn't take features \(2, 5\)"):
        require_logits(nn.Linear(6, 3), 5, 3)


def test_a_strategy_is_any_function_of_point_and_stages():
    strategy = given_strategy(given=name_of(lambda point, stages: dict.fromkeys([*stages, "head"], 1.0)))
    assert strategy(regraft.TrainingPoint(0, 1), ["a"]) == {"a": 1.0, "head": 1.0}
    with pytest.raises(ValueError, match="freezing: got 'the class LPFT'"):
        given_strategy(given=name_of(regraft.LPFT))
