"""Splits and folds of samples with several labels each, in which every label has its share."""

import torch
from torch import Tensor


def iterative_split(rows: Tensor, fraction: float, seed: int, *, covers_labels: bool = True) -> tuple[Tensor, Tensor]:
    """Returns (kept, carved): positions in `rows`, ascending, disjoint, together all of them.

    Iterative stratification (Sechidis et al., "On the stratification of multi-label data", ECML PKDD 2011): of all
    labels, the one that fewest of the samples left have is dealt first; samples without labels come last. At least one
    sample of each label is kept.

    Args:
        rows: (num_samples, num_labels), 0 or 1.
        fraction: in (0, 1).
        covers_labels: whether at least 1 sample of each label with 2 or more is carved.
    """
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    has = rows[order].bool()
    totals = has.sum(0)
    wanted = (fraction * totals).round().long()
    if covers_labels:
        wanted = wanted.clamp_min(1)
    wanted = wanted.minimum(totals - 1).clamp_min(0)
    is_left = torch.ones(len(rows), dtype=torch.bool)
    is_carved = torch.zeros(len(rows), dtype=torch.bool)
    unused = totals > 0
    while unused.any():
        counts = (has & is_left[:, None]).sum(0)
        label = int(counts.where(unused, len(rows) + 1).argmin())
        unused[label] = False
        members = (has[:, label] & is_left).nonzero()[:, 0]
        missing = int(wanted[label] - (has[:, label] & is_carved).sum())
        is_carved[members[: max(0, missing)]] = True
        is_left[members] = False
    members = is_left.nonzero()[:, 0]
    missing = max(1, round(fraction * len(rows))) - int(is_carved.sum())
    is_carved[members[: min(max(0, missing), len(members) - (len(members) == len(rows)))]] = True
    carved = order[is_carved].sort().values
    kept = order[~is_carved].sort().values
    return kept, carved


def iterative_folds(rows: Tensor, num_folds: int, seed: int) -> Tensor:
    """Returns the fold of each sample, (num_samples,), int64, by iterative stratification, see `iterative_split`.

    The samples of each label go to the folds that have fewest of it, and of these to the smallest.

    Args:
        rows: (num_samples, num_labels), 0 or 1.
    """
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    has = torch.cat([rows[order].bool(), torch.ones(len(rows), 1, dtype=torch.bool)], dim=1)  # the last: any sample
    folds = torch.full((len(rows),), -1)
    unused = has.any(0)
    while unused.any():
        counts = (has & (folds < 0)[:, None]).sum(0)
        label = int(counts[:-1].where(unused[:-1], len(rows) + 1).argmin()) if unused[:-1].any() else -1
        unused[label] = False
        members = (has[:, label] & (folds < 0)).nonzero()[:, 0]
        is_dealt = folds >= 0
        sizes = folds[is_dealt].bincount(minlength=num_folds)
        filled = folds[is_dealt & has[:, label]].bincount(minlength=num_folds)
        folds[members] = _emptiest(filled, sizes, len(members))
    found = torch.empty_like(folds)
    found[order] = folds
    return found


def _emptiest(filled: Tensor, sizes: Tensor, num: int) -> Tensor:
    """Returns the folds, (num,), that a number of samples of a label go to, each to that with the fewest so far."""
    least = int(filled.min())
    depth = int(filled.max()) - least + -(-num // len(filled))
    levels = torch.arange(least, least + depth).expand(len(filled), depth)
    fold, step = (levels >= filled[:, None]).nonzero(as_tuple=True)
    ranks = torch.empty_like(sizes)
    ranks[sizes.argsort(stable=True)] = torch.arange(len(sizes))
    return fold[(step * len(sizes) + ranks[fold]).argsort(stable=True)[:num]]
