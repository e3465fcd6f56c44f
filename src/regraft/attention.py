"""Where in an image a trained model looked: Grad-CAM, by captum (the extra `regraft[report]`)."""

import torch
from torch import Tensor, nn

from regraft.data.mixing import normalise
from regraft.trained import TrainedModel


def attention(model: TrainedModel, view: Tensor, class_index: int) -> Tensor:
    """Returns how much each place spoke for a class, (image_size, image_size), float32 in [0, 1].

    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017; at
    the last stage whose output is a map of features.

    Args:
        model: what looks.
        view: (num_channels, image_size, image_size), uint8; see `TrainedModel.view`.
        class_index: the class.

    Raises:
        ImportError: captum isn't installed.
        ValueError: the backbone has no maps of features, as vision transformers, which have tokens.
    """
    from captum.attr import LayerAttribution, LayerGradCam

    images = normalise(view[None].to(model.device), model.input_spec).to(next(model.network.parameters()).dtype)
    images.requires_grad_()  # frozen stages pass a gradient on only if their input has one
    cam = LayerGradCam(model.network, _last_map(model, images))
    found = cam.attribute(images, target=class_index, relu_attributions=True)
    size = model.input_spec.image_size
    heat = LayerAttribution.interpolate(found, (size, size), interpolate_mode="bilinear")[0, 0].detach().float().cpu()
    highest = heat.max()
    return heat / highest if highest > 0 else heat


def _last_map(model: TrainedModel, images: Tensor) -> nn.Module:
    """Returns the last stage whose output is (batch, channels, height, width), larger than a point."""
    maps: list[nn.Module] = []

    def look(stage: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            maps.append(stage)

    stages = list(model.network.backbone.stages.values())
    hooks = [stage.register_forward_hook(look) for stage in stages]
    try:
        with torch.no_grad():
            model.network(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not maps:
        raise ValueError("Grad-CAM needs a stage that gives a map of features, which this backbone lacks.")
    return maps[-1]
