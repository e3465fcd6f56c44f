"""Training images as linear heads see them: inner products in the metric of their regularised scatter matrix.

One eigendecomposition serves every regularisation; a Cholesky factor, which takes a fifth of its time, serves one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shrunk:
    """Inner products in the metric of the inverse of the scatter matrix with `alpha` added to its diagonal.

    Attributes:
        coefficients: (rank, num_classes), of the class means, see `Scatter.to_features`.
        squares: (num_scored,), of each image with itself.
        to_means: (num_scored, num_classes), of images and class means.
        of_means: (num_classes, num_classes), of class means.
    """

    coefficients: Tensor
    squares: Tensor
    to_means: Tensor
    of_means: Tensor


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """The training images on a set of stages. Tensors are float64 where nothing else is said.

    The mean of all images is taken away from each; scatter matrix and class means are weighted.

    Attributes:
        stages: whose features are concatenated, in this order.
        mean: (width,), of the scaled features.
        labels: (num_scored,), int64, of the images that are scored; or rows, see `TrainingImages.labels`.
        sample_weight: (num_scored,), of the images that are scored.
        class_weight: (num_classes,), summed over all training images.
        groups: (num_scored,), int64: images of the same one are left out together; None if each is left out alone.
        to_features: maps coefficients (rank, num_classes) to weights (width, num_classes) of the scaled features.
        least_alpha: the regularisation below which double precision is needed; 0 if this is of that precision.
    """

    stages: tuple[str, ...]
    mean: Tensor
    labels: Tensor
    sample_weight: Tensor
    class_weight: Tensor
    groups: Tensor | None
    to_features: Callable[[Tensor], Tensor]
    least_alpha: float
    _last: dict[float, Shrunk] = field(default_factory=dict, init=False, repr=False)

    def shrunk(self, alpha: float) -> Shrunk:
        """Returns the inner products for a regularisation above 0; those of the last one are kept."""
        if alpha not in self._last:
            self._last.clear()
            self._last[alpha] = self._shrunk(alpha)
        return self._last[alpha]

    def _shrunk(self, alpha: float) -> Shrunk:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Spectrum(Scatter):
    """By the eigenpairs of the scatter matrix.

    Attributes:
        eigenvalues: (rank,), above 0.
        coordinates: (num_scored, rank), of the images that are scored, in the principal directions.
        class_means: (num_classes, rank); 0 for a class without images. Of rows of targets, the weighted sums.
    """

    eigenvalues: Tensor
    coordinates: Tensor
    class_means: Tensor

    @cached_property
    def _squares(self) -> Tensor:
        return self.coordinates.square()

    def _shrunk(self, alpha: float) -> Shrunk:
        factors = 1 / (self.eigenvalues + alpha)
        means = self.class_means * factors
        return Shrunk(
            coefficients=means.T,
            squares=self._squares @ factors,
            to_means=self.coordinates @ means.T,
            of_means=means @ self.class_means.T,
        )


@dataclass(frozen=True, kw_only=True)
class GramMatrix(Scatter):
    """By the products of images with each other; the precision of what it finds is theirs.

    Attributes:
        products: (num_images, num_images), each row and column times the root of the image's weight.
        lift: their eigenvalue in the direction of these roots, in place of 0.
        shares: (num_images, num_classes), of such rows in the class means; of rows of targets, in the weighted sums.
            They are 0 in that direction.
        scored: (num_scored,), int64, positions of the images that are scored.
    """

    products: Tensor
    lift: float
    shares: Tensor
    scored: Tensor

    def _shrunk(self, alpha: float) -> Shrunk:
        inverse = torch.cholesky_inverse(_factor(self.products, alpha))
        coefficients = (inverse @ self.shares.to(inverse.dtype)).double()
        # As products @ coefficients, whose rounding would be seen where classes are far apart.
        to_means = self.shares - alpha * coefficients
        squares = (1 - alpha * inverse.diagonal().double())[self.scored] / self.sample_weight
        return Shrunk(
            coefficients=coefficients,
            squares=squares - self.lift / (self.lift + alpha) / self.class_weight.sum(),
            to_means=to_means[self.scored] / self.sample_weight.sqrt()[:, None],
            of_means=self.shares.T @ to_means,
        )


@dataclass(frozen=True, kw_only=True)
class ScatterMatrix(Scatter):
    """By the scatter matrix itself; the precision of what it finds is the matrix'.

    Attributes:
        matrix: (width, width).
        class_means: (num_classes, width), as of `Spectrum`.
        centred: yields batches of the images that are scored, (batch, width).
    """

    matrix: Tensor
    class_means: Tensor
    centred: Callable[[], Iterator[Tensor]]

    def _shrunk(self, alpha: float) -> Shrunk:
        factor = _factor(self.matrix, alpha)
        coefficients = torch.cholesky_solve(self.class_means.T.to(factor.dtype), factor)
        squares, to_means = [], []
        for x in self.centred():
            rows = x.to(factor.dtype)
            to_means.append(rows @ coefficients)
            squares.append(torch.linalg.solve_triangular(factor, rows.T, upper=False).square().sum(0))
        return Shrunk(
            coefficients=coefficients.double(),
            squares=torch.cat(squares).double(),
            to_means=torch.cat(to_means).double(),
            of_means=self.class_means @ coefficients.double(),
        )


def _factor(matrix: Tensor, alpha: float) -> Tensor:
    """Returns the lower Cholesky factor of a matrix with `alpha` added to its diagonal."""
    shifted = matrix.clone()
    shifted.diagonal().add_(alpha)
    return torch.linalg.cholesky(shifted)
