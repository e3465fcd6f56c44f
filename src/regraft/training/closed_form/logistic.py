"""Multinomial logistic regression fitted to convergence, its weight decay chosen by cross-validation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from regraft.training.closed_form.spectrum import Spectrum
from regraft.training.closed_form.temperature import log_loss

DECAYS = tuple(10 ** (exponent / 2) for exponent in range(-8, 5))
"""That may be chosen; each stage's features have a mean squared length of 1."""
NUM_FOLDS = 5
_MAX_STEPS = 1000
_TOLERANCE = 1e-5
"""Of the largest component of the gradient of the mean loss."""
_ABSENT = -30.0
"""Bias of a class without images."""


@dataclass(frozen=True)
class LogisticHead:
    """A logistic regression on a set of stages. Tensors are float64.

    Attributes:
        weight: (num_classes, width), of the scaled features.
        bias: (num_classes,).
        decay: chosen.
        fold_logits: (num_images, num_classes), of each image by the model that was fitted without its fold.
        fold_log_loss: of those.
    """

    weight: Tensor
    bias: Tensor
    decay: float
    fold_logits: Tensor
    fold_log_loss: float


def logistic(
    spectrum: Spectrum, *, decays: Sequence[float] = DECAYS, num_folds: int = NUM_FOLDS, seed: int = 0
) -> LogisticHead:
    """Returns the logistic regression of all images at the decay of least cross-validated log loss.

    Minimises the weighted sum of the log losses plus half of `decay` times the squared weights, without the bias. In
    the principal directions there are no more unknowns than images, and a diagonal preconditioner (Boehning,
    "Multinomial logistic regression algorithm", 1992) makes L-BFGS converge in tens of steps. Decays are tried from the
    largest down, each from the weights of the last one, until the log loss has risen twice in a row.

    Args:
        spectrum: in which all training images are scored.
        decays: above 0.
        num_folds: at least 2; stratified.
        seed: of the folds.
    """
    folds = stratified_folds(spectrum.labels, num_folds, seed)
    num_classes = len(spectrum.class_weight)
    starts: list[Tensor | None] = [None] * num_folds
    best: tuple[float, float, Tensor] | None = None
    num_worse = 0
    for decay in sorted(decays, reverse=True):
        logits = torch.zeros(len(folds), num_classes, dtype=torch.float64)
        for fold in range(num_folds):
            is_held_out = folds == fold
            starts[fold] = found = _minimise(spectrum, decay, ~is_held_out, starts[fold])
            logits[is_held_out] = spectrum.coordinates[is_held_out] @ found[:-1] + found[-1]
        loss = log_loss(logits, spectrum.labels, spectrum.sample_weight)
        if best is None or loss < best[0]:
            best, num_worse = (loss, decay, logits), 0
        elif (num_worse := num_worse + 1) == 2:
            break
    assert best is not None, "There is at least one decay."
    loss, decay, logits = best
    found = _minimise(spectrum, decay, torch.ones(len(folds), dtype=torch.bool), starts[0])
    weight = spectrum.to_features(found[:-1]).T
    return LogisticHead(weight, found[-1] - weight @ spectrum.mean, decay, logits, loss)


def stratified_folds(labels: Tensor, num_folds: int, seed: int) -> Tensor:
    """Returns the fold of each image, (num_images,), int64; each class is spread evenly.

    Args:
        labels: (num_images,), int64.
        num_folds: at least 2.
        seed: of the order of the images of each class.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = order[labels[order].argsort(stable=True)]
    folds = torch.empty_like(labels)
    folds[by_class] = torch.arange(len(labels)) % num_folds
    return folds


def _minimise(spectrum: Spectrum, decay: float, is_used: Tensor, start: Tensor | None) -> Tensor:
    """Returns (rank + 1, num_classes): coefficients of the coordinates, and the bias."""
    x, labels = spectrum.coordinates[is_used], spectrum.labels[is_used]
    weight = spectrum.sample_weight[is_used]
    total, num_classes = weight.sum(), len(spectrum.class_weight)
    curvature = 0.5 * (1 - 1 / num_classes) * spectrum.eigenvalues * is_used.double().mean() + decay
    scale = torch.cat([curvature / total, torch.tensor([0.25], dtype=torch.float64)]).rsqrt()[:, None]
    inputs = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], dim=1) * scale.T
    penalty = decay * scale.square() / total
    penalty[-1] = 0
    rows = torch.arange(len(labels))

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = torch.from_numpy(flat).view(-1, num_classes)
        logits = inputs @ scaled
        normaliser = logits.logsumexp(1)
        shrunk = penalty * scaled
        loss = weight @ (normaliser - logits[rows, labels]) / total + 0.5 * (shrunk * scaled).sum()
        residual = (logits - normaliser[:, None]).exp()
        residual[rows, labels] -= 1
        gradient = inputs.T @ (residual * (weight / total)[:, None]) + shrunk
        return float(loss), gradient.flatten().numpy()

    if start is None:
        counts = torch.zeros(num_classes, dtype=torch.float64).index_add_(0, labels, weight)
        start = torch.zeros(x.shape[1] + 1, num_classes, dtype=torch.float64)
        start[-1] = (counts / total).log().clamp_min(_ABSENT)
    found = minimize(
        objective,
        (start / scale).flatten().numpy(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MAX_STEPS, "gtol": _TOLERANCE, "ftol": 0.0, "maxcor": 20},
    )
    return torch.from_numpy(found.x).view(-1, num_classes) * scale
