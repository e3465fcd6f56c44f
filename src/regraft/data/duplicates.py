"""Findings about identical samples: leakage between splits, and contradictory labels."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from regraft.data.findings import Finding, Item, Severity, counted


@dataclass(frozen=True)
class CheckedSamples:
    """Samples to be compared.

    Attributes:
        names: such as paths.
        splits: (num_samples,), indices into `split_names`.
        labels: (num_samples,), indices into `class_names`.
        content_hashes: (num_samples, HASH_BYTES), uint8.
    """

    noun: ClassVar[str]
    """What a sample is called."""

    are_pictured: ClassVar[bool] = False
    """Whether the names are images that can be shown."""

    names: Sequence[str]
    split_names: Sequence[str]
    splits: np.ndarray
    class_names: Sequence[str]
    labels: np.ndarray
    content_hashes: np.ndarray

    def item(self, group: np.ndarray, detail: str) -> Item:
        """Returns some samples as an item of a finding."""
        return Item(tuple(self.names[index] for index in group.tolist()), detail)


def same(content_hashes: np.ndarray) -> list[np.ndarray]:
    """Returns groups of indices of identical samples; the hashes are (num_samples, num_bytes), uint8."""
    if not len(content_hashes):
        return []
    keys = np.ascontiguousarray(content_hashes).view(f"V{content_hashes.shape[1]}")[:, 0]
    _, group_of, counts = np.unique(keys, return_inverse=True, return_counts=True)
    order = np.argsort(group_of, kind="stable")
    groups = np.split(order, np.cumsum(counts)[:-1])
    return [groups[number] for number in np.flatnonzero(counts > 1)]


def duplicate_findings(samples: CheckedSamples) -> list[Finding]:
    """Returns the findings about identical samples."""
    return list(same_findings(samples, same(samples.content_hashes)))


def same_findings(samples: CheckedSamples, groups: Sequence[np.ndarray]) -> Iterator[Finding]:
    """Yields the findings about groups of identical samples, given by their indices."""
    noun = samples.noun
    conflicting = [group for group in groups if not has_one(samples.labels[group])]
    leaking = [group for group in groups if not has_one(samples.splits[group])]
    within = [group for group in groups if has_one(samples.splits[group]) and has_one(samples.labels[group])]
    classes, splits = (samples.class_names, samples.labels), (samples.split_names, samples.splits)
    if conflicting:
        sentence = (
            f"{counted(len(conflicting), f'{noun} is', f'{noun}s are')} in several classes, so all but one of "
            f"{'its' if len(conflicting) == 1 else 'their'} labels are wrong. Keep each in its right class."
        )
        yield group_finding("conflicting_labels", "error", sentence, samples, conflicting, *classes)
    if leaking:
        sentence = (
            f"{counted(len(leaking), f'{noun} is', f'{noun}s are')} in more than one split, so what is measured on "
            "one was learnt from the other. Remove them from train."
        )
        yield group_finding("duplicates_across_splits", "error", sentence, samples, leaking, *splits)
    if within:
        sentence = (
            f"{counted(len(within), f'{noun} is', f'{noun}s are')} there more than once in a split; where "
            "validation or test is carved from it, copies may land on both sides. Keep one of each."
        )
        yield group_finding("duplicates", "warning", sentence, samples, within, *splits)


def has_one(numbers: np.ndarray) -> bool:
    """Whether all numbers are equal."""
    return bool((numbers == numbers[:1]).all())


def group_finding(
    code: str,
    severity: Severity,
    sentence: str,
    samples: CheckedSamples,
    groups: Iterable[np.ndarray],
    names: Sequence[str],
    numbers: np.ndarray,
) -> Finding:
    """Returns the finding about groups of samples, given by their indices.

    Args:
        names: what may differ within a group, by the `numbers` of all samples.
    """
    items = []
    for group in groups:
        different = dict.fromkeys(names[number] for number in numbers[group].tolist())
        items.append(samples.item(group, " / ".join(different)))
    return Finding(code, severity, sentence, tuple(items), is_pictured=samples.are_pictured)
