"""What there is to say of images that are the same, or nearly: leakage between splits, and labels that contradict."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from regraft.data.images.validation import likeness
from regraft.data.images.validation.findings import Finding, Item, Severity, counted


@dataclass(frozen=True)
class Samples:
    """Images as they are compared.

    Attributes:
        names: what they are called, such as paths.
        split_names: of the splits.
        splits: (num_images,), places in `split_names`.
        class_names: of the classes.
        labels: (num_images,), places in `class_names`.
        digests: (num_images, num_bytes), uint8: of their content.
        thumbs: (num_images, side, side), uint8: luminance.
    """

    names: Sequence[str]
    split_names: Sequence[str]
    splits: np.ndarray
    class_names: Sequence[str]
    labels: np.ndarray
    digests: np.ndarray
    thumbs: np.ndarray


NearPairs = Callable[[np.ndarray, np.ndarray | None], np.ndarray]
"""See `likeness.near_pairs`."""


def likeness_findings(samples: Samples, near_pairs: NearPairs = likeness.near_pairs) -> list[Finding]:
    """Returns what is to be said of images that are the same, or look alike.

    Args:
        samples: the images.
        near_pairs: finds those that look alike.
    """
    groups = likeness.same(samples.digests)
    return [*_same_findings(samples, groups), *_near_findings(samples, groups, near_pairs)]


def _same_findings(samples: Samples, groups: Sequence[np.ndarray]) -> Iterator[Finding]:
    conflicting = [group for group in groups if not _has_one(samples.labels[group])]
    leaking = [group for group in groups if not _has_one(samples.splits[group])]
    within = [group for group in groups if _has_one(samples.splits[group]) and _has_one(samples.labels[group])]
    classes, splits = (samples.class_names, samples.labels), (samples.split_names, samples.splits)
    if conflicting:
        sentence = (
            f"{counted(len(conflicting), 'image stands', 'images stand')} in several classes, so all but one of its "
            "labels are wrong. Fix: keep each in its right class."
        )
        yield _pictured("conflicting_labels", "error", sentence, samples, conflicting, *classes)
    if leaking:
        sentence = (
            f"{counted(len(leaking), 'image stands', 'images stand')} in more than one split, so what is measured on "
            "one was learnt from the other. Fix: remove them from train."
        )
        yield _pictured("duplicates_across_splits", "error", sentence, samples, leaking, *splits)
    if within:
        sentence = (
            f"{counted(len(within), 'image is', 'images are')} there more than once in a split; where validation or "
            "test is carved from it, copies may land on both sides. Fix: keep one of each."
        )
        yield _pictured("duplicates", "warning", sentence, samples, within, *splits)


def _near_findings(samples: Samples, groups: Sequence[np.ndarray], near_pairs: NearPairs) -> Iterator[Finding]:
    is_single = _has_one(samples.splits)
    # Copies have been told already; one stands for all of a split.
    is_looked_at = np.ones(len(samples.splits), bool)
    for group in groups:
        _, first = np.unique(samples.splits[group], return_index=True)
        is_looked_at[np.delete(group, first)] = False
    places = np.flatnonzero(is_looked_at)
    pairs = places[near_pairs(samples.thumbs[places], None if is_single else samples.splits[places])]
    pairs = pairs[(samples.digests[pairs[:, 0]] != samples.digests[pairs[:, 1]]).any(1)]
    if not len(pairs):
        return
    limit = "at least " if len(pairs) >= likeness.MAX_PAIRS else ""
    where = (
        "; where validation or test is carved from them, they may land on both sides"
        if is_single
        else " and stand in two splits"
    )
    sentence = (
        f"{limit}{counted(len(pairs), 'pair')} of images {'is' if len(pairs) == 1 else 'are'} nearly the same"
        f"{where}. Fix: look at them, and keep one of each pair."
    )
    code = "near_duplicates" if is_single else "near_duplicates_across_splits"
    yield _pictured(code, "warning", sentence, samples, pairs, samples.class_names, samples.labels)


def _has_one(numbers: np.ndarray) -> bool:
    """Whether all numbers are the same one."""
    return bool((numbers == numbers[:1]).all())


def _pictured(
    code: str,
    severity: Severity,
    sentence: str,
    samples: Samples,
    groups: Iterable[np.ndarray],
    names: Sequence[str],
    numbers: np.ndarray,
) -> Finding:
    """Returns a finding whose items are groups of images, with the names of the classes or splits that they are of."""
    items = []
    for group in groups:
        different = dict.fromkeys(names[number] for number in numbers[group].tolist())
        items.append(Item(tuple(samples.names[place] for place in group.tolist()), " / ".join(different)))
    return Finding(code, severity, sentence, tuple(items), is_pictured=True)
