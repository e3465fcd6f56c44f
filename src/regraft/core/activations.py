"""Activation checkpointing: the backward pass computes a stage again, so that only its input stays in memory."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def computed_again(stage: nn.Module, inputs: Any) -> Any:
    """Returns a stage's output, of which the backward pass gives the same gradients as without checkpointing.

    Dropout draws the same masks again, and statistics, such as those of BatchNorm, are updated once. Gradients differ
    only for buffers that a forward pass updates and then uses, as those of spectral norm.
    """
    from lightning_utilities.core.apply_func import apply_to_collection

    def compute(given: Any) -> Any:
        # Copies, as a stage may begin with an operation that works in place.
        return stage(apply_to_collection(given, Tensor, Tensor.clone))

    return checkpoint(compute, inputs, use_reentrant=False, context_fn=partial(_contexts, stage))


def _contexts(stage: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Returns the contexts of the forward pass, and of the one within the backward pass."""
    return nullcontext(), _buffers_kept(stage)


@contextmanager
def _buffers_kept(stage: nn.Module) -> Iterator[None]:
    """Has the modules in training mode work on copies of their buffers inside the block."""
    kept = [
        (module, name, buffer)
        for module in stage.modules()
        if module.training
        for name, buffer in module.named_buffers(recurse=False)
    ]
    for module, name, buffer in kept:
        setattr(module, name, buffer.clone())
    try:
        yield
    finally:
        for module, name, buffer in kept:
            setattr(module, name, buffer)
