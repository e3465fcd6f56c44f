"""Standardisation of the pooled outputs of several stages, so that each stage weighs the same in a linear head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.models.stage_standardisation import CLIP, CONSTANT

BATCH = 512
"""Images converted to float64 at once; of more, new memory takes longer than the sums."""

NOT_FINITE = "head.stages"
"""The key of the error that features are NaN or infinite, which is their backbone's fault."""


@dataclass(frozen=True)
class StageScaling:
    """Maps the features of each stage to standard scores, clipped, and divided by the square root of the width.

    The squared length of a stage's features is thereby 1 on average, whatever its width. Constant features become 0.

    Attributes:
        mean: by stage, (width,), float64, of the training images.
        factor: by stage, (width,), float64: 1 / standard deviation; 0 of a constant feature.
        clip: standard deviations, above 0.
    """

    mean: Mapping[str, Tensor]
    factor: Mapping[str, Tensor]
    clip: float = CLIP

    def widths(self, stages: Sequence[str]) -> list[int]:
        """Returns the number of features of each of these stages."""
        return [len(self.mean[stage]) for stage in stages]

    def columns(self, stages: Sequence[str], among: Sequence[str]) -> Tensor:
        """Returns where the features of `stages` are in the concatenated features of `among`, (width,), int64."""
        columns = torch.arange(sum(self.widths(among))).split(self.widths(among))
        return torch.cat([columns[list(among).index(stage)] for stage in stages])

    def of(self, stages: Sequence[str]) -> Self:
        """Returns the scaling of these stages alone."""
        return replace(
            self,
            mean={stage: self.mean[stage] for stage in stages},
            factor={stage: self.factor[stage] for stage in stages},
        )

    def __call__(self, stage: str, features: Tensor) -> Tensor:
        """Returns the scaled features (batch, width), float64, of a stage's features (batch, width)."""
        scores = (features.double() - self.mean[stage]) * self.factor[stage]
        return scores.clamp_(-self.clip, self.clip).div_(features.shape[1] ** 0.5)


def fit_scaling(features: Mapping[str, Tensor], *, clip: float = CLIP) -> StageScaling:
    """Returns the scaling by the mean and standard deviation of training images, whatever their weights.

    Args:
        features: by stage, (num_images, width).
        clip: standard deviations, above 0.

    Raises:
        ConfigError: a stage has NaN or infinite features; it is named.
    """
    means, factors = {}, {}
    for stage, rows in features.items():
        zeros = torch.zeros(rows.shape[1], dtype=torch.float64)
        mean = sum((x.double().sum(0) for x in rows.split(BATCH)), zeros) / len(rows)
        if not mean.isfinite().all():
            raise _not_finite(stage, rows)
        squares = sum(((x.double() - mean).square().sum(0) for x in rows.split(BATCH)), zeros)
        std = (squares / len(rows)).sqrt()
        is_constant = std <= CONSTANT * mean.abs()
        means[stage], factors[stage] = mean, torch.where(is_constant, 0.0, 1 / std)
    return StageScaling(means, factors, clip)


def _not_finite(stage: str, rows: Tensor) -> ConfigError:
    count = sum(int((~x.isfinite()).any(1).sum()) for x in rows.split(BATCH))
    return ConfigError(
        NOT_FINITE,
        f"the features of stage {stage} are NaN or infinite for {count:,} of {len(rows):,} samples",
        fix=f"Leave {stage} out of head.stages, or look at these samples and the weights of the backbone.",
    )
