"""Splits of samples with several labels each, in which every label has its share."""

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
