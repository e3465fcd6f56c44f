"""A complete check of a data set: of a folder, or of images in memory."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from regraft.core.console import ProgressBar
from regraft.core.pixel_format import PixelFormat
from regraft.data.checked import Check, finished_check
from regraft.data.class_counts import class_findings, class_warnings
from regraft.data.duplicates import duplicate_findings
from regraft.data.images.file_reading.read import Read, near_pairs_of, read_all
from regraft.data.images.validation.class_findings import tree_findings
from regraft.data.images.validation.duplicates import CheckedImages, likeness_findings
from regraft.data.images.validation.file_findings import OF_BACKGROUND, file_findings
from regraft.data.sources.tree import Tree


def check_tree(tree: Tree, progress: ProgressBar, started: float, pixel_format: PixelFormat) -> Check:
    """Returns the check of a scanned folder; `started` is `time.perf_counter()` before the scan."""
    paths = [path for split in tree.classes for path in tree.paths(split)]
    read = read_all(tree.root, paths, tree.closed, progress, has_range=pixel_format.value_range is not None)
    samples = _samples(tree, paths, read)
    counts = counts_of(samples)
    findings = [
        *tree_findings(tree),
        *file_findings(paths, read.facts, read.details, pixel_format),
        *class_findings(counts),
        *likeness_findings(samples, partial(near_pairs_of, tree.root)),
    ]
    num_read = int(read.is_fresh.sum()) + len(tree.closed)
    return finished_check(str(tree.root), counts, findings, len(paths), num_read, started)


def warnings_of(tree: Tree, paths: Sequence[str], read: Read, *, has_range: bool) -> list[str]:
    """Returns the sentence of each error or warning of a check, but for those that depend on what isn't known here.

    Images that only look alike aren't compared, and the background of transparent ones is the model's.

    Args:
        paths: of the tree's images.
        read: those images.
        has_range: whether their range of values is given.
    """
    samples = _samples(tree, paths, read, with_thumbs=False)
    findings = [
        *tree_findings(tree),
        *file_findings(paths, read.facts, {}, PixelFormat(value_range=(0, 1) if has_range else None), has_items=False),
        *class_warnings(counts_of(samples)),
        *duplicate_findings(samples),
    ]
    return [each.sentence for each in findings if each.severity != "note" and each.code not in OF_BACKGROUND]


def check_samples(name: str, samples: CheckedImages, started: float) -> Check:
    """Returns the check of images in memory."""
    counts, num_images = counts_of(samples), len(samples.names)
    findings = [*class_findings(counts), *likeness_findings(samples)]
    return finished_check(name, counts, findings, num_images, num_images, started)


def counts_of(samples: CheckedImages) -> dict[str, dict[str, int]]:
    """Returns the number of images by split and class."""
    counts = {}
    for number, split in enumerate(samples.split_names):
        found = np.bincount(samples.labels[samples.splits == number], minlength=len(samples.class_names))
        counts[split] = dict(zip(samples.class_names, found.tolist(), strict=True))
    return counts


def _samples(tree: Tree, paths: Sequence[str], read: Read, *, with_thumbs: bool = True) -> CheckedImages:
    class_names = sorted({name for classes in tree.classes.values() for name in classes})
    numbers = {name: number for number, name in enumerate(class_names)}
    cells = [
        (split, numbers[name], len(images))
        for split, classes in enumerate(tree.classes.values())
        for name, images in classes.items()
    ]
    splits, labels, sizes = np.array(cells, np.int64).reshape(-1, 3).T
    kept = np.flatnonzero(read.facts["problem"] == b"")
    return CheckedImages(
        [paths[index] for index in kept.tolist()],
        list(tree.classes),
        np.repeat(splits, sizes)[kept],
        class_names,
        np.repeat(labels, sizes)[kept],
        read.facts["content_hash"][kept],
        read.facts["thumb"][kept if with_thumbs else kept[:0]],
    )
