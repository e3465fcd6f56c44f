"""Several backbones beside each other: those of the networks of an ensemble."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from regraft.core.types import Backbone


class Members(nn.Module):
    """Gives the features of several backbones of the same inputs, one after the other."""

    def __init__(self, members: Sequence[Backbone]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns features, (batch, sum of the members' num_features)."""
        return torch.cat([member(inputs) for member in self.members], dim=1)


def side_by_side(members: Sequence[Backbone]) -> Backbone:
    """Returns a backbone of a single stage that has all members."""
    width = sum(member.num_features for member in members)
    return Backbone({"members": Members(members)}, width, members[0].input_spec)
