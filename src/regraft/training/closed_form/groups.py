"""Scores of images that are left out together with all others of their group, such as the images of a patient.

As when a single image is left out, they follow from the head of all images: a group changes the matrices of a head by a
matrix of no higher rank than it has images (Woodbury, 1950).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from regraft.training.closed_form.scatter import Spectrum

_NUMBERS_AT_ONCE = 2**22
"""Of the groups of one size, 32 MB."""


def group_sizes(groups: Tensor) -> Tensor:
    """Returns the number of images in the group of each image, (num_images,), int64."""
    _, places, counts = groups.unique(return_inverse=True, return_counts=True)
    return counts[places]


def blocks(groups: Tensor, width: int) -> Iterator[Tensor]:
    """Yields the positions of the images of groups of one size, (num_groups, size), int64, a bounded number at once.

    Args:
        groups: (num_images,), int64.
        width: of what is gathered for each image.
    """
    sizes = group_sizes(groups)
    for size in sizes.unique().tolist():
        members = (sizes == size).nonzero()[:, 0]
        of_size = members[groups[members].argsort(stable=True)].view(-1, size)
        yield from of_size.split(max(1, _NUMBERS_AT_ONCE // (size * max(size, width))))


def ridge_errors(spectrum: Spectrum, alpha: float, errors: Tensor) -> Tensor:
    """Returns the errors of ridge regressions that were fitted without each image's group.

    Args:
        errors: (num_scored, num_outputs), of the ridge regression of all images.
    """
    assert spectrum.groups is not None, "there are groups"
    shrunk = 1 / (spectrum.eigenvalues + alpha)
    total, rank = spectrum.class_weight.sum(), len(shrunk)
    found = torch.empty_like(errors)
    for positions in blocks(spectrum.groups, rank):
        x, weight = spectrum.coordinates[positions], spectrum.sample_weight[positions][..., None]
        own, size = errors[positions], positions.shape[1]
        if size <= rank:
            products = (x * shrunk) @ x.mT + 1 / total
            left = torch.linalg.solve(torch.eye(size).double() - products * weight.mT, own)
        else:
            x = torch.cat([torch.ones_like(weight), x], dim=2)
            inner = torch.cat([total[None], 1 / shrunk]).diag() - x.mT @ (weight * x)
            left = own + x @ torch.linalg.solve(inner, x.mT @ (weight * own))
        found[positions] = left
    return found


def discriminant_distances(
    spectrum: Spectrum,
    alpha: float,
    in_total: Tensor,
    inner: Tensor,
    products: Tensor,
    between_means: Tensor,
    distances: Tensor,
) -> Tensor:
    """Returns the squared distances of images to the class means, all found without each image's group.

    The mean of a class all of whose images are in the group is kept. Products are in the metric of the scatter within
    classes.

    Args:
        in_total: (num_scored, num_classes), products of images and class means in the metric of the total scatter,
            times the root of the classes' weights.
        inner: (num_classes, num_classes), which leads from that metric to the other one.
        products: (num_scored, num_classes), of images and class means.
        between_means: (num_classes, num_classes), of the class means.
        distances: (num_scored, num_classes), with all images.
    """
    assert spectrum.groups is not None, "there are groups"
    shrunk = 1 / (spectrum.eigenvalues + alpha)
    counts, means, rank = spectrum.class_weight, spectrum.class_means, len(shrunk)
    found = torch.empty_like(distances)
    for positions in blocks(spectrum.groups, max(rank, len(counts))):
        x, weight = spectrum.coordinates[positions], spectrum.sample_weight[positions][..., None]
        own, size = spectrum.labels[positions], positions.shape[1]
        shares = torch.nn.functional.one_hot(own, len(counts)) * weight
        remaining = counts - shares.sum(1, keepdim=True)
        # Without its last image nothing of a class remains, so its mean is kept.
        moves = shares / torch.where(remaining > 1e-9 * counts, remaining, torch.inf)
        if size > rank:
            within = x - means[own]
            sums, moved = shares.mT @ within, means - moves.mT @ within
            scatter = (1 / shrunk).diag() - (means * counts[:, None]).mT @ means - within.mT @ (weight * within)
            root = torch.linalg.cholesky(scatter - (moves.mT @ within).mT @ sums)
            of_images, of_means = (torch.linalg.solve_triangular(root, each.mT, upper=False).mT for each in (x, moved))
            found[positions] = torch.cdist(of_images, of_means).square()
            continue
        of_total = in_total[positions]
        between = (x * shrunk) @ x.mT + of_total @ inner @ of_total.mT
        to_means = products[positions]
        to_own = to_means.gather(2, own[:, None, :].expand(-1, size, -1))
        # Differences to the class means, times images, times class means that have moved, and times each other.
        with_images = between - to_own.mT
        inside = with_images - to_own + between_means[own[:, :, None], own[:, None, :]]
        step = inside @ moves
        plain = to_means - between_means[own]
        with_means = plain - step
        moved = 2 * (with_images.mT @ moves - (moves * plain).sum(1, keepdim=True)) + (moves * step).sum(
            1, keepdim=True
        )
        removed = torch.diag_embed(weight[..., 0]) + shares @ moves.mT
        downdate = torch.linalg.solve(torch.eye(size).double() - removed @ inside, removed)
        images, centres = downdate @ with_images, downdate @ with_means
        squares = (with_images * images).sum(1)[:, :, None] + (with_means * centres).sum(1, keepdim=True)
        found[positions] = distances[positions] + moved + squares - 2 * with_images.mT @ centres
    return found
