"""Training features, and the matrices of them that every linear head on a set of stages shares.

The Gram matrix (num_images x num_images) or the scatter matrix (width x width), whichever is smaller; both are sums or
blocks over stages, so that sets of stages share the products. Large ones are in single precision where the
regularisation hides its rounding.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from regraft.core.errors import ConfigError
from regraft.training.closed_form.eigenpairs import Eigenpairs, eigenpairs, sketched_eigenpairs
from regraft.training.closed_form.scaling import BATCH, StageScaling
from regraft.training.closed_form.scatter import GramMatrix, Scatter, ScatterMatrix, Spectrum

MAX_RANK = 4096
"""Directions of a spectrum at most: where images and width are both more, those of the largest variance."""
MAX_SIZE = 10_240
"""Rows of a matrix at most, as many as a head reads by default: 0.4 GB in single precision, and four times at once."""
_MIN_SIZE_FOR_SINGLE = 512
"""From which on a matrix in single precision saves time: of 3,000 images the eigenpairs take 0.8 s instead of 2.1."""
_LEAST_OF_NORM = 2e3 * torch.finfo(torch.float32).eps
"""Of the matrix' norm, for a Cholesky factor: scores then differ from those of double precision as little, by 2e-4."""
_LEAST_WEIGHT_IN_SINGLE = 0.01
"""Of the mean; what is found for an image is divided by the root of its weight, and its rounding with it."""


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
        self._rows: dict[tuple[str, torch.dtype], Tensor] = {}
        self._grams: dict[torch.dtype, tuple[Sequence[str], Tensor]] = {}
        self._blocks: dict[tuple[str, str, torch.dtype], Tensor] = {}

    @property
    def targets(self) -> Tensor:
        """Rows of targets, (num_images, num_targets), float64."""
        return self.labels[:, :-1]

    def sample(self, num_images: int, least_of_class: int) -> "TrainingImages":
        """Returns some of the images, drawn at random, the same every time; so many of each class come first."""
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(0))
        if self.labels.ndim == 1:
            by_class = order[self.labels[order].argsort(stable=True)]
            counts = torch.bincount(self.labels)
            number_in_class = torch.empty_like(order)
            number_in_class[by_class] = torch.arange(len(order)) - (counts.cumsum(0) - counts)[self.labels[by_class]]
            order = order[(number_in_class[order] >= least_of_class).int().argsort(stable=True)]
        some = order[:num_images].sort().values
        return TrainingImages(
            {stage: self._features[stage][some] for stage in self._scaling.mean},
            self._scaling,
            self.labels[some] if self.labels.ndim == 1 else self.targets[some],
            len(self.class_weight) - (self.labels.ndim == 2),
            sample_weight=self.weight[some],
        )

    def spectrum(self, stages: Sequence[str], *, may_be_single: bool = False) -> Spectrum:
        """Returns the images in the principal directions of the concatenated features of these stages.

        Args:
            may_be_single: whether a large matrix may be in single precision, if no image has next to no weight.
        """
        num_images = len(self.labels)
        if self.size(stages) > MAX_RANK:
            width = self._width(stages)
            return self._in_directions(stages, sketched_eigenpairs(lambda: self._weighted(stages), width, MAX_RANK))
        dtype = self._precision(stages, may_be_single)
        if num_images > self._width(stages):
            return self._in_directions(stages, eigenpairs(self._covariance(stages, dtype)))
        pairs = eigenpairs(self._gram(stages, dtype))
        values, vectors = pairs.values.double(), pairs.vectors.double()
        coordinates = (vectors * values.sqrt()).div_(self.weight.sqrt()[:, None])
        sums = torch.zeros(len(self.class_weight), len(values), dtype=torch.float64)
        _add_by_class(sums, self.labels, coordinates * self.weight[:, None])
        from_images = self._from_images(stages, dtype)

        def to_features(coefficients: Tensor) -> Tensor:
            return from_images(vectors @ (coefficients / values.sqrt()[:, None]))

        return Spectrum(
            **self._shared(stages, to_features, pairs.least_alpha),
            eigenvalues=values,
            coordinates=coordinates if len(self.scored) == num_images else coordinates[self.scored],
            class_means=self._means_of(sums),
        )

    def matrix(self, stages: Sequence[str], *, may_be_single: bool = False) -> Scatter:
        """Returns the images by the smaller matrix of the concatenated features of these stages.

        Args:
            may_be_single: see `spectrum`.
        """
        dtype = self._precision(stages, may_be_single)
        if len(self.labels) > self._width(stages):
            covariance = self._covariance(stages, dtype)
            return ScatterMatrix(
                **self._shared(stages, lambda each: each, _least_alpha(covariance)),
                matrix=covariance,
                class_means=self._means_of(self._centred_sums(stages)),
                centred=lambda: self._centred(stages, self.scored),
            )
        products = self._gram(stages, dtype)
        indicators = self.labels if self.labels.ndim == 2 else functional.one_hot(self.labels, len(self.class_weight))
        shares = self._means_of(indicators.T * self.weight.sqrt()).T
        # In this direction centred images have no variance, and a small alpha would be lost in its rounding.
        direction = (self.weight / self.weight.sum()).sqrt()
        lift = float(products.diagonal().mean())
        return GramMatrix(
            **self._shared(stages, self._from_images(stages, dtype), _least_alpha(products)),
            products=products.addr(direction.to(dtype), direction.to(dtype), alpha=lift),
            lift=lift,
            shares=shares.addr(direction, direction @ shares, alpha=-1),
            scored=self.scored,
        )

    def size(self, stages: Sequence[str]) -> int:
        """Returns how many rows the smaller matrix of these stages has."""
        return min(len(self.labels), self._width(stages))

    def _width(self, stages: Sequence[str]) -> int:
        return sum(self._features[stage].shape[1] for stage in stages)

    def _precision(self, stages: Sequence[str], may_be_single: bool) -> torch.dtype:
        is_even = bool(self.weight.min() >= _LEAST_WEIGHT_IN_SINGLE)
        is_large = self.size(stages) >= _MIN_SIZE_FOR_SINGLE
        return torch.float32 if may_be_single and is_even and is_large else torch.float64

    def _from_images(self, stages: Sequence[str], dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        """Returns what maps coefficients of the weighted images to weights of the features."""
        return lambda each: torch.cat([self._rows[stage, dtype].T @ each.to(dtype) for stage in stages]).double()

    def _in_directions(self, stages: Sequence[str], pairs: Eigenpairs) -> Spectrum:
        """Returns the images in the directions of the eigenpairs of the covariance."""
        values, directions = pairs.values.double(), pairs.vectors.double()
        return Spectrum(
            **self._shared(stages, lambda each: directions @ each, pairs.least_alpha),
            eigenvalues=values,
            coordinates=torch.cat([x @ directions for x in self._centred(stages, self.scored)]),
            class_means=self._means_of(self._centred_sums(stages) @ directions),
        )

    def _shared(
        self, stages: Sequence[str], to_features: Callable[[Tensor], Tensor], least_alpha: float
    ) -> dict[str, Any]:
        """Returns the attributes of `Scatter`."""
        return {
            "stages": tuple(stages),
            "mean": torch.cat([self._mean(stage) for stage in stages]),
            "labels": self.labels[self.scored],
            "sample_weight": self.weight[self.scored],
            "class_weight": self.class_weight,
            "groups": None if self.groups is None else self.groups[self.scored],
            "to_features": to_features,
            "least_alpha": least_alpha,
        }

    def _means_of(self, class_sums: Tensor) -> Tensor:
        """Returns the means of classes with these sums, (num_classes, size); the sums themselves of rows of targets."""
        counts = torch.where(self.class_weight > 0, self.class_weight, 1.0)
        return class_sums if self.labels.ndim == 2 else class_sums / counts[:, None]

    def _centred_sums(self, stages: Sequence[str]) -> Tensor:
        mean = torch.cat([self._mean(stage) for stage in stages])
        return torch.cat([self._sums(stage) for stage in stages], dim=1) - self.class_weight[:, None] * mean

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

    def _gram(self, stages: Sequence[str], dtype: torch.dtype) -> Tensor:
        """Returns the products of weighted images, to which those of further stages are added the next time."""
        known, products = self._grams.get(dtype, ((), None))
        if not set(known) <= set(stages):
            known, products = (), None
        added = [self._weighted_rows(stage, dtype) for stage in stages if stage not in known]
        if added:
            rows = torch.cat(added, dim=1).numpy()
            # NumPy computes half of such a product, and on some processors in half of torch's time.
            found = torch.from_numpy(rows @ rows.T)
            products = found if products is None else found.add_(products)
        assert products is not None, "There are stages."
        self._grams[dtype] = stages, products
        return products

    def _weighted_rows(self, stage: str, dtype: torch.dtype) -> Tensor:
        """Returns the centred scaled features times the square root of each image's weight, and keeps them."""
        if (stage, dtype) not in self._rows:
            self._rows[stage, dtype] = torch.cat([x.to(dtype) for x in self._weighted([stage])])
        return self._rows[stage, dtype]

    def _covariance(self, stages: Sequence[str], dtype: torch.dtype) -> Tensor:
        return torch.cat([torch.cat([self._block(a, b, dtype) for b in stages], dim=1) for a in stages])

    def _block(self, one: str, other: str, dtype: torch.dtype) -> Tensor:
        if (other, one, dtype) in self._blocks:
            return self._blocks[other, one, dtype].T
        if (one, other, dtype) not in self._blocks:
            pairs = zip(self._weighted([one]), self._weighted([other]), strict=True)
            products = torch.zeros(self._width([one]), self._width([other]), dtype=dtype)
            for a, b in pairs:
                products += a.to(dtype).T @ b.to(dtype)
            self._blocks[one, other, dtype] = products
        return self._blocks[one, other, dtype]


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


def _least_alpha(matrix: Tensor) -> float:
    """Returns the regularisation that hides the rounding of a Cholesky factor in the matrix' precision."""
    return 0.0 if matrix.dtype == torch.float64 else _LEAST_OF_NORM * float(matrix.norm())
