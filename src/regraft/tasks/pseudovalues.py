"""Pseudovalues of metrics: one for each image, of which the metric is the mean, and their scatter its standard error.

Of the infinitesimal jackknife (Jaeckel, 1972): the metric, plus the number of images times its derivative by the weight
of the image.
"""

import torch
from torch import Tensor


def of_average_precision(scores: Tensor, targets: Tensor) -> Tensor:
    """Returns the pseudovalues of the mean average precision over the labels that an image has, (num_images,), float64.

    NaN if no image has a label.

    Args:
        scores: (num_images, num_labels), finite; those above count as found first.
        targets: (num_images, num_labels), 0 or 1.
    """
    num_images = len(scores)
    order = scores.argsort(dim=0, descending=True, stable=True)
    ranked, has = scores.gather(0, order), targets.double().gather(0, order)
    places = torch.arange(num_images, device=scores.device)[:, None].expand_as(order)
    # Images of equal scores are found together, at the last of them.
    is_end = torch.ones_like(has, dtype=torch.bool)
    is_end[:-1] = ranked[:-1] != ranked[1:]
    ends = torch.where(is_end, places, num_images).flip(0).cummin(0).values.flip(0)
    precision = has.cumsum(0).gather(0, ends) / (ends + 1)
    total = has.sum(0)
    value = (has * precision).sum(0) / total
    # Each image changes the precision of those that are found with it or after it.
    is_start = torch.ones_like(is_end)
    is_start[1:] = is_end[:-1]
    starts = torch.where(is_start, places, 0).cummax(0).values
    later = (has / (ends + 1)).flip(0).cumsum(0).flip(0).gather(0, starts)
    weighted = (has * precision / (ends + 1)).flip(0).cumsum(0).flip(0).gather(0, starts)
    derivative = (has * (precision - value) + has * later - weighted) / total
    of_labels = torch.empty_like(has).scatter_(0, order, value + num_images * derivative)
    return of_labels[:, total > 0].mean(1)


def of_r2(values: Tensor, targets: Tensor) -> Tensor:
    """Returns the pseudovalues of the mean R² over the targets that aren't constant, (num_images,), float64.

    NaN if all are constant.

    Args:
        values: (num_images, num_targets), finite.
        targets: as `values`.
    """
    exact = targets.double()
    squares, centred = (values.double() - exact).square(), (exact - exact.mean(0)).square()
    variance = centred.mean(0)
    is_varied = variance > 1e-12 * exact.square().mean(0)
    ratio = squares.mean(0) / variance
    found = 1 - ratio - (squares - ratio * centred) / variance
    return found[:, is_varied].mean(1)
