"""Ridge regression and regularised discriminant analysis, with exact leave-one-out scores for any regularisation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from regraft.training.closed_form.groups import discriminant_distances, ridge_errors
from regraft.training.closed_form.spectrum import Spectrum

ABSENT = -1e3
"""Added to the score of a class without images, so that it is never the best."""


@dataclass(frozen=True)
class Solution:
    """A linear head on a set of stages. All tensors are float64.

    Attributes:
        spectrum: of the training images.
        coefficients: (rank, num_classes), of the coordinates in the principal directions.
        constant: (num_classes,), added to them.
        loo_scores: (num_scored, num_classes): what the head that was fitted without an image, or its group, gives for
            it. The scaling and the weights stay those of all images. For the only image of its class they say nothing
            about that class.
    """

    spectrum: Spectrum
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
        weight = self.spectrum.to_features(self.coefficients).T
        return weight, self.constant - weight @ self.spectrum.mean


def weighted_sum(solutions: Sequence[Solution], factors: Sequence[float]) -> Solution:
    """Returns the head whose scores are the weighted sum of those of heads on the same spectrum."""

    def summed(tensors: Iterable[Tensor]) -> Tensor:
        return torch.stack([factor * each for each, factor in zip(tensors, factors, strict=True)]).sum(0)

    return Solution(
        solutions[0].spectrum,
        summed(each.coefficients for each in solutions),
        summed(each.constant for each in solutions),
        summed(each.loo_scores for each in solutions),
    )


def ridge(spectrum: Spectrum, alpha: float) -> Solution:
    """Returns the ridge regression of one-hot targets, or of rows, with an intercept that isn't penalised.

    Minimises the weighted sum of squared errors plus `alpha` times the squared weights. Leave-one-out errors are the
    errors divided by one minus the leverage (Allen's PRESS, 1974).

    Args:
        spectrum: of the training images.
        alpha: above 0.
    """
    shrunk = 1 / (spectrum.eigenvalues + alpha)
    if spectrum.labels.ndim == 2:
        return _ridge_of_rows(spectrum, shrunk)
    coefficients = (spectrum.class_means * spectrum.class_weight[:, None] * shrunk).T
    prior = spectrum.class_weight / spectrum.class_weight.sum()
    errors = -(spectrum.coordinates @ coefficients).add_(prior)
    own = torch.arange(len(spectrum.labels))
    errors[own, spectrum.labels] += 1
    scores = -_left_out_errors(spectrum, shrunk, errors)
    scores[own, spectrum.labels] += 1
    return Solution(spectrum, coefficients, prior, scores)


def _ridge_of_rows(spectrum: Spectrum, shrunk: Tensor) -> Solution:
    total = spectrum.class_weight.sum()
    coefficients, prior = (spectrum.class_means * shrunk).T, spectrum.class_weight / total
    errors = spectrum.labels - (spectrum.coordinates @ coefficients).add_(prior)
    scores = spectrum.labels - _left_out_errors(spectrum, shrunk, errors)
    return Solution(spectrum, coefficients[:, :-1], prior[:-1], scores[:, :-1])  # the last column complements the rest


def _left_out_errors(spectrum: Spectrum, shrunk: Tensor, errors: Tensor) -> Tensor:
    """Returns the errors of ridge regressions without each image, or its group, from those of all images."""
    if spectrum.groups is not None:
        return ridge_errors(spectrum, shrunk, errors)
    leverage = spectrum.coordinates.square() @ shrunk + 1 / spectrum.class_weight.sum()
    return errors / (1 - spectrum.sample_weight * leverage)[:, None]


def discriminant(spectrum: Spectrum, alpha: float) -> Solution:
    """Returns the linear discriminant analysis whose within-class scatter matrix has `alpha` added to its diagonal.

    Scores are log posterior probabilities up to a constant of each image, as in Friedman, "Regularized discriminant
    analysis", JASA 1989. Leaving an image out changes the mean of its class and, by a matrix of rank one, the scatter
    matrix (Sherman and Morrison, 1950).

    Args:
        spectrum: of the training images.
        alpha: above 0.
    """
    counts = spectrum.class_weight
    root = counts.sqrt()
    shrunk = 1 / (spectrum.eigenvalues + alpha)
    # In the metric of the total scatter; that of the scatter within classes follows from it (Woodbury), since the
    # two differ by the class means alone.
    shrunk_means = spectrum.class_means * shrunk
    total = shrunk_means @ spectrum.class_means.T
    inner = torch.linalg.inv(torch.eye(len(counts), dtype=torch.float64) - root[:, None] * total * root)
    to_within = root[:, None] * inner / torch.where(root > 0, root, 1.0)
    between_means = total @ to_within
    freedom = max(float(counts.sum()) - int((counts > 0).sum()), 1.0)
    prior, is_present = counts / counts.sum(), counts > 0
    constant = prior.log() - 0.5 * freedom * between_means.diagonal()
    # Weighted by class, the means are 0, so this is the mean score of the other classes, whatever the image.
    constant[~is_present] = prior[is_present] @ constant[is_present] + ABSENT

    in_total = spectrum.coordinates @ shrunk_means.T
    products = in_total @ to_within
    squares = spectrum.coordinates.square() @ shrunk + ((in_total * root) @ inner * (in_total * root)).sum(1)
    distances = squares[:, None] - 2 * products + between_means.diagonal()
    coefficients = freedom * shrunk_means.T @ to_within
    if spectrum.groups is not None:
        rooted = in_total * root
        left_out = discriminant_distances(spectrum, shrunk, rooted, inner, products, between_means, distances)
    else:
        left_out = _distances_without_each(spectrum, products, between_means, squares, distances)
    scores = prior.log() - 0.5 * freedom * left_out
    scores[:, ~is_present] = scores[:, is_present].amin(1, keepdim=True) + ABSENT
    return Solution(spectrum, coefficients, constant, scores)


def _distances_without_each(
    spectrum: Spectrum, products: Tensor, between_means: Tensor, squares: Tensor, distances: Tensor
) -> Tensor:
    """Returns the squared distances of images to the class means, all found without each image.

    Args:
        products: (num_scored, num_classes), of images and class means, see `discriminant_distances`.
        squares: (num_scored,), of the images.
    """
    counts, own = spectrum.class_weight, torch.arange(len(spectrum.labels))
    own_distance = distances[own, spectrum.labels]
    weight, count = spectrum.sample_weight, counts[spectrum.labels]
    # Without its only image nothing of a class remains, so its mean is kept.
    remaining = torch.where(count - weight > 1e-9 * count, count - weight, torch.inf)
    downdate = weight * (1 + weight / remaining)
    downdate = downdate / (1 - downdate * own_distance)
    # Products of (image - mean of its class) with (image - mean of each class).
    cross = (squares - products[own, spectrum.labels])[:, None] - products + between_means[spectrum.labels]
    left_out = distances + downdate[:, None] * cross.square()
    left_out[own, spectrum.labels] = (1 + weight / remaining).square() * (
        own_distance + downdate * own_distance.square()
    )
    return left_out
