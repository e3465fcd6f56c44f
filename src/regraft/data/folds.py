"""Folds and splits that are stratified and keep groups together, functions of labels and a seed."""

import logging
import warnings

import numpy as np
import torch
from torch import Tensor

from regraft.core.errors import ConfigError, require
from regraft.data.findings import readable
from regraft.data.iterative import iterative_folds

_log = logging.getLogger(__name__)

_MOST_PARTS = 20
_MANY_GROUPS = 5_000
"""Above, groups are drawn at random: stratifying them one by one would take minutes, and chance does it as well."""


def require_folds(folds: int | None, fold: int | None) -> None:
    """Raises ConfigError unless both are given, or neither, and are numbers in their ranges."""
    if folds is None:
        require(fold is None, "data.fold", fold, "null, unless data.folds is set", fix="Add data.folds=5, for example.")
        return
    require(type(folds) is int and folds >= 2, "data.folds", folds, "2, 3, 4, ..., null")
    fix = f"All in one sweep: -m 'data.fold=range(0,{folds})'."
    require(type(fold) is int and 0 <= fold < folds, "data.fold", fold, f"0 to {folds - 1}", fix=fix)


def fold_numbers(strata: Tensor, groups: np.ndarray | None, folds: int, seed: int) -> np.ndarray:
    """Returns the fold of each sample, (num_samples,), int64: stratified, and the same for all of a group.

    Args:
        strata: class indices, (num_samples,); or rows of 0 and 1.
        groups: (num_samples,), texts, or None.

    Raises:
        ConfigError: there are fewer samples, of every class if there are classes, or fewer groups, than folds.
    """
    if groups is None and strata.ndim > 1:
        if len(strata) < folds:
            reason, allowed = f"there are {len(strata)} samples", f"at most {len(strata)}"
            raise ConfigError("data.folds", reason, got=folds, allowed=allowed)
        return iterative_folds(strata, folds, seed).numpy()
    if groups is not None and (num := len(np.unique(groups))) < folds:
        raise ConfigError("data.folds", f"there are {num} groups", got=folds, allowed=f"at most {num}")
    if strata.ndim > 1:
        return _parts_of_labels(strata.numpy(), groups, folds, seed)
    classes = strata.numpy()
    most = int(np.bincount(classes).max())
    if most < folds:
        raise ConfigError("data.folds", f"no class has more than {most} samples", got=folds, allowed=f"at most {most}")
    return _parts(classes, groups, folds, seed)


def fold_of(strata: Tensor, groups: np.ndarray | None, folds: int, fold: int, seed: int) -> Tensor:
    """Returns which samples are in a fold, (num_samples,), bool; see `fold_numbers`. An uneven share is warned of."""
    is_in_fold = fold_numbers(strata, groups, folds, seed) == fold
    if groups is not None:
        _warn_if_uneven(f"Fold {fold} of {folds}", float(is_in_fold.mean()), 1 / folds, groups)
    return torch.from_numpy(is_in_fold)


def grouped_split(strata: Tensor, groups: np.ndarray, fraction: float, seed: int, key: str) -> tuple[Tensor, Tensor]:
    """Returns (kept, carved): positions, ascending, disjoint, together all of them, with no group in both.

    Groups are dealt into up to 20 stratified parts, of which as many are carved as come closest to the fraction, those
    that are too large by themselves last. A share that is far from it is warned of.

    Args:
        fraction: in (0, 1).
        key: config key of `fraction`, for the error.
    """
    num_groups = len(np.unique(groups))
    if num_groups < 2:
        reason = f"all samples belong to the group {groups[0]}, so none can be set aside"
        raise ConfigError(key, reason, got=fraction, fix=f"Use {key}=0, or other groups.")
    if strata.ndim > 1:
        parts = _parts_of_labels(strata.numpy(), groups, min(_MOST_PARTS, num_groups), seed)
    else:
        classes = strata.numpy()
        most = int(np.bincount(classes).max())
        if most < 2:
            classes, most = np.zeros_like(classes), len(classes)
        parts = _parts(classes, groups, min(_MOST_PARTS, num_groups, most), seed)
    used, sizes = np.unique(parts, return_counts=True)
    is_large = sizes > 1.5 * len(parts) * max(fraction, 1 / len(used))
    order = np.lexsort((used, np.where(is_large, sizes, 0)))
    totals = np.cumsum(sizes[order])
    num = int(np.abs(totals[:-1] - fraction * len(parts)).argmin()) + 1  # at least one part is kept
    is_carved = torch.from_numpy(np.isin(parts, used[order[:num]]))
    _warn_if_uneven(f"{key}={fraction:g}: what is set aside", float(is_carved.double().mean()), fraction, groups)
    return (~is_carved).nonzero()[:, 0], is_carved.nonzero()[:, 0]


