"""Stratified splits and subsets of samples: pure functions of labels and a seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.errors import ConfigError, require
from regraft.core.seeding import derive_seed
from regraft.data.folds import fold_of, grouped_split
from regraft.data.iterative import iterative_folds, iterative_split
from regraft.data.sources.base import Columns, Samples, Splits
from regraft.tasks import task_of

_MOST_PARTS, _LEAST_PART = 100, 10
"""Of the order of samples with several labels: at most so many parts, with at least so many samples each."""


@dataclass(frozen=True, eq=False)
class Part:
    """The samples of one split: their indices in the samples of the source, (num_samples,), int64, ascending."""

    samples: Samples
    indices: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def labels(self) -> Tensor:
        """What the task predicts of each sample, see `Samples`."""
        return self.samples.labels[self.indices]

    @property
    def columns(self) -> Columns:
        """Weights, groups and slices of the samples."""
        return self.samples.columns[self.indices]


def carve_splits(
    splits: Splits,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    held_out: tuple[int, int] | None = None,
) -> dict[str, Part]:
    """Returns `train`, and `val` and `test` unless they are empty; carves from train what the source doesn't define.

    Test is carved first, so that it depends on the data and `split_seed` alone. Official splits are left untouched, and
    all samples of a group stay together.

    Args:
        val_fraction: share of the training samples that are left after test was carved, in [0, 1).
        test_fraction: share of the source's training samples, in [0, 1); unused if the source has a test split.
        held_out: number of folds of the training samples, and the one that takes the place of the test split.
    """
    train = Part(splits.train, torch.arange(len(splits.train)))
    task = task_of(splits.task)
    parts: dict[str, Part] = {}
    if held_out is not None:
        folds, fold = held_out
        strata, groups = task.strata(train.labels), train.columns.groups
        is_in_fold = fold_of(strata, groups, folds, fold, derive_seed(split_seed, "folds"))
        parts["test"] = Part(splits.train, is_in_fold.nonzero()[:, 0])
        train = Part(splits.train, (~is_in_fold).nonzero()[:, 0])
    for name, official, fraction in (("test", splits.test, test_fraction), ("val", splits.val, val_fraction)):
        if name in parts:
            continue
        if official is not None:
            parts[name] = Part(official, torch.arange(len(official)))
        elif fraction > 0:
            seed, key = derive_seed(split_seed, name), f"data.{name}_fraction"
            strata, groups = task.strata(train.labels), train.columns.groups
            if groups is None:
                kept, carved = stratified_split(strata, fraction, seed, key, covers_classes=name == "test")
            else:
                kept, carved = grouped_split(strata, groups, fraction, seed, key)
            parts[name] = Part(splits.train, train.indices[carved])
            train = Part(splits.train, train.indices[kept])
    return {"train": train, **{name: parts[name] for name in ("val", "test") if name in parts}}


def train_with_val(train: Part, val: Part) -> Part:
    """Returns the training samples, followed by those of an official validation split."""
    return Part(train.samples.joined_with(val.samples), torch.cat([train.indices, val.indices + len(train.samples)]))


def subset_of_train(
    train: Part,
    class_names: Sequence[str],
    fraction: float,
    shots: int | None,
    subset_seed: int,
    strata: Tensor | None = None,
) -> Part:
    """Returns a subset of the training samples; with the same seed a smaller subset is part of a larger one.

    Args:
        fraction: share of each class, in (0, 1].
        shots: samples of each class, or with each label at least; None for no limit.
        strata: of samples that don't have one class each, see `Task.strata`; None for the classes.
    """
    if shots is None and fraction == 1.0:
        return train
    if strata is not None and shots is not None and strata.ndim == 2:
        return Part(train.samples, train.indices[_shots_of_labels(strata, class_names, shots, subset_seed)])
    if strata is not None:
        require(shots is None, "data.shots", shots, "null, as numbers have no classes", "Use data.fraction.")
        order = stratified_order(strata, subset_seed)
        return Part(train.samples, train.indices[order[: max(1, round(fraction * len(order)))].sort().values])
    counts = torch.bincount(train.labels, minlength=len(class_names))
    if shots is not None:
        _require_shots(counts, "class", class_names, shots)
    sizes = {
        label: shots if shots is not None else max(1, round(fraction * size))
        for label, size in enumerate(counts.tolist())
    }
    chosen = _first_of_each_class(train.labels, sizes, derive_seed(subset_seed, "subset"))
    return Part(train.samples, train.indices[chosen])


def _require_shots(counts: Tensor, noun: str, names: Sequence[str], shots: int) -> None:
    if int(counts.min()) < shots:
        rarest = int(counts.argmin())
        raise ConfigError(
            "data.shots",
            f"got {shots}, but {noun} {names[rarest]!r} has {int(counts[rarest])} training samples "
            f"beside those of validation and test. Use data.shots={int(counts[rarest])} or less, or smaller splits.",
        )


def _shots_of_labels(rows: Tensor, names: Sequence[str], shots: int, subset_seed: int) -> Tensor:
    """Returns positions, ascending, of so few samples that each label is on `shots` of them, chosen greedily.

    Of all labels with fewer than 1, 2, ... `shots` chosen samples, the rarest one gets its next sample in a seeded
    order; a sample counts for each of its labels. Some labels are therefore on more samples.
    """
    counts = rows.sum(0)
    _require_shots(counts, "label", names, shots)
    generator = torch.Generator().manual_seed(derive_seed(subset_seed, "subset"))
    order = torch.randperm(len(rows), generator=generator)
    members = [iter(order[rows[order, label] > 0].tolist()) for label in range(rows.shape[1])]
    chosen = torch.zeros(len(rows), dtype=torch.bool)
    num_chosen = torch.zeros_like(counts)
    for wanted in range(1, shots + 1):
        for label in counts.argsort(stable=True).tolist():
            if num_chosen[label] < wanted:
                sample = next(each for each in members[label] if not chosen[each])
                chosen[sample] = True
                num_chosen += rows[sample]
    return chosen.nonzero()[:, 0]


def stratified_split(
    labels: Tensor, fraction: float, seed: int, key: str, *, covers_classes: bool = True
) -> tuple[Tensor, Tensor]:
    """Returns (kept, carved): positions in `labels`, ascending, disjoint, together all of them.

    Of each class about `fraction` is carved, and at least 1 sample is kept.

    Args:
        labels: (num_samples,), int64; or rows of 0 and 1, (num_samples, num_labels), see `iterative_split`.
        fraction: in (0, 1).
        key: config key of `fraction`, for the error.
        covers_classes: whether `fraction` of each class is rounded, but at least 1 sample of each with 2 or more,
            however many that makes together; else `fraction` of all is carved, but at least 1 sample.
    """
    if labels.ndim == 2:
        return iterative_split(labels, fraction, seed, covers_labels=covers_classes)
    present, counts = labels.unique(return_counts=True)
    sizes = dict(zip(present.tolist(), counts.tolist(), strict=True))
    if covers_classes:
        carved_sizes = {label: min(max(1, round(fraction * size)), size - 1) for label, size in sizes.items()}
    else:
        carved_sizes = _shares(sizes, fraction, seed)
    carved = _first_of_each_class(labels, carved_sizes, seed)
    if len(carved) == 0:
        raise ConfigError(
            key,
            f"got {fraction}, but no class has 2 or more samples, so none can be set aside. Add some, or use {key}=0.",
        )
    is_kept = torch.ones(len(labels), dtype=torch.bool)
    is_kept[carved] = False
    return is_kept.nonzero()[:, 0], carved


def _shares(sizes: Mapping[int, int], fraction: float, seed: int) -> dict[int, int]:
    """Returns how many of each class make `fraction` of all: rounded down, and one more where most is left of it.

    Where as much is left, classes are drawn by the seed.
    """
    shares = {label: min(_floor(fraction * size), size - 1) for label, size in sizes.items()}
    num_missing = max(1, _floor(fraction * sum(sizes.values()))) - sum(shares.values())
    able = [label for label, size in sizes.items() if shares[label] < size - 1]
    order = torch.randperm(len(able), generator=torch.Generator().manual_seed(derive_seed(seed, "shares"))).tolist()
    drawn = sorted((able[index] for index in order), key=lambda label: shares[label] - fraction * sizes[label])
    return shares | {label: shares[label] + 1 for label in drawn[:num_missing]}


def _floor(value: float) -> int:
    return math.floor(value + 1e-9)  # 0.29 * 100 is 28.999...


def stratified_order(labels: Tensor, subset_seed: int) -> Tensor:
    """Returns all positions in an order whose starts are about the subsets of `data.fraction`, (num_samples,), int64.

    Args:
        labels: (num_samples,), int64; or rows of 0 and 1, whose order is made of stratified parts.
    """
    if labels.ndim == 2:
        seed = derive_seed(subset_seed, "subset")
        num_parts = max(1, min(_MOST_PARTS, len(labels) // _LEAST_PART))
        shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        # Rare labels are dealt to the first parts, which are therefore spread over the order.
        places = torch.quasirandom.SobolEngine(1).draw(num_parts)[:, 0].argsort().argsort()
        return shuffled[places[iterative_folds(labels, num_parts, seed)[shuffled]].argsort(stable=True)]
    ranks = _class_ranks(labels, derive_seed(subset_seed, "subset"))
    shares = (ranks + 0.5) / torch.bincount(labels)[labels]
    return torch.where(ranks == 0, 0.0, shares).argsort(stable=True)


def _first_of_each_class(labels: Tensor, sizes: Mapping[int, int], seed: int) -> Tensor:
    """Returns positions, ascending: of each class the first `sizes[label]` of its seeded permutation."""
    limits = torch.tensor([sizes.get(label, 0) for label in range(int(labels.max()) + 1)])
    return (_class_ranks(labels, seed) < limits[labels]).nonzero()[:, 0]


def _class_ranks(labels: Tensor, seed: int) -> Tensor:
    """Returns each sample's place in the seeded permutation of its class, (num_samples,), int64."""
    present, counts = labels.unique(return_counts=True)
    ranks = torch.empty_like(labels)
    for label, members in zip(present.tolist(), labels.argsort(stable=True).split(counts.tolist()), strict=True):
        generator = torch.Generator().manual_seed(derive_seed(seed, label))
        ranks[members[torch.randperm(len(members), generator=generator)]] = torch.arange(len(members))
    return ranks
