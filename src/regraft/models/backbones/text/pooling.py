"""From hidden states of a text's tokens to its features."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from regraft.core.errors import require

Pooling = Literal["mean", "cls", "last"]


class Pool(nn.Module):
    """Features (batch, width) of hidden states: the mean of the tokens, the first one or the last one.

    Of a text without tokens the mean is zero.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        require(kind in get_args(Pooling), "model.pool", kind, get_args(Pooling))
        self.kind = kind

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Returns the features.

        Args:
            hidden: (batch, length, width), anything at padding.
            mask: (batch, length), bool, False at padding, which is on the right.
        """
        if self.kind == "cls":
            return hidden[:, 0]
        lengths = mask.sum(1, keepdim=True).clamp_min(1)
        if self.kind == "last":
            return hidden[torch.arange(hidden.shape[0], device=hidden.device), lengths[:, 0] - 1]
        return (mask.to(hidden.dtype) / lengths)[:, None].matmul(hidden)[:, 0]

    def extra_repr(self) -> str:
        """Returns what is shown of it in the text of a module."""
        return self.kind
