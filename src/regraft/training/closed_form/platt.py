"""The sigmoid of each label's scores that gives the best probabilities, by the log loss of leave-one-out scores."""

import torch
from torch import Tensor

_MAX_STEPS = 50
_TOLERANCE = 1e-6
_LARGEST_STEP = 3.0
_DAMPING = 1e-9


def fit_sigmoids(scores: Tensor, targets: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Returns scale and shift of each label, (num_labels,) each, such that sigmoid(scale * score + shift) is best.

    Targets are smoothed as in Platt, "Probabilistic outputs for support vector machines" (1999), so that scores without
    a single mistake have a finite optimum. The scale isn't negative.

    Args:
        scores: (num_images, num_labels), float64.
        targets: (num_images, num_labels), 0 or 1.
        weight: (num_images,), above 0.
    """
    share = (weight / weight.sum())[:, None]
    positives = (targets * weight[:, None]).sum(0)
    negatives = weight.sum() - positives
    smoothed = torch.where(targets > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    mean = (share * scores).sum(0)
    std = (share * (scores - mean).square()).sum(0).sqrt()
    x = (scores - mean) / std.where(std > 0, std.new_ones(()))
    slope = torch.zeros_like(mean)
    shift = ((share * smoothed).sum(0)).logit()
    for _ in range(_MAX_STEPS):
        probabilities = (slope * x + shift).sigmoid()
        errors, curvature = share * (probabilities - smoothed), share * probabilities * (1 - probabilities)
        gradient = torch.stack([(errors * x).sum(0), errors.sum(0)])
        a, b, c = (curvature * x * x).sum(0) + _DAMPING, (curvature * x).sum(0), curvature.sum(0) + _DAMPING
        determinant = (a * c - b * b).clamp_min(torch.finfo(torch.float64).tiny)
        step = torch.stack([c * gradient[0] - b * gradient[1], a * gradient[1] - b * gradient[0]]) / determinant
        step = step.clamp(-_LARGEST_STEP, _LARGEST_STEP)
        slope, shift = slope - step[0], shift - step[1]
        if step.abs().max() < _TOLERANCE:
            break
    is_useless = slope <= 0
    constant = ((share * smoothed).sum(0)).logit()
    slope, shift = slope.where(~is_useless, 0.0), shift.where(~is_useless, constant)
    scale = slope / std.where(std > 0, std.new_ones(()))
    return scale, shift - scale * mean
