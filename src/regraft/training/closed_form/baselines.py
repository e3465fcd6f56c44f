"""Classifiers without training, scored leave-one-out: the nearest class mean and the nearest neighbours."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

_BATCH = 1024


def nearest_mean(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the nearest class mean as a linear head, and its leave-one-out scores.

    Scores are minus half the squared distance to the mean of each class without the image, up to a constant of each
    image; -inf for a class without other images.

    Args:
        features: (num_images, num_features), finite.
        labels: (num_images,), int64, in [0, num_classes).
        num_classes: at least 2.

    Returns:
        Weight (num_classes, num_features), bias (num_classes,), -inf for a class without images, and leave-one-out
        scores (num_images, num_classes); all float64.
    """
    counts = torch.bincount(labels, minlength=num_classes).double()
    means = torch.zeros(num_classes, features.shape[1], dtype=torch.float64)
    for x, y in _batches(features, labels):
        means.index_add_(0, y, x.double())
    means /= counts.clamp_min(1)[:, None]
    bias = torch.where(counts > 0, -0.5 * means.square().sum(1), -torch.inf)
    scores = torch.cat([_left_out(x.double(), y, means, bias, counts) for x, y in _batches(features, labels)])
    return means, bias, scores


def _batches(features: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(features.split(_BATCH), labels.split(_BATCH), strict=True)


def _left_out(x: Tensor, labels: Tensor, means: Tensor, bias: Tensor, counts: Tensor) -> Tensor:
    scores = x @ means.T + bias
    count = counts[labels]
    # Without the image, its class's mean lies count / (count - 1) times as far from it.
    distance = (x - means[labels]).square().sum(1) * (count / (count - 1)).square()
    own = torch.where(count > 1, 0.5 * (x.square().sum(1) - distance), -torch.inf)
    return scores.scatter(1, labels[:, None], own[:, None])


def nearest_neighbours(features: Tensor, labels: Tensor, num_classes: int, num_neighbours: int) -> Tensor:
    """Returns how many of each image's nearest other images are of each class, by cosine similarity.

    Args:
        features: (num_images, num_features), finite.
        labels: (num_images,), int64, in [0, num_classes).
        num_classes: at least 2.
        num_neighbours: at least 1; at most all other images.

    Returns:
        (num_images, num_classes), float64, leave-one-out; the sum of a row is the number of neighbours.
    """
    directions = functional.normalize(features.float(), dim=1)
    num_neighbours = min(num_neighbours, len(labels) - 1)
    votes = []
    for start, x in zip(range(0, len(labels), _BATCH), directions.split(_BATCH), strict=True):
        similarities = x @ directions.T
        similarities[torch.arange(len(x)), torch.arange(start, start + len(x))] = -torch.inf
        nearest = labels[similarities.topk(num_neighbours, dim=1).indices]
        votes.append(functional.one_hot(nearest, num_classes).sum(1).double())
    return torch.cat(votes)
