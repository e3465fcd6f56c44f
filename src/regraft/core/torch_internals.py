"""Everything that Regraft uses of torch beyond its public API, so that an upgrade breaks one file.

`tests/core/test_torch_internals.py` has a test for each name.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["TorchDispatchMode", "copy_root_version", "forward_hooks", "require_positive", "tree_leaves"]


def forward_hooks(module: nn.Module) -> list[Callable[..., Any]]:
    """Returns the hooks that run before and after a module's forward, in the order of their registration."""
    return [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]


def require_positive(number: float) -> None:
    """Lets tracing assume that a length, which depends on an input's shape, is at least 1."""
    torch._check(number >= 1)


def copy_root_version(state: dict[str, Tensor], module_state: dict[str, Tensor]) -> None:
    """Marks a state dict as written by the version of the module whose own state dict is given.

    Only for the root module: MNASNet refuses to load without a version, while BatchNorm and ViT convert the names of
    old files only if their version is unknown.
    """
    state._metadata = {"": module_state._metadata[""]}  # type: ignore[attr-defined]
