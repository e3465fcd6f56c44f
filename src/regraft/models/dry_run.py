"""A forward pass for its shapes alone."""

import torch

from regraft.core.types import Backbone


def run_dry(backbone: Backbone, num_images: int) -> None:
    """Runs a backbone in eval mode on the meta device, so that forward hooks see each output's shape.

    Nothing is computed, unless the backbone reads values: then it runs on zeros, on its own device.
    """
    spec, was_training = backbone.input_spec, backbone.training
    like = next(backbone.parameters(), torch.zeros(()))
    images = like.new_zeros((num_images, spec.num_channels, spec.image_size, spec.image_size), device="meta")
    states = {name: tensor.to("meta") for name, tensor in (*backbone.named_parameters(), *backbone.named_buffers())}
    backbone.eval()
    try:
        with torch.no_grad():
            torch.func.functional_call(backbone, states, (images,))
    except (NotImplementedError, RuntimeError):
        with torch.no_grad():
            backbone(torch.zeros_like(images, device=like.device))
    finally:
        backbone.train(was_training)
