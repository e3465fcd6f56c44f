"""What each stage gives and costs, as a backbone keeps it."""

from torch import Tensor, nn

from regraft.core.image_spec import ImageSpec
from regraft.core.stage_costs import StageCost
from regraft.core.types import Backbone
from regraft.models.stage_outputs import output_shapes, tapped


class Counting(nn.Conv2d):
    def __init__(self) -> None:
        super().__init__(3, 2, 1, bias=False)
        self.num_passes = 0

    def forward(self, images: Tensor) -> Tensor:
        self.num_passes += 1
        return super().forward(images)


def test_a_backbone_is_run_once_for_its_costs_until_its_images_have_another_size():
    stem = Counting()
    backbone = Backbone({"stem": stem, "pool": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())}, 2, ImageSpec(4))
    of_both = [StageCost((2, 4, 4), 2 * 3 * 2 * 16), StageCost((2,), 0)]
    assert output_shapes(backbone) == {"stem": (2, 2, 4, 4), "pool": (2, 2)}
    read = tapped(backbone, ["stem"])
    assert read.costs == of_both[:1]
    assert backbone.costs == of_both
    assert stem.num_passes == 1
    backbone.input_spec = ImageSpec(4, 3, (0.1,) * 3, (0.2,) * 3)
    assert backbone.costs == of_both
    assert stem.num_passes == 1
    backbone.input_spec = ImageSpec(2)
    assert backbone.costs[0] == StageCost((2, 2, 2), 2 * 3 * 2 * 4)
    assert stem.num_passes == 2
