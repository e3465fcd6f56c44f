"""Several backbones beside each other: those of the networks of an ensemble."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from regraft.core.types import Backbone


class Members(nn.Module):
    """Gives the features of several backbones of the same inputs, one after the other.

    Args:
        normalisations: of each member the mean and standard deviation of the images that it was trained on, by channel,
            if these differ; inputs are normalised as the first one's.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, members: Sequence[Backbone], normalisations: Sequence[Sequence[Sequence[float]]] | None) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.is_normalising = normalisations is not None
        if normalisations is not None:
            mean, std = torch.tensor(normalisations, dtype=torch.float64)[:, :, :, None, None].unbind(1)
            self.register_buffer("scale", (std[0] / std).float(), persistent=False)
            self.register_buffer("shift", ((mean[0] - mean) / std).float(), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns features, (batch, sum of the members' num_features)."""
        if not self.is_normalising:
            return torch.cat([member(inputs) for member in self.members], dim=1)
        own = [inputs * scale + shift for scale, shift in zip(self.scale, self.shift, strict=True)]
        return torch.cat([member(each) for member, each in zip(self.members, own, strict=True)], dim=1)


def side_by_side(
    members: Sequence[Backbone], normalisations: Sequence[Sequence[Sequence[float]]] | None = None
) -> Backbone:
    """Returns a backbone of a single stage that has all members; see `Members`."""
    width = sum(member.num_features for member in members)
    return Backbone({"members": Members(members, normalisations)}, width, members[0].input_spec)
