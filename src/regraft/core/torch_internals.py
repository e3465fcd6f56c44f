"""Everything that Regraft uses of torch beyond its public API, so that an upgrade breaks one file.

`tests/core/test_torch_internals.py` has a test for each name.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = [
    "TorchDispatchMode",
    "copy_root_version",
    "forward_hooks",
    "fused_attention_on_meta",
    "has_onednn_linear",
    "is_transformed",
    "is_view",
    "onednn_linear",
    "raise_if_a_loader_process_failed",
    "require_positive",
    "storage_id",
    "tree_leaves",
    "tree_map",
]


def forward_hooks(module: nn.Module) -> list[Callable[..., Any]]:
    """Returns the hooks that run before and after a module's forward, in the order of their registration."""
    return [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]


def is_transformed() -> bool:
    """Whether a transform of `torch.func`, such as `vmap` or `grad`, is computing."""
    return torch._C._are_functorch_transforms_active()


def is_view(tensor: Tensor) -> bool:
    """Whether autograd knows a tensor as a view of another one."""
    return tensor._is_view()


def has_onednn_linear() -> bool:
    """Whether this torch has oneDNN, and `onednn_linear`."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn_linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns what `functional.linear` does, computed by oneDNN, on the CPU; autograd doesn't know it.

    Torch's compiler replaces linear layers by this operator. In public there is only one for tensors of oneDNN's own
    layout, and copying to that layout and back costs what is gained.
    """
    if not (weight.is_contiguous() or weight.t().is_contiguous()):
        weight = weight.contiguous()  # other strides take a thousand times as long
    output: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return output


def raise_if_a_loader_process_failed() -> None:
    """Raises RuntimeError if a process of a `DataLoader` was killed or has failed."""
    torch._C._error_if_any_worker_fails()


def require_positive(number: float) -> None:
    """Lets tracing assume that a length, which depends on an input's shape, is at least 1."""
    torch._check(number >= 1)


def storage_id(tensor: Tensor) -> int:
    """Returns a number that tensors share if they share memory; it's another's once they are all gone."""
    return int(tensor.untyped_storage()._cdata)


@contextmanager
def fused_attention_on_meta() -> Iterator[None]:
    """Makes attention on the meta device keep for the backward pass what fused kernels keep on other devices.

    There torch takes the formula, which keeps the attention weights too.
    """

    def attention(query: Tensor, key: Tensor, value: Tensor, *arguments: Any, **options: Any) -> Tensor:
        if not query.is_meta:
            return usual(query, key, value, *arguments, **options)
        return FusedAttention.apply(query, key, value)

    usual = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = usual


class FusedAttention(torch.autograd.Function):
    """The shape of attention's output, and the least of what is kept for its backward pass."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        # In memory heads come after positions, so that those who join them don't copy.
        *batch, num_heads, length, _ = query.shape if query.dim() > 3 else (1, *query.shape)
        output = query.new_empty(*batch, length, num_heads, value.shape[-1]).transpose(-3, -2)
        output = output if query.dim() > 3 else output[0]
        ctx.save_for_backward(query, key, value)
        return output


def copy_root_version(state: dict[str, Tensor], module_state: dict[str, Tensor]) -> None:
    """Marks a state dict as written by the version of the module whose own state dict is given.

    Only for the root module: MNASNet refuses to load without a version, while BatchNorm and ViT convert the names of
    old files only if their version is unknown.
    """
    state._metadata = {"": module_state._metadata[""]}  # type: ignore[attr-defined]
