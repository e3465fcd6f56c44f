import pytest
from torch import Tensor, nn

from regraft.core.types import Backbone, InputSpec
from regraft.models.dry_run import run_dry


class ReadsValues(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) if float(images.sum()) >= 0 else images


@pytest.mark.parametrize(
    "stage", [nn.Sequential(nn.Flatten(), nn.BatchNorm1d(48)), ReadsValues()], ids=["meta", "zeros"]
)
def test_hooks_see_shapes_and_the_backbone_stays_as_it_was(stage):
    backbone = Backbone({"only": stage}, 48, InputSpec(4))
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    seen = []
    stage.register_forward_hook(lambda _module, _inputs, output: seen.append(tuple(output.shape)))
    run_dry(backbone, num_images=2)
    assert seen[-1] == (2, 48)
    assert backbone.training
    assert all(tensor.equal(before[name]) for name, tensor in backbone.state_dict().items())
