"""Grad-CAM heat maps of a trained model, by captum (the extra `regraft[report]`)."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from regraft.data.images.transforms.mixing import normalise
from regraft.deployment.classifier import Classifier
from regraft.deployment.network import Network

Layout = Literal["channels first", "channels last", "tokens"]

_MAX_OTHER_TOKENS = 8
"""Class, distillation and register tokens come before the patches and have no position."""


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

    images = normalise(view[None].to(model.device), model.input_spec).to(model.dtype)
    images.requires_grad_()  # frozen stages pass a gradient on only if their input has one
    names = _stages_with_positions(model.network, images)
    if not names:
        raise ValueError("Grad-CAM needs a stage whose output has positions, and this backbone has none.")
    maps = (_grad_cam(model.network, name, images, class_index) for name in reversed(names))
    found = next((each for each in maps if each.any()), None)
    if found is None:
        raise ValueError("The class doesn't depend on any position of a stage's output.")
    size = model.input_spec.image_size
    heat = LayerAttribution.interpolate(found.relu(), (size, size), interpolate_mode="bilinear")[0, 0].float().cpu()
    highest = heat.max()
    return heat / highest if highest > 0 else heat


def _stages_with_positions(network: Network, images: Tensor) -> list[str]:
    """Returns the stages whose outputs have positions, from the input up."""
    found = []
    with torch.no_grad():
        for name, stage in network.backbone.stages.items():
            images = stage(images)
            if isinstance(images, Tensor) and _layout(images.shape) is not None:
                found.append(name)
    return found


def _grad_cam(network: Network, name: str, images: Tensor, class_index: int) -> Tensor:
    """Returns each position's contribution to a class, (1, 1, height, width); below 0 against it."""
    from captum.attr import LayerGradCam

    stages = network.backbone.stages
    stage, placed = stages[name], _Placed(stages[name])
    stages[name] = placed
    try:
        found: Tensor = LayerGradCam(network, placed.map).attribute(images, target=class_index)
    finally:
        stages[name] = stage
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
        side = math.isqrt(output.shape[1])
        others, patches = output.split([output.shape[1] - side**2, side**2], 1)
        patches = self.map(patches.transpose(1, 2).unflatten(2, (side, side))).flatten(2).transpose(1, 2)
        return torch.cat([others, patches], 1)


def _layout(shape: torch.Size) -> Layout | None:
    """Returns the layout of the positions in an output of square images; None if there are none, or only one."""
    if len(shape) == 4 and min(shape[2:]) > 1:
        return "channels last" if shape[1] == shape[2] != shape[3] else "channels first"
    if len(shape) == 3:
        side = math.isqrt(shape[1])
        return "tokens" if side > 1 and shape[1] - side**2 <= _MAX_OTHER_TOKENS else None
    return None
