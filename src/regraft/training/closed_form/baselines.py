"""Classifiers that aren't fitted, scored leave-one-out: the nearest class mean and the nearest neighbours."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

NUM_NEIGHBOURS = 20
_TEMPERATURE = 0.07
"""Of the neighbours' similarities, as in Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance
Discrimination" (CVPR 2018)."""
_BATCH = 1024


def nearest_mean(features: Tensor, labels: Tensor, num_classes: int, scored: Tensor) -> Tensor:
    """Returns the cosine similarity of images to the mean direction of each class without the image.

    Args:
        features: (num_images, num_features), finite.
        labels: (num_images,), int64, in [0, num_classes).
        num_classes: at least 2.
        scored: (num_scored,), int64, positions of the images that are scored.

    Returns:
        (num_scored, num_classes), float64; -1 for a class without other images.
    """
    sums = torch.zeros(num_classes, features.shape[1], dtype=torch.float64)
    for x, y in zip(features.split(_BATCH), labels.split(_BATCH), strict=True):
        sums.index_add_(0, y, _directions(x))
    counts = torch.bincount(labels, minlength=num_classes)
    scores = []
    for positions in scored.split(_BATCH):
        x, own = _directions(features[positions]), labels[positions]
        cosines = x @ functional.normalize(sums, dim=1).T
        cosines[:, counts == 0] = -1
        without = functional.normalize(sums[own] - x, dim=1)
        of_own = torch.where(counts[own] > 1, (x * without).sum(1), -1.0)
        scores.append(cosines.scatter(1, own[:, None], of_own[:, None]))
    return torch.cat(scores)


def nearest_neighbours(
    features: Tensor, labels: Tensor, num_classes: int, scored: Tensor, groups: Tensor | None = None
) -> Tensor:
    """Returns the log probability of each class by the most similar other images, weighted by their similarity.

    Each of up to `NUM_NEIGHBOURS` images counts by exp(cosine / 0.07). As if there were one neighbour more, of no class
    in particular, no class has the probability 0.

    Args:
        features, labels, num_classes, scored: see `nearest_mean`.
        groups: (num_images,), int64: of the same one no image is a neighbour; None if only an image itself isn't.

    Returns:
        (num_scored, num_classes), float64.
    """
    scores = []
    for indices, shares in _neighbours(features, scored, groups):
        votes = torch.zeros(len(indices), num_classes, dtype=torch.float64)
        votes.scatter_add_(1, labels[indices], indices.shape[1] * shares)
        scores.append(((votes + 1 / num_classes) / (indices.shape[1] + 1)).log())
    return torch.cat(scores)


def nearest_rows(features: Tensor, targets: Tensor, scored: Tensor, groups: Tensor | None = None) -> Tensor:
    """Returns the mean targets of the most similar other images, weighted as in `nearest_neighbours`.

    As if there were one neighbour more, with the mean of all targets.

    Args:
        features: (num_images, num_features), finite.
        targets: (num_images, num_targets), float.
        scored: (num_scored,), int64, positions of the images that are scored.
        groups: see `nearest_neighbours`.

    Returns:
        (num_scored, num_targets), float64.
    """
    exact = targets.double()
    found = []
    for indices, shares in _neighbours(features, scored, groups):
        means = (shares[:, :, None] * exact[indices]).sum(1)
        found.append((indices.shape[1] * means + exact.mean(0)) / (indices.shape[1] + 1))
    return torch.cat(found)


def _neighbours(features: Tensor, scored: Tensor, groups: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the neighbours of batches of images, (batch, num_neighbours), and how much each counts, of sum 1."""
    directions = functional.normalize(features.float(), dim=1)
    num_neighbours = min(NUM_NEIGHBOURS, len(features) - 1)
    for positions in scored.split(_BATCH):
        similarities = directions[positions] @ directions.T
        similarities[torch.arange(len(positions)), positions] = -torch.inf
        if groups is not None:
            similarities[groups[positions][:, None] == groups] = -torch.inf
        nearest = similarities.topk(num_neighbours, dim=1)
        yield nearest.indices, (nearest.values.double() / _TEMPERATURE).softmax(1)


def _directions(features: Tensor) -> Tensor:
    return functional.normalize(features.double(), dim=1)
