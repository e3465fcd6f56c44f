"""The principal directions of training features, which every regularisation of a linear head shares.

One eigendecomposition serves all strengths: of the Gram matrix (num_images x num_images) or of the covariance
(width x width), whichever is smaller; both are sums or blocks over stages, so that sets of stages share the products.
That of a large Gram matrix is in single precision where the regularisation hides its rounding.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.training.closed_form.scaling import BATCH, StageScaling

log = logging.getLogger(__name__)

MAX_RANK = 4096
"""Directions at most; where images and width are both more, those of the largest variance are kept."""
_OVERSAMPLING = 128
_BLOCK = 256
"""Rows whose products are computed at once."""
_SMALLEST = {torch.float64: 1e-11, torch.float32: 1e-6}
"""Of the largest eigenvalue; directions below it are rounding."""
_MIN_IMAGES_FOR_SINGLE = 512
"""From which on a Gram matrix's eigenpairs in single precision save time: of 3,000 images 0.8 s instead of 2.1."""
_LEAST_SHARE_IN_SINGLE = 1e4 * torch.finfo(torch.float32).eps
"""Of the largest eigenvalue; less regularisation would let the rounding of single precision be seen."""
_LEAST_WEIGHT_IN_SINGLE = 0.01
"""Of the mean; what is found for an image is divided by the root of its weight, and its rounding with it."""


class _Eigenpairs(NamedTuple):
    """Of a positive semidefinite matrix: values (rank,), ascending, above 0, and vectors (size, rank)."""

    values: Tensor
    vectors: Tensor


@dataclass(frozen=True)
class Spectrum:
    """The training images in the principal directions of a set of stages. All tensors are float64.

    Attributes:
        stages: whose features are concatenated, in this order.
        mean: (width,), weighted, of the scaled features.
        eigenvalues: (rank,), of the weighted scatter matrix around the mean, above 0.
        coordinates: (num_scored, rank), of the images that are scored.
        class_means: (num_classes, rank), weighted; 0 for a class without images. Of rows of targets, the weighted sums.
        labels: (num_scored,), int64, of the images that are scored; or rows, see `TrainingImages.labels`.
        sample_weight: (num_scored,), of the images that are scored.
        class_weight: (num_classes,), summed over all training images.
        groups: (num_scored,), int64: images of the same one are left out together; None if each is left out alone.
        to_features: maps coefficients (rank, num_classes) of the coordinates to weights (width, num_classes) of the
            scaled features.
        least_alpha: the regularisation below which a spectrum in double precision is needed; 0 of one.
    """

    stages: tuple[str, ...]
    mean: Tensor
    eigenvalues: Tensor
    coordinates: Tensor
    class_means: Tensor
    labels: Tensor
    sample_weight: Tensor
    class_weight: Tensor
    groups: Tensor | None
    to_features: Callable[[Tensor], Tensor]
    least_alpha: float


