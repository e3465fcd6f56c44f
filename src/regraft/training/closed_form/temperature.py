"""The scale of scores at which softmax gives the best probabilities, by the log loss of leave-one-out scores."""

import torch
from torch import Tensor

_MAX_STEPS = 30
_TOLERANCE = 1e-4
_LIMITS = (1e-6, 1e6)


def image_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns -log softmax(logits) at each image's label, (num_images,)."""
    return logits.logsumexp(1) - logits.gather(1, labels[:, None])[:, 0]


def log_loss(logits: Tensor, labels: Tensor, weight: Tensor) -> float:
    """Returns the weighted mean of -log softmax(logits) at the labels.

    Args:
        logits: (num_images, num_classes).
        labels: (num_images,), int64.
        weight: (num_images,), at least 0, not all 0.
    """
    return float(weight @ image_losses(logits, labels) / weight.sum())


def fit_scale(scores: Tensor, labels: Tensor, weight: Tensor, start: float = 1.0) -> float:
    """Returns the factor above 0 that minimises the log loss of `factor * scores`, one over the temperature.

    Targets are smoothed as if one image more had been seen, of no class in particular (after Platt, "Probabilistic
    outputs for support vector machines", 1999), so that scores without a single mistake have a finite optimum.

    Args:
        scores: (num_images, num_classes), float64.
        labels: (num_images,), int64.
        weight: (num_images,), at least 0, not all 0.
        start: of Newton's method.
    """
    weight = weight / weight.sum()
    smoothing = 1 / (len(labels) + 1)
    centred = scores - scores.mean(1, keepdim=True)
    of_targets = (1 - smoothing) * float(weight @ centred.gather(1, labels[:, None])[:, 0])
    scale = start
    for _ in range(_MAX_STEPS):
        probabilities = (scale * centred).softmax(1)
        mean = (probabilities * centred).sum(1)
        slope = float(weight @ mean) - of_targets
        curvature = float(weight @ ((probabilities * centred.square()).sum(1) - mean.square()))
        # The log loss is convex; steps are bounded where its curvature vanishes.
        step = scale - slope / max(curvature, torch.finfo(torch.float64).tiny)
        following = min(max(step, scale / 4), scale * 4)
        following = min(max(following, _LIMITS[0]), _LIMITS[1])
        is_done = abs(following - scale) <= _TOLERANCE * scale
        scale = following
        if is_done:
            break
    return scale
