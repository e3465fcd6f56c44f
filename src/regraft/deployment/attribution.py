"""Grad-CAM heat maps of a trained model, by captum (the extra `regraft[report]`)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from regraft.core.image_spec import ImageSpec
from regraft.core.pooling import Layout, layout_of, num_other_tokens
from regraft.data.images.transforms.mixing import normalise
from regraft.deployment.classifier import Classifier
from regraft.deployment.network import Network
from regraft.models.stage_outputs import TappedStage, output_shapes


def attention(model: Classifier, view: Tensor, class_index: int) -> Tensor:
    """Returns how much each position contributes to a class, (image_size, image_size), float32 in [0, 1].

    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017; at
    the last stage on whose positions, in a feature map or of a transformer's patches, the class depends. For a
    transformer that reads only its class token, that is the last stage but one.

    Args:
        view: (num_channels, image_size, image_size), uint8, from `Classifier.view`.

    Raises:
        ValueError: no stage of the backbone has positions, or the class depends on none of them.
    """
    from captum.attr import LayerAttribution

    spec = model.input_spec
    assert isinstance(spec, ImageSpec), "only images have positions"
    images = normalise(view[None].to(model.device), spec).to(model.dtype)
    images.requires_grad_()  # frozen stages pass a gradient on only if their input has one
    shapes = output_shapes(model.network.backbone)
    names = [name for name, shape in shapes.items() if _layout(shape) is not None]
    if not names:
        raise ValueError("Grad-CAM needs a stage whose output has positions, and this backbone has none.")
    maps = (_grad_cam(model.network, name, images, class_index) for name in reversed(names))
    found = next((each for each in maps if each.any()), None)
    if found is None:
        raise ValueError("The class doesn't depend on any position of a stage's output.")
    size = spec.image_size
    heat = LayerAttribution.interpolate(found.relu(), (size, size), interpolate_mode="bilinear")[0, 0].float().cpu()
    highest = heat.max()
    return heat / highest if highest > 0 else heat


def _grad_cam(network: Network, name: str, images: Tensor, class_index: int) -> Tensor:
    """Returns each position's contribution to a class, (1, 1, height, width); below 0 against it."""
    from captum.attr import LayerGradCam

    path = f"stages.{name}"
    if isinstance(network.backbone.stages[name], TappedStage):
        path += ".stage"
    stage = network.backbone.get_submodule(path)
    placed = _Placed(stage)
    network.backbone.set_submodule(path, placed)
    try:
        found: Tensor = LayerGradCam(network, placed.map).attribute(images, target=class_index)
    finally:
        network.backbone.set_submodule(path, stage)
    return found.detach()


class _Placed(nn.Module):
    """A stage whose output passes through `map` as (batch, channels, height, width), and keeps its layout."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage
        self.map = nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.stage(inputs)
        layout = _layout(output.shape)
        assert layout is not None, "stages without positions aren't wrapped"
        if layout == "channels first":
            return self.map(output)
        if layout == "channels last":
            return self.map(output.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        num_others = num_other_tokens(output.shape)
        side = math.isqrt(output.shape[1] - num_others)
        others, patches = output[:, :num_others], output[:, num_others:]
        patches = self.map(patches.transpose(1, 2).unflatten(2, (side, side))).flatten(2).transpose(1, 2)
        return torch.cat([others, patches], 1)


def _layout(shape: Sequence[int]) -> Layout | None:
    """Returns the layout of the positions in an output of square images; None if there are none, or only one."""
    is_one = shape[1] < 4 if len(shape) == 3 else min(shape[2:], default=1) == 1
    return None if is_one else layout_of(shape)
