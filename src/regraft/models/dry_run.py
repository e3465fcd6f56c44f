"""A forward pass for its shapes alone, and for the memory that training takes."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from regraft.core.stage_costs import evaluating
from regraft.core.torch_internals import fused_attention_on_meta, storage_id
from regraft.core.types import Backbone

_SMALL = 1.2e12
"""Weights times input values up to which computing is quicker: of EfficientNet-Lite0 0.03 s at 128 px, on meta 0.17."""


def dry_outputs(backbone: Backbone, modules: Iterable[nn.Module], num_inputs: int) -> list[tuple[nn.Module, Tensor]]:
    """Returns the tensors that some modules give in a forward pass in eval mode, on the meta device, in order.

    Nothing is computed, unless the backbone is small or reads values: then it runs on zeros, on its own device.
    """
    found: list[tuple[nn.Module, Tensor]] = []

    def note(module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            found.append((module, torch.empty_like(output, device="meta")))

    hooks = [module.register_forward_hook(note) for module in modules]
    try:
        with evaluating([backbone]), torch.no_grad():
            if not _has_run_on_meta(backbone, num_inputs):
                found.clear()
                device = next(backbone.parameters(), torch.zeros(())).device
                backbone(backbone.input_spec.example(num_inputs, device))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def is_small(backbone: Backbone, num_inputs: int) -> bool:
    """Whether computing some inputs is quicker than a pass on the meta device."""
    num_values = backbone.input_spec.example(num_inputs, "meta").numel()
    return num_values * sum(tensor.numel() for tensor in (*backbone.parameters(), *backbone.buffers())) <= _SMALL


def _has_run_on_meta(backbone: Backbone, num_inputs: int) -> bool:
    """Runs the backbone without computing anything; returns whether it could, and computing takes longer."""
    if is_small(backbone, num_inputs):
        return False
    inputs = backbone.input_spec.example(num_inputs, "meta")
    states = {name: tensor.to("meta") for name, tensor in (*backbone.named_parameters(), *backbone.named_buffers())}
    try:
        _called(backbone, states, inputs)
    except (NotImplementedError, RuntimeError):
        return False
    return True


def _called(backbone: Backbone, states: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Returns the output of a backbone with other tensors in the place of its own; its attributes stay unchanged."""
    attributes = {module: dict(vars(module)) for module in backbone.modules()}
    try:
        found: Tensor = torch.func.functional_call(backbone, dict(states), (inputs,))
        return found
    finally:
        for module, own in attributes.items():
            # Without tensors that it keeps for later, on the device of these inputs.
            vars(module).clear()
            vars(module).update(own)
            if isinstance(module, nn.RNNBase):  # keeps a list of its weights, which has the other tensors now
                module.to(next(module.parameters()).device)


def saved_bytes(backbone: Backbone, trained: Collection[str]) -> int:
    """Returns the bytes that a forward pass keeps of one input for the backward pass through some stages, in float32.

    Those of weights and of the input itself don't count. Nothing is computed, unless the backbone reads values.
    """
    with evaluating([backbone]), fused_attention_on_meta(), torch.random.fork_rng(devices=[]):
        for name in trained:
            backbone.stages[name].train()
        # A difference, because some of what is kept doesn't grow with the batch; BatchNorm needs two inputs.
        try:
            return _saved(backbone, trained, "meta", 3) - _saved(backbone, trained, "meta", 2)
        except (NotImplementedError, RuntimeError):
            return _saved(backbone, trained, None, 3) - _saved(backbone, trained, None, 2)


def _saved(backbone: Backbone, trained: Collection[str], device: str | None, num_inputs: int) -> int:
    """Returns the bytes that some inputs keep; `device` None for the backbone's own."""
    states = {}
    for name, parameter in backbone.named_parameters():
        copied = parameter.detach().to(device or parameter.device, copy=True)
        states[name] = copied.requires_grad_(name.split(".")[1] in trained)
    states |= {
        name: tensor.detach().to(device or tensor.device, copy=True) for name, tensor in backbone.named_buffers()
    }
    like = next(iter(states.values()), torch.zeros(()))
    inputs = backbone.input_spec.example(num_inputs, like.device)
    own = {storage_id(tensor) for tensor in (*states.values(), inputs)}
    kept: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        if storage_id(tensor) not in own:
            kept[storage_id(tensor)] = tensor
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        output = _called(backbone, states, inputs)
    del output
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
