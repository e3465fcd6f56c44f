"""What checks need of splits that a source has read: numbers, labels, and what was left out."""

from collections import defaultdict

import numpy as np

from regraft.data.class_counts import Counts
from regraft.data.findings import Finding, Item
from regraft.data.sources.base import Splits
from regraft.data.tables.faults import fix_of
from regraft.data.text.files import FAULTS
from regraft.tasks import task_of


def skipped_findings(splits: Splits) -> list[Finding]:
    """Returns what a source has left out as errors, one for each reason."""
    by_reason: dict[str, list[Item]] = defaultdict(list)
    for path, said in splits.skipped.items():
        reason, _, detail = said.partition(" (")
        by_reason[reason].append(Item((path,), detail.removesuffix(")")))
    return [Finding("unusable", "error", _unusable(reason), tuple(items)) for reason, items in by_reason.items()]


def _unusable(reason: str) -> str:
    of_files = next((fix for _, what, fix in FAULTS.values() if what == reason), None)
    what, fix = ("Rows", fix_of(reason)) if of_files is None else ("Files", of_files)
    found = reason if of_files is None else f"they {reason}"
    return f"{what} that can't be used: {found}. {fix}, or leave them out with data.on_error=skip."


def counts_of_splits(splits: Splits) -> Counts:
    """Returns the samples of each class, or with each label or target, by split."""
    task, names = task_of(splits.task), splits.class_names
    return {
        split: dict(zip(names, task.counts(samples.labels, len(names)).tolist(), strict=True))
        for split, samples in splits.present.items()
    }


def split_numbers(splits: Splits) -> np.ndarray:
    """Returns the number of each sample's split, (num_samples,), int64."""
    return np.repeat(np.arange(len(splits.present)), [len(each) for each in splits.present.values()])


def labels_of_splits(splits: Splits) -> tuple[list[str], np.ndarray]:
    """Returns names of labels, and the index of each sample's one in them, (num_samples,), int64.

    Of several labels or targets, each combination is one, as it is what a duplicate may contradict.
    """
    labels = np.concatenate([each.labels.numpy() for each in splits.present.values()])
    if task_of(splits.task).has_classes:
        return list(splits.class_names), labels
    found, numbers = np.unique(labels, axis=0, return_inverse=True)
    return [_described(row, splits) for row in found], numbers.reshape(-1)


def _described(row: np.ndarray, splits: Splits) -> str:
    if splits.task == "multilabel":
        return "|".join(name for name, value in zip(splits.class_names, row.tolist(), strict=True) if value) or "none"
    return ", ".join(f"{value:g}" for value in row.tolist())
