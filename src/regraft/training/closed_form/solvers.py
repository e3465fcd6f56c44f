"""Ridge regression and regularised discriminant analysis, with exact leave-one-out scores for any regularisation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.training.closed_form.spectrum import Spectrum


@dataclass(frozen=True)
class Solution:
    """A linear head on a set of stages. All tensors are float64.

    Attributes:
        weight: (num_classes, width), of the scaled features.
        bias: (num_classes,).
        loo_scores: (num_scored, num_classes): what the head that was fitted without an image gives for it. The scaling
            and the weights stay those of all images. For the only image of its class they say nothing about that class.
    """

    weight: Tensor
    bias: Tensor
    loo_scores: Tensor


def ridge(spectrum: Spectrum, alpha: float) -> Solution:
    """Returns the ridge regression of one-hot targets, with an intercept that isn't penalised.

    Minimises the weighted sum of squared errors plus `alpha` times the squared weights. Leave-one-out errors are the
    errors divided by one minus the leverage (Allen's PRESS, 1974).

    Args:
        spectrum: of the training images.
        alpha: above 0.
    """
    shrunk = 1 / (spectrum.eigenvalues + alpha)
    coefficients = (spectrum.class_means * spectrum.class_weight[:, None] * shrunk).T
    prior = spectrum.class_weight / spectrum.class_weight.sum()
    errors = -(spectrum.coordinates @ coefficients).add_(prior)
    own = torch.arange(len(spectrum.labels))
    errors[own, spectrum.labels] += 1
    leverage = spectrum.coordinates.square() @ shrunk + 1 / spectrum.class_weight.sum()
    scores = -errors / (1 - spectrum.sample_weight * leverage)[:, None]
    scores[own, spectrum.labels] += 1
    return _solution(spectrum, coefficients, prior, scores)


def discriminant(spectrum: Spectrum, alpha: float) -> Solution:
    """Returns the linear discriminant analysis whose within-class scatter matrix has `alpha` added to its diagonal.

    Scores are log posterior probabilities up to a constant of each image, as in Friedman, "Regularized discriminant
    analysis", JASA 1989. Leaving an image out changes the mean of its class and, by a matrix of rank one, the scatter
    matrix (Sherman and Morrison, 1950).

    Args:
        spectrum: of the training images.
        alpha: above 0.
    """
    counts, own = spectrum.class_weight, torch.arange(len(spectrum.labels))
    root = counts.sqrt()
    shrunk = 1 / (spectrum.eigenvalues + alpha)
    # In the metric of the total scatter; that of the scatter within classes follows from it (Woodbury), since the
    # two differ by the class means alone.
    total = (spectrum.class_means * shrunk) @ spectrum.class_means.T
    between = root[:, None] * total * root
    inner = torch.linalg.inv(torch.eye(len(counts), dtype=torch.float64) - between)
    to_within = root[:, None] * inner / root.clamp_min(torch.finfo(torch.float64).tiny)
    coefficients = (spectrum.class_means * shrunk).T @ to_within
    between_means = total @ to_within
    freedom = max(float(counts.sum()) - int((counts > 0).sum()), 1.0)
    log_prior = (counts / counts.sum()).log().clamp_min(-1e3)
    bias = log_prior - 0.5 * freedom * between_means.diagonal()

    products = spectrum.coordinates @ coefficients
    to_total = (spectrum.coordinates * shrunk) @ spectrum.class_means.T * root
    squares = spectrum.coordinates.square() @ shrunk + ((to_total @ inner) * to_total).sum(1)
    distances = squares[:, None] - 2 * products + between_means.diagonal()
    own_distance = distances[own, spectrum.labels]
    weight, count = spectrum.sample_weight, counts[spectrum.labels]
    # Of the only image of its class nothing remains; its own class keeps its mean.
    remaining = torch.where(count - weight > 1e-9 * count, count - weight, torch.inf)
    downdate = weight * (1 + weight / remaining)
    downdate = downdate / (1 - downdate * own_distance)
    # Products of (image - mean of its class) with (image - mean of each class).
    cross = (squares - products[own, spectrum.labels])[:, None] - products + between_means[spectrum.labels]
    left_out = distances + downdate[:, None] * cross.square()
    left_out[own, spectrum.labels] = (1 + weight / remaining).square() * (
        own_distance + downdate * own_distance.square()
    )
    return _solution(spectrum, coefficients * freedom, bias, log_prior - 0.5 * freedom * left_out)


def _solution(spectrum: Spectrum, coefficients: Tensor, bias: Tensor, loo_scores: Tensor) -> Solution:
    weight = (spectrum.directions @ coefficients).T
    return Solution(weight, bias - weight @ spectrum.mean, loo_scores)