class TrainingImages:
    """Features and labels of the training images, with the sums over them that sets of stages share.

    Args:
        features: by stage, (num_images, width), finite; may be memory-mapped, they are read in batches.
        scaling: of these stages.
        labels: (num_images,), int64, in [0, num_classes); or rows of targets, (num_images, num_targets), float. Those
            get one column more, so that each sums to 1 as that of a class does.
        num_classes: at least 2; of rows, their number of columns.
        sample_weight: (num_images,), above 0; None for equal weights. They are scaled to the mean 1.
        max_scored: images whose leave-one-out scores are computed, at most; drawn at random, the same every time. Of
            groups at least one is scored.
        groups: (num_images,), int64: images of the same one are left out together; None to leave each out alone.

    Attributes:
        can_leave_out: whether anything remains when a group is left out.

    Raises:
        ConfigError: fewer than two images or fewer than two classes with images.
    """

    def __init__(
        self,
        features: Mapping[str, Tensor],
        scaling: StageScaling,
        labels: Tensor,
        num_classes: int,
        *,
        sample_weight: Tensor | None = None,
        max_scored: int | None = None,
        groups: Tensor | None = None,
    ) -> None:
        num_images = len(labels)
        is_dense = labels.ndim == 2
        num_present = num_images if is_dense else len(labels.unique())
        if num_present < 2:
            raise ConfigError(
                "data",
                f"got {num_images:,} training samples of {num_present} class{'' if num_present == 1 else 'es'}",
                allowed="at least 2 samples, of at least 2 classes",
            )
        weight = torch.ones(num_images) if sample_weight is None else sample_weight
        self.weight = weight.double() * (num_images / weight.double().sum())
        if is_dense:
            labels = torch.cat([labels.double(), 1 - labels.double().sum(1, keepdim=True)], dim=1)
        self.labels = labels
        self.class_weight = torch.zeros(num_classes + is_dense, dtype=torch.float64)
        _add_by_class(self.class_weight, labels, self.weight)
        self.can_leave_out = groups is None or bool((groups != groups[0]).any())
        self.groups = groups if self.can_leave_out else None
        if max_scored is None or max_scored >= num_images:
            self.scored = torch.arange(num_images)
        elif self.groups is not None:
            self.scored = _whole_groups(self.groups, max_scored)
        else:
            order = torch.randperm(num_images, generator=torch.Generator().manual_seed(0))
            self.scored = order[:max_scored].sort().values
        self._features, self._scaling = features, scaling
        self._class_sums: dict[str, Tensor] = {}
        self._means: dict[str, Tensor] = {}
        self._rows: dict[str, Tensor] = {}
        self._grams: dict[str, Tensor] = {}
        self._blocks: dict[tuple[str, str], Tensor] = {}

    @property
    def targets(self) -> Tensor:
        """Rows of targets, (num_images, num_targets), float64."""
        return self.labels[:, :-1]

    def spectrum(self, stages: Sequence[str], *, may_be_single: bool = False) -> Spectrum:
        """Returns the principal directions of the concatenated features of these stages.

        Args:
            may_be_single: whether those of many images, none of which has next to no weight, may be found in single
                precision.
        """
        num_images, width = len(self.labels), sum(self._features[stage].shape[1] for stage in stages)
        if min(num_images, width) > MAX_RANK:
            return self._in_directions(stages, self._sketched(stages))
        if num_images > width:
            return self._in_directions(stages, _eigenpairs(self._covariance(stages)))
        products = self.weight.new_zeros(num_images, num_images)
        for stage in stages:
            products += self._gram(stage)
        is_even = bool(self.weight.min() >= _LEAST_WEIGHT_IN_SINGLE)
        is_single = may_be_single and is_even and num_images >= _MIN_IMAGES_FOR_SINGLE
        values, vectors = (each.double() for each in _eigenpairs(products.float() if is_single else products))
        least_alpha = _LEAST_SHARE_IN_SINGLE * float(values[-1:].sum()) if is_single else 0.0
        coordinates = (vectors * values.sqrt()).div_(self.weight.sqrt()[:, None])
        sums = torch.zeros(len(self.class_weight), len(values), dtype=torch.float64)
        _add_by_class(sums, self.labels, coordinates * self.weight[:, None])

        def to_features(coefficients: Tensor) -> Tensor:
            dual = vectors @ (coefficients / values.sqrt()[:, None])
            return torch.cat([self._rows[stage].T @ dual for stage in stages])

        scored = coordinates if len(self.scored) == num_images else coordinates[self.scored]
        return self._spectrum(stages, values, scored, sums, to_features, least_alpha)

    def _in_directions(self, stages: Sequence[str], pairs: _Eigenpairs) -> Spectrum:
        """Returns the spectrum by the eigenpairs of the covariance."""
        values, directions = pairs
        mean = torch.cat([self._mean(stage) for stage in stages])
        sums = torch.cat([self._sums(stage) for stage in stages], dim=1) - self.class_weight[:, None] * mean
        coordinates = torch.cat([x @ directions for x in self._centred(stages, self.scored)])
        return self._spectrum(stages, values, coordinates, sums @ directions, lambda each: directions @ each)

    def _spectrum(
        self,
        stages: Sequence[str],
        eigenvalues: Tensor,
        coordinates: Tensor,
        class_sums: Tensor,
        to_features: Callable[[Tensor], Tensor],
        least_alpha: float = 0.0,
    ) -> Spectrum:
        counts = torch.where(self.class_weight > 0, self.class_weight, 1.0)
        return Spectrum(
            stages=tuple(stages),
            mean=torch.cat([self._mean(stage) for stage in stages]),
            eigenvalues=eigenvalues,
            coordinates=coordinates,
            class_means=class_sums if self.labels.ndim == 2 else class_sums / counts[:, None],
            labels=self.labels[self.scored],
            sample_weight=self.weight[self.scored],
            class_weight=self.class_weight,
            groups=None if self.groups is None else self.groups[self.scored],
            to_features=to_features,
            least_alpha=least_alpha,
        )

    def _sums(self, stage: str) -> Tensor:
        """Returns the weighted sum of the scaled features of each class, (num_classes, width)."""
        if stage not in self._class_sums:
            rows = self._features[stage]
            sums = torch.zeros(len(self.class_weight), rows.shape[1], dtype=torch.float64)
            for x, y, w in zip(rows.split(BATCH), self.labels.split(BATCH), self.weight.split(BATCH), strict=True):
                _add_by_class(sums, y, self._scaling(stage, x) * w[:, None])
            self._class_sums[stage] = sums
        return self._class_sums[stage]

    def _mean(self, stage: str) -> Tensor:
        """Returns the weighted mean of the scaled features, (width,)."""
        if stage not in self._means:
            self._means[stage] = self._sums(stage).sum(0) / self.weight.sum()
        return self._means[stage]

    def _centred(self, stages: Sequence[str], images: Tensor | None = None) -> Iterator[Tensor]:
        """Yields the centred scaled features of batches of images, (batch, width); None for all images."""
        for of_batch in (torch.arange(len(self.labels)) if images is None else images).split(BATCH):
            parts = [self._scaling(stage, self._features[stage][of_batch]) - self._mean(stage) for stage in stages]
            yield torch.cat(parts, dim=1)

    def _weighted(self, stages: Sequence[str]) -> Iterator[Tensor]:
        """Yields what `_centred` does, times the square root of each image's weight."""
        for x, w in zip(self._centred(stages), self.weight.split(BATCH), strict=True):
            yield x * w.sqrt()[:, None]

    def _gram(self, stage: str) -> Tensor:
        """Returns the products of images, see `_upper_products`, and keeps the rows that they are of."""
        if stage not in self._grams:
            rows = self._scaling(stage, self._features[stage])
            self._means[stage] = self.weight @ rows / self.weight.sum()
            self._rows[stage] = rows.sub_(self._means[stage]).mul_(self.weight.sqrt()[:, None])
            self._grams[stage] = _upper_products(rows)
        return self._grams[stage]

    def _covariance(self, stages: Sequence[str]) -> Tensor:
        return torch.cat([torch.cat([self._block(a, b) for b in stages], dim=1) for a in stages])

    def _block(self, one: str, other: str) -> Tensor:
        if (other, one) in self._blocks:
            return self._blocks[other, one].T
        if (one, other) not in self._blocks:
            pairs = zip(self._weighted([one]), self._weighted([other]), strict=True)
            shape = (self._features[one].shape[1], self._features[other].shape[1])
            self._blocks[one, other] = sum((a.T @ b for a, b in pairs), torch.zeros(shape, dtype=torch.float64))
        return self._blocks[one, other]

    def _sketched(self, stages: Sequence[str]) -> _Eigenpairs:
        """Returns about the `MAX_RANK` directions of largest variance by randomised subspace iteration.

        Halko, Martinsson, Tropp: "Finding structure with randomness", SIAM Review 2011, algorithm 4.4.
        """
        width = sum(self._features[stage].shape[1] for stage in stages)
        log.info("Head: of %d features, about the %d directions of largest variance are fitted.", width, MAX_RANK)
        size = min(MAX_RANK + _OVERSAMPLING, width)
        basis = torch.randn(width, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        for _ in range(3):
            image = sum((x.T @ (x @ basis) for x in self._weighted(stages)), torch.zeros_like(basis))
            basis = torch.linalg.qr(image).Q
        inner = torch.zeros(size, size, dtype=torch.float64)
        for x in self._weighted(stages):
            projected = x @ basis
            inner += projected.T @ projected
        values, vectors = _eigenpairs(inner)
        return _Eigenpairs(values[-MAX_RANK:], basis @ vectors[:, -MAX_RANK:])


def _whole_groups(groups: Tensor, most: int) -> Tensor:
    """Returns the positions, ascending, of groups drawn at random, together at most so many images, but one group."""
    _, places, sizes = groups.unique(return_inverse=True, return_counts=True)
    order = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(0))
    is_scored = torch.zeros(len(sizes), dtype=torch.bool)
    left = most
    for group in order.tolist():
        if sizes[group] <= left:
            is_scored[group] = True
            left -= int(sizes[group])
    if not is_scored.any():
        is_scored[sizes.argmin()] = True
    return is_scored[places].nonzero()[:, 0]


def _add_by_class(sums: Tensor, labels: Tensor, values: Tensor) -> None:
    """Adds values, (num_images, ...), to the sums of their classes; those of rows are shared out by their entries."""
    if labels.ndim == 1:
        sums.index_add_(0, labels, values)
    else:
        sums += labels.T @ values


def _upper_products(rows: Tensor) -> Tensor:
    """Returns rows @ rows.T, (num_rows, num_rows), with zeros in place of most of what is below the diagonal."""
    products = rows.new_zeros(len(rows), len(rows))
    for start in range(0, len(rows), _BLOCK):
        products[start : start + _BLOCK, start:] = rows[start : start + _BLOCK] @ rows[start:].T
    return products


def _eigenpairs(matrix: Tensor) -> _Eigenpairs:
    """Returns the eigenpairs of a positive semidefinite matrix in its precision, without those that are rounding.

    Args:
        matrix: only what is on the diagonal and above is read.
    """
    values, vectors = torch.linalg.eigh(matrix, UPLO="U")
    largest = values[-1].clamp_min(torch.finfo(values.dtype).tiny)
    num_left_out = int((values <= _SMALLEST[values.dtype] * largest).sum())
    return _Eigenpairs(values[num_left_out:], vectors[:, num_left_out:])
