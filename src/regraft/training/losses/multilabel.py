"""Losses of several labels an image, on logits (batch, num_labels), mean over images and labels.

Targets are rows of 0 and 1, float, or between them from mixup.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from regraft.core.errors import ConfigError, require
from regraft.training.losses.classification import Loss


class MultilabelLoss(Loss):
    """Base class of losses that are a mean over labels."""

    tasks = ("multilabel",)

    def of_samples(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss of each sample and what it adds to the divisor, 1."""
        losses = self.of_labels(logits, targets.to(logits.dtype)).mean(1)
        return losses, torch.ones(len(losses), dtype=torch.float32, device=losses.device)

    def of_labels(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the loss of each sample and label, (batch, num_labels)."""
        raise NotImplementedError


class BCE(MultilabelLoss):
    """Binary cross-entropy, torch's own.

    Args:
        pos_weight: how much samples with a label weigh; None; `balanced`, which is the number of samples without it for
            each with it; or a list.
        label_counts: training images with each label.
        num_samples: training images.
        label_smoothing: how much targets are moved towards one half, in [0, 1).
    """

    pos_weight: Tensor | None

    def __init__(
        self,
        *,
        label_counts: Sequence[int],
        num_samples: int,
        pos_weight: str | Sequence[float] | None,
        label_smoothing: float,
    ) -> None:
        super().__init__()
        require(0 <= label_smoothing < 1, "loss.label_smoothing", label_smoothing, "at least 0, below 1")
        self.label_smoothing = label_smoothing
        self.register_buffer("pos_weight", _resolved(pos_weight, label_counts, num_samples), persistent=False)

    def of_labels(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the loss of each sample and label, (batch, num_labels)."""
        smoothed = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        return functional.binary_cross_entropy_with_logits(
            logits, smoothed, pos_weight=self.pos_weight, reduction="none"
        )


class Asymmetric(MultilabelLoss):
    """Asymmetric loss (Ridnik et al., "Asymmetric Loss For Multi-Label Classification", ICCV 2021).

    Args:
        gamma_neg: how strongly easy samples without a label are down-weighted, at least 0; the paper uses 4.
        gamma_pos: the same of those with it, at least 0; the paper uses 0 or 1.
        margin: what is taken off the probability of labels that a sample lacks, in [0, 1).
    """

    def __init__(self, *, gamma_neg: float, gamma_pos: float, margin: float) -> None:
        super().__init__()
        for key, value in (("gamma_neg", gamma_neg), ("gamma_pos", gamma_pos)):
            require(0 <= value < math.inf, f"loss.{key}", value, "at least 0")
        require(0 <= margin < 1, "loss.margin", margin, "at least 0, below 1")
        self.gamma_neg, self.gamma_pos, self.margin = gamma_neg, gamma_pos, margin

    def of_labels(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the loss of each sample and label, (batch, num_labels)."""
        edge = torch.finfo(logits.dtype).eps
        present = logits.sigmoid()
        absent = (1 - present + self.margin).clamp_max(1)
        # Away from 0, where a power below 1 has no finite slope.
        easy_positive, easy_negative = (1 - present).clamp_min(edge), (1 - absent).clamp_min(edge)
        positive = targets * easy_positive**self.gamma_pos * functional.logsigmoid(logits)
        negative = (1 - targets) * easy_negative**self.gamma_neg * absent.clamp_min(edge).log()
        return -(positive + negative)


class SigmoidFocal(MultilabelLoss):
    """Focal loss of each label, torchvision's own (Lin et al., ICCV 2017).

    Args:
        gamma: how strongly well-classified samples are down-weighted, at least 0; the paper uses 2.
        alpha: weight of samples with a label, in [0, 1], those without weigh 1 - alpha; None for equal weights.
    """

    def __init__(self, *, gamma: float, alpha: float | None) -> None:
        super().__init__()
        require(0 <= gamma < math.inf, "loss.gamma", gamma, "at least 0 (0 is binary cross-entropy)")
        require(alpha is None or 0 <= alpha <= 1, "loss.alpha", alpha, "0 to 1, or null")
        self.gamma, self.alpha = gamma, alpha

    def of_labels(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the loss of each sample and label, (batch, num_labels)."""
        from torchvision.ops import sigmoid_focal_loss

        losses: Tensor = sigmoid_focal_loss(logits, targets, -1 if self.alpha is None else self.alpha, self.gamma)
        return losses


def _resolved(pos_weight: Any, label_counts: Sequence[int], num_samples: int) -> Tensor | None:
    """Returns (num_labels,) weights, or None for none."""
    if pos_weight is None:
        return None
    allowed = "null, balanced, or a list of one number above 0 per label"
    if isinstance(pos_weight, str):
        require(pos_weight == "balanced", "loss.pos_weight", pos_weight, allowed)
        extreme = [index for index, count in enumerate(label_counts) if not 0 < count < num_samples]
        if extreme:
            reason = f"'balanced' needs training samples with and without each label; label {extreme[0]} lacks one kind"
            raise ConfigError("loss.pos_weight", reason, fix="Leave that label out, or give a number for each.")
        counts = torch.tensor(label_counts, dtype=torch.float32)
        return (num_samples - counts) / counts
    is_list = isinstance(pos_weight, Sequence) and len(pos_weight) == len(label_counts)
    require(is_list and all(weight > 0 for weight in pos_weight), "loss.pos_weight", pos_weight, allowed)
    return torch.tensor([float(weight) for weight in pos_weight])