def _warn_if_uneven(what: str, share: float, wanted: float, groups: np.ndarray) -> None:
    """Warns of a share of the samples that is far from the wanted one, because groups are kept together."""
    if wanted / 2 <= share <= 2 * wanted:
        return
    names, sizes = np.unique(groups, return_counts=True)
    largest = f"the largest one, {readable(str(names[sizes.argmax()]))}, has {100 * sizes.max() / len(groups):.0f} %"
    _log.warning("%s has %.0f %% of the samples, because groups are kept together (%s).", what, 100 * share, largest)


def _parts(classes: np.ndarray, groups: np.ndarray | None, num_parts: int, seed: int) -> np.ndarray:
    """Returns the part of each sample, (num_samples,), int64; see `fold_numbers`."""
    if groups is not None and len(np.unique(groups)) > _MANY_GROUPS:
        return _random_parts(groups, num_parts, seed)
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    splitter = (StratifiedKFold if groups is None else StratifiedGroupKFold)(
        num_parts, shuffle=True, random_state=seed % 2**32
    )
    numbers = np.empty(len(classes), np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        for number, (_, held_out) in enumerate(splitter.split(classes, classes, groups)):
            numbers[held_out] = number
    return numbers


def _parts_of_labels(rows: np.ndarray, groups: np.ndarray | None, num_parts: int, seed: int) -> np.ndarray:
    """Returns the part of each sample, (num_samples,), int64, the same for all of a group; each label is spread evenly.

    Greedy, as scikit-learn's `StratifiedGroupKFold` is for classes: groups in the order of how unevenly they have the
    labels, each to the part where the shares of the labels, and of the samples, then differ least.

    Args:
        rows: (num_samples, num_labels), 0 or 1.
    """
    assert groups is not None, "without groups there is iterative stratification"
    names, places = np.unique(groups, return_inverse=True)
    if len(names) > _MANY_GROUPS:
        return _random_parts(groups, num_parts, seed)
    counts = np.zeros((len(names), rows.shape[1] + 1))
    np.add.at(counts, places, np.concatenate([rows, np.ones((len(rows), 1))], axis=1))
    shares = counts / counts.sum(0).clip(1)
    shuffled = np.random.default_rng(seed % 2**32).permutation(len(names))
    order = shuffled[np.argsort(-shares[shuffled].std(1), kind="stable")]
    of_parts, parts = np.zeros((num_parts, shares.shape[1])), np.empty(len(names), np.int64)
    for group in order:
        # The variance over the parts changes by that of the part which gets the group.
        gains = ((of_parts + shares[group]) ** 2 - of_parts**2).sum(1)
        part = int(np.lexsort((of_parts[:, -1], gains))[0])
        of_parts[part] += shares[group]
        parts[group] = part
    return parts[places]


def _random_parts(groups: np.ndarray, num_parts: int, seed: int) -> np.ndarray:
    """Returns a part for each sample: groups in random order, cut into parts of about as many samples."""
    names, places, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).numpy()
    ends = np.cumsum(sizes[order])
    parts = np.empty(len(names), np.int64)
    parts[order] = np.minimum((ends - sizes[order] / 2) * num_parts / ends[-1], num_parts - 1).astype(np.int64)
    return parts[places]
