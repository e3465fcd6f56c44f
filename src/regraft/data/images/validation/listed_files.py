"""A check of images in files that a table names, instead of a folder's classes."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from regraft.core.console import ProgressBar
from regraft.core.pixel_format import PixelFormat
from regraft.data.checked import Check, finished_check
from regraft.data.checked_splits import counts_of_splits, labels_of_splits, skipped_findings, split_numbers
from regraft.data.class_counts import class_findings, class_warnings
from regraft.data.duplicates import duplicate_findings
from regraft.data.images.file_reading.facts import THUMB
from regraft.data.images.file_reading.read import Read, near_pairs_of, read_all
from regraft.data.images.samples import FileImages
from regraft.data.images.validation.duplicates import CheckedImages, likeness_findings
from regraft.data.images.validation.file_findings import OF_BACKGROUND, file_findings
from regraft.data.shards.member import Member
from regraft.data.shards.samples import ShardImages
from regraft.data.sources.base import Splits
from regraft.data.sources.checked_files import CheckedFiles
from regraft.tasks import task_of


def check_listed(place: str, splits: Splits, progress: ProgressBar, started: float, shown: PixelFormat) -> Check:
    """Returns the check of the files of a data set; what its source has skipped are errors.

    Args:
        place: the table.
        started: `time.perf_counter()` before the source was read.
    """
    task = task_of(splits.task)
    root, paths = files_of(splits)
    read = _read(splits, progress, has_range=shown.value_range is not None)
    samples = _samples(splits, paths, read.facts["content_hash"], read.facts["thumb"])
    counts = counts_of_splits(splits)
    findings = [
        *skipped_findings(splits),
        *file_findings(paths, read.facts, read.details, shown),
        *(class_findings(counts) if task.has_classes else []),
        *likeness_findings(samples, partial(near_pairs_of, root)),
    ]
    num_images = len(paths) + len(splits.skipped)
    check = finished_check(place, counts, findings, num_images, int(read.is_fresh.sum()), started)
    sizes = {split: len(samples) for split, samples in splits.present.items()}
    return replace(check, what=(task.noun, task.nouns), sizes=sizes)


def warnings_of_listed(splits: Splits, files: CheckedFiles, *, has_range: bool) -> list[str]:
    """Returns the sentence of each error or warning, but for those that depend on what isn't known here."""
    kept = np.array([path not in files.skipped for path in files.paths], bool)
    paths = [path for path in files.paths if path not in files.skipped]
    facts = files.read.facts[kept]
    _, used = files_of(splits)
    if used != paths:
        at = {path: number for number, path in enumerate(paths)}
        facts = facts[[at[path] for path in used]]
    shown = PixelFormat(value_range=(0, 1) if has_range else None)
    findings = [
        *file_findings(used, facts, {}, shown, has_items=False),
        *(class_warnings(counts_of_splits(splits)) if task_of(splits.task).has_classes else []),
        *duplicate_findings(_samples(splits, used, facts["content_hash"], np.zeros((0, THUMB, THUMB), np.uint8))),
    ]
    return [each.sentence for each in findings if each.severity != "note" and each.code not in OF_BACKGROUND]


def _read(splits: Splits, progress: ProgressBar, *, has_range: bool) -> Read:
    """Returns the facts of the files of all splits; of those in shards, that of the index."""
    shards = [each for each in splits.present.values() if isinstance(each, ShardImages)]
    if not shards:
        return read_all(*files_of(splits), {}, progress, has_range=has_range)
    parts = [each.facts() for each in shards]
    starts = np.cumsum([0, *map(len, shards)]).tolist()
    details = [
        (start + row, text) for start, (_, each) in zip(starts, parts, strict=False) for row, text in each.items()
    ]
    facts = np.concatenate([each for each, _ in parts])
    return Read(facts, dict(details), np.zeros(len(facts), bool))


def finder_of(splits: Splits) -> Callable[[str], Path | Member]:
    """Returns a function that gives the file of a path by `files_of`."""
    shards = [each for each in splits.present.values() if isinstance(each, ShardImages)]
    if not shards:
        return files_of(splits)[0].joinpath
    members = {each.name(index): (each, index) for each in shards for index in range(len(each))}
    return lambda path: members[path][0].path(members[path][1])


def files_of(splits: Splits) -> tuple[Path, list[str]]:
    """Returns the root and the paths of the files of all splits, relative to it."""
    images = [each for each in splits.present.values() if isinstance(each, FileImages)]
    return Path(images[0].root), [each.name(index) for each in images for index in range(len(each))]


def _samples(splits: Splits, paths: list[str], hashes: np.ndarray, thumbs: np.ndarray) -> CheckedImages:
    names, labels = labels_of_splits(splits)
    return CheckedImages(paths, list(splits.present), split_numbers(splits), names, labels, hashes, thumbs)
