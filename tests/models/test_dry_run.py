import contextlib

import pytest
import torch
from torch import Tensor, nn

from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.models import dry_run
from regraft.models.dry_run import dry_outputs


class ReadsValues(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) if float(images.sum()) >= 0 else images


@pytest.mark.parametrize(
    ("last", "small"), [(nn.Flatten(), 0), (ReadsValues(), 0), (nn.Flatten(), 1e9)], ids=["meta", "zeros", "small"]
)
def test_each_output_is_found_once_and_the_backbone_stays_as_it_was(last, small, monkeypatch):
    monkeypatch.setattr(dry_run, "_SMALL", small)
    norm = nn.BatchNorm2d(3).eval()  # as in a frozen stage of a backbone that trains
    backbone = Backbone({"norm": norm, "last": last}, 48, ImageSpec(4))
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    found = dry_outputs(backbone, [norm, last], num_inputs=2)
    assert [(module, tuple(output.shape)) for module, output in found] == [(norm, (2, 3, 4, 4)), (last, (2, 48))]
    assert all(output.is_meta for _, output in found)
    assert (backbone.training, norm.training) == (True, False)
    assert not norm._forward_hooks
    assert all(tensor.equal(before[name]) for name, tensor in backbone.state_dict().items())


class Keeps(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        if not hasattr(self, "rows"):
            self.rows = torch.arange(images.shape[3], device=images.device)
        return (images + self.rows).flatten(1)


def test_what_a_stage_keeps_of_a_pass_is_of_real_inputs(monkeypatch):
    monkeypatch.setattr(dry_run, "_SMALL", 0)
    backbone = Backbone({"norm": nn.BatchNorm2d(3), "last": Keeps()}, 48, ImageSpec(4))
    dry_outputs(backbone, [], num_inputs=2)
    dry_run.saved_bytes(backbone, ["norm"])
    assert backbone(torch.ones(2, 3, 4, 4)).shape == (2, 48)


def test_an_lstm_has_its_own_weights_afterwards(monkeypatch):
    monkeypatch.setattr(dry_run, "_SMALL", 0)
    lstm = nn.LSTM(4, 3)
    backbone = Backbone({"rows": nn.Flatten(0, 1), "lstm": lstm}, 3, ImageSpec(4))
    dry_outputs(backbone, [lstm], num_inputs=2)
    with contextlib.suppress(AttributeError):  # its output is a pair
        dry_run.saved_bytes(backbone, ["lstm"])
    assert not any(weight.is_meta for weight in lstm._flat_weights)
