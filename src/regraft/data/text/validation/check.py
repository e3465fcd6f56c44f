"""A complete check of a data set of texts."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from regraft.data.checked import Check, finished_check
from regraft.data.checked_splits import counts_of_splits, labels_of_splits, skipped_findings, split_numbers
from regraft.data.class_counts import Counts, class_findings
from regraft.data.duplicates import duplicate_findings
from regraft.data.findings import Finding
from regraft.data.sources.base import Splits
from regraft.data.text.samples import Texts
from regraft.data.text.validation.findings import (
    CheckedTexts,
    lacking_findings,
    length_findings,
    likeness_findings,
    script_findings,
    trace_findings,
)
from regraft.tasks import task_of


def check_texts(place: str, splits: Splits, started: float) -> Check:
    """Returns the check of the texts of a data set; what its source has skipped are errors.

    Args:
        place: the table or folder.
        started: `time.perf_counter()` before the source was read.
    """
    task, samples, counts = task_of(splits.task), checked_texts(splits), counts_of_splits(splits)
    findings = [
        *skipped_findings(splits),
        *(_class_findings(counts) if task.has_classes else []),
        *duplicate_findings(samples),
        *likeness_findings(samples),
        *length_findings(samples),
        *script_findings(samples),
        *trace_findings(samples),
    ]
    num_texts = len(samples.texts) + len(splits.skipped)
    check = finished_check(place, counts, findings, num_texts, num_texts, started)
    sizes = {split: len(each) for split, each in splits.present.items()}
    return replace(check, what=(task.noun, task.nouns), sizes=sizes, noun="text")


def warnings_of_texts(splits: Splits) -> list[str]:
    """Returns the sentence of each error or warning that takes no time: numbers of classes and exact copies."""
    found = _class_findings(counts_of_splits(splits)) if task_of(splits.task).has_classes else []
    found = [each for each in found if each.severity != "error"]  # which ends a training in a sentence of its own
    found += duplicate_findings(checked_texts(splits, with_texts=False))
    return [each.sentence for each in found if each.severity != "note"]


def _class_findings(counts: Counts) -> list[Finding]:
    return [*class_findings(counts, "text"), *lacking_findings(counts)]


def checked_texts(splits: Splits, *, with_texts: bool = True) -> CheckedTexts:
    """Returns the texts of all splits, to be compared; without the texts themselves, only by their hashes."""
    parts = {split: each for split, each in splits.present.items() if isinstance(each, Texts)}
    assert len(parts) == len(splits.present)
    names = [f"{split} {number + 1:,}" for split, each in parts.items() for number in range(len(each))]
    texts: Sequence[str] = [text for each in parts.values() for text in each.texts()] if with_texts else names
    hashes = np.concatenate([each.content_hashes() for each in parts.values()])
    labels = labels_of_splits(splits)
    return CheckedTexts(names, list(parts), split_numbers(splits), *labels, hashes, texts)
