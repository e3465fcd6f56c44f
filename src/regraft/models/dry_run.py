"""A forward pass for its shapes alone."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from regraft.core.types import Backbone


def dry_outputs(backbone: Backbone, modules: Iterable[nn.Module], num_images: int) -> list[tuple[nn.Module, Tensor]]:
    """Returns the tensors that some modules give in a forward pass in eval mode, on the meta device, in order.

    Nothing is computed, unless the backbone reads values: then it runs on zeros, on its own device.
    """
    found: list[tuple[nn.Module, Tensor]] = []

    def note(module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            found.append((module, torch.empty_like(output, device="meta")))

    spec, was_training = backbone.input_spec, backbone.training
    like = next(backbone.parameters(), torch.zeros(()))
    images = like.new_zeros((num_images, spec.num_channels, spec.image_size, spec.image_size), device="meta")
    states = {name: tensor.to("meta") for name, tensor in (*backbone.named_parameters(), *backbone.named_buffers())}
    hooks = [module.register_forward_hook(note) for module in modules]
    backbone.eval()
    try:
        with torch.no_grad():
            torch.func.functional_call(backbone, states, (images,))
    except (NotImplementedError, RuntimeError):
        found.clear()
        with torch.no_grad():
            backbone(torch.zeros_like(images, device=like.device))
    finally:
        backbone.train(was_training)
        for hook in hooks:
            hook.remove()
    return found
