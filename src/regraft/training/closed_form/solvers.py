"""Ridge regression and regularised discriminant analysis, with exact leave-one-out scores for any regularisation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from regraft.training.closed_form.groups import discriminant_distances, ridge_errors
from regraft.training.closed_form.scatter import Scatter, Shrunk, Spectrum

ABSENT = -1e3
"""Added to the score of a class without images, so that it is never the best."""


@dataclass(frozen=True)
class Solution:
    """A linear head on a set of stages. All tensors are float64.

    Attributes:
        scatter: of the training images.
        coefficients: (rank, num_classes), see `Scatter.to_features`.
        constant: (num_classes,), added to the scores of the centred features.
        loo_scores: (num_scored, num_classes): what the head that was fitted without an image, or its group, gives for
            it. The scaling and the weights stay those of all images. For the only image of its class they say nothing
            about that class.
    """

    scatter: Scatter
    coefficients: Tensor
    constant: Tensor
    loo_scores: Tensor

    def transformed(self, scale: Tensor, shift: Tensor) -> "Solution":
        """Returns the head whose scores are `scale` times these plus `shift`, (num_classes,) each."""
        return replace(
            self,
            coefficients=self.coefficients * scale,
            constant=self.constant * scale + shift,
            loo_scores=self.loo_scores * scale + shift,
        )

    def linear(self) -> tuple[Tensor, Tensor]:
        """Returns weight (num_classes, width) and bias (num_classes,) of the scaled features."""
        weight = self.scatter.to_features(self.coefficients).T
        return weight, self.constant - weight @ self.scatter.mean


def weighted_sum(solutions: Sequence[Solution], factors: Sequence[float]) -> Solution:
    """Returns the head whose scores are the weighted sum of those of heads on the same images and stages."""

    def summed(tensors: Iterable[Tensor]) -> Tensor:
        return torch.stack([factor * each for each, factor in zip(tensors, factors, strict=True)]).sum(0)

    return Solution(
        solutions[0].scatter,
        summed(each.coefficients for each in solutions),
        summed(each.constant for each in solutions),
        summed(each.loo_scores for each in solutions),
    )


def ridge(scatter: Scatter, alpha: float) -> Solution:
    """Returns the ridge regression of one-hot targets, or of rows, with an intercept that isn't penalised.

    Minimises the weighted sum of squared errors plus `alpha` times the squared weights. Leave-one-out errors are the
    errors divided by one minus the leverage (Allen's PRESS, 1974).

    Args:
        scatter: of the training images.
        alpha: above 0.
    """
    shrunk = scatter.shrunk(alpha)
    prior = scatter.class_weight / scatter.class_weight.sum()
    if scatter.labels.ndim == 2:
        scores = shrunk.to_means + prior
        scores = scatter.labels - _left_out_errors(scatter, alpha, shrunk, scatter.labels - scores)
        # The last column complements the rest.
        return Solution(scatter, shrunk.coefficients[:, :-1], prior[:-1], scores[:, :-1])
    errors = -(shrunk.to_means * scatter.class_weight).add_(prior)
    own = torch.arange(len(scatter.labels))
    errors[own, scatter.labels] += 1
    scores = -_left_out_errors(scatter, alpha, shrunk, errors)
    scores[own, scatter.labels] += 1
    return Solution(scatter, shrunk.coefficients * scatter.class_weight, prior, scores)


def _left_out_errors(scatter: Scatter, alpha: float, shrunk: Shrunk, errors: Tensor) -> Tensor:
    """Returns the errors of ridge regressions without each image, or its group, from those of all images."""
    if scatter.groups is not None:
        return ridge_errors(_with_groups(scatter), alpha, errors)
    leverage = shrunk.squares + 1 / scatter.class_weight.sum()
    return errors / (1 - scatter.sample_weight * leverage)[:, None]


def _with_groups(scatter: Scatter) -> Spectrum:
    assert isinstance(scatter, Spectrum), "Groups need the images' coordinates."
    return scatter


def discriminant(scatter: Scatter, alpha: float) -> Solution:
    """Returns the linear discriminant analysis whose within-class scatter matrix has `alpha` added to its diagonal.

    Scores are log posterior probabilities up to a constant of each image, as in Friedman, "Regularized discriminant
    analysis", JASA 1989. Leaving an image out changes the mean of its class and, by a matrix of rank one, the scatter
    matrix (Sherman and Morrison, 1950).

    Args:
        scatter: of the training images.
        alpha: above 0.
    """
    counts = scatter.class_weight
    root = counts.sqrt()
    shrunk = scatter.shrunk(alpha)
    # In the metric of the total scatter; that of the scatter within classes follows from it (Woodbury), since the
    # two differ by the class means alone.
    total, in_total = shrunk.of_means, shrunk.to_means
    inner = torch.linalg.inv(torch.eye(len(counts), dtype=torch.float64) - root[:, None] * total * root)
    to_within = root[:, None] * inner / torch.where(root > 0, root, 1.0)
    between_means = total @ to_within
    freedom = max(float(counts.sum()) - int((counts > 0).sum()), 1.0)
    prior, is_present = counts / counts.sum(), counts > 0
    constant = prior.log() - 0.5 * freedom * between_means.diagonal()
    # Weighted by class, the means are 0, so this is the mean score, whatever the image. Where classes are far apart it
    # is far from 0, which would cost all scores their last digits.
    constant -= prior[is_present] @ constant[is_present]
    constant[~is_present] = ABSENT

    products = in_total @ to_within
    squares = shrunk.squares + ((in_total * root) @ inner * (in_total * root)).sum(1)
    distances = squares[:, None] - 2 * products + between_means.diagonal()
    coefficients = freedom * shrunk.coefficients @ to_within
    if scatter.groups is not None:
        spectrum, rooted = _with_groups(scatter), in_total * root
        left_out = discriminant_distances(spectrum, alpha, rooted, inner, products, between_means, distances)
    else:
        left_out = _distances_without_each(scatter, products, between_means, squares, distances)
    scores = prior.log() - 0.5 * freedom * left_out
    scores -= scores[:, is_present] @ prior[is_present, None]
    scores[:, ~is_present] = scores[:, is_present].amin(1, keepdim=True) + ABSENT
    return Solution(scatter, coefficients, constant, scores)


def _distances_without_each(
    scatter: Scatter, products: Tensor, between_means: Tensor, squares: Tensor, distances: Tensor
) -> Tensor:
    """Returns the squared distances of images to the class means, all found without each image.

    Args:
        products: (num_scored, num_classes), of images and class means, see `discriminant_distances`.
        squares: (num_scored,), of the images.
    """
    counts, own = scatter.class_weight, torch.arange(len(scatter.labels))
    own_distance = distances[own, scatter.labels]
    weight, count = scatter.sample_weight, counts[scatter.labels]
    # Without its only image nothing of a class remains, so its mean is kept.
    remaining = torch.where(count - weight > 1e-9 * count, count - weight, torch.inf)
    downdate = weight * (1 + weight / remaining)
    downdate = downdate / (1 - downdate * own_distance)
    # Products of (image - mean of its class) with (image - mean of each class).
    cross = (squares - products[own, scatter.labels])[:, None] - products + between_means[scatter.labels]
    left_out = distances + downdate[:, None] * cross.square()
    left_out[own, scatter.labels] = (1 + weight / remaining).square() * (
        own_distance + downdate * own_distance.square()
    )
    return left_out
