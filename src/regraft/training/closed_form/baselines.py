"""Classifiers that aren't fitted, scored leave-one-out: the nearest class mean and the nearest neighbours."""

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


def nearest_neighbours(features: Tensor, labels: Tensor, num_classes: int, scored: Tensor) -> Tensor:
    """Returns the log probability of each class by the most similar other images, weighted by their similarity.

    Each of up to `NUM_NEIGHBOURS` images counts by exp(cosine / 0.07). As if there were one neighbour more, of no class
    in particular, no class has the probability 0.

    Args:
        features, labels, num_classes, scored: see `nearest_mean`.

    Returns:
        (num_scored, num_classes), float64.
    """
    directions = functional.normalize(features.float(), dim=1)
    num_neighbours = min(NUM_NEIGHBOURS, len(labels) - 1)
    scores = []
    for positions in scored.split(_BATCH):
        similarities = directions[positions] @ directions.T
        similarities[torch.arange(len(positions)), positions] = -torch.inf
        nearest = similarities.topk(num_neighbours, dim=1)
        shares = (nearest.values.double() / _TEMPERATURE).softmax(1)
        votes = torch.zeros(len(positions), num_classes, dtype=torch.float64)
        votes.scatter_add_(1, labels[nearest.indices], num_neighbours * shares)
        scores.append(((votes + 1 / num_classes) / (num_neighbours + 1)).log())
    return torch.cat(scores)


def nearest_rows(features: Tensor, targets: Tensor, scored: Tensor) -> Tensor:
    """Returns the mean targets of the most similar other images, weighted as in `nearest_neighbours`.

    As if there were one neighbour more, with the mean of all targets.

    Args:
        features: (num_images, num_features), finite.
        targets: (num_images, num_targets), float.
        scored: (num_scored,), int64, positions of the images that are scored.

    Returns:
        (num_scored, num_targets), float64.
    """
    directions, exact = functional.normalize(features.float(), dim=1), targets.double()
    num_neighbours = min(NUM_NEIGHBOURS, len(targets) - 1)
    found = []
    for positions in scored.split(_BATCH):
        similarities = directions[positions] @ directions.T
        similarities[torch.arange(len(positions)), positions] = -torch.inf
        nearest = similarities.topk(num_neighbours, dim=1)
        shares = (nearest.values.double() / _TEMPERATURE).softmax(1)
        means = (shares[:, :, None] * exact[nearest.indices]).sum(1)
        found.append((num_neighbours * means + exact.mean(0)) / (num_neighbours + 1))
    return torch.cat(found)


def _directions(features: Tensor) -> Tensor:
    return functional.normalize(features.double(), dim=1)
