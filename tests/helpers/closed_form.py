"""Random features of two stages, for tests of heads in closed form."""

import torch
from torch import Tensor

from regraft.training.closed_form.scaling import StageScaling

WIDTHS = {"block0": 3, "block1": 7}


def identity(widths: dict[str, int]) -> StageScaling:
    """Undoes the division by the square root of the width, so that refits see the features as they are."""
    return StageScaling(
        {name: torch.zeros(width, dtype=torch.float64) for name, width in widths.items()},
        {name: torch.full((width,), width**0.5, dtype=torch.float64) for name, width in widths.items()},
        clip=torch.inf,
    )


def sample(num_images: int, num_classes: int = 3) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    generator = torch.Generator().manual_seed(num_images)
    labels = torch.arange(num_images) % num_classes
    features = {
        name: torch.randn(num_images, width, generator=generator) + labels[:, None] * 0.5
        for name, width in WIDTHS.items()
    }
    return features, labels, torch.rand(num_images, generator=generator) + 0.5


def joined(features: dict[str, Tensor]) -> Tensor:
    return torch.cat(list(features.values()), dim=1).double()
