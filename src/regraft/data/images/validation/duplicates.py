"""Findings about duplicates and near-duplicates: leakage between splits, and contradictory labels."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from regraft.data.duplicates import CheckedSamples, group_finding, has_one, same, same_findings
from regraft.data.findings import Finding, counted


@dataclass(frozen=True)
class CheckedImages(CheckedSamples):
    """Images to be compared.

    Attributes:
        thumbs: (num_images, side, side), uint8: luminance.
    """

    noun = "image"
    are_pictured = True

    thumbs: np.ndarray


NearPairs = Callable[[np.ndarray, np.ndarray | None], np.ndarray]
"""A function like `near_pairs`."""

MAX_BITS = 10
"""Greatest number of bits in which two perceptual hashes of a pair differ."""

MIN_CORRELATION = 0.98
"""Least correlation of the thumbnails of a pair."""

MIN_CONTRAST = 4.0
"""Least standard deviation of a thumbnail, in gray levels: plain areas can't be compared."""

MAX_PAIRS = 100_000
MAX_NEIGHBOURS = 1_024
"""Comparisons of each image with others that share a quarter of its hash; there are more such images only if thousands
have the same layout."""

_NUM_QUARTERS = 4


_PART = 2**16


def near_pairs(thumbs: np.ndarray, sides: np.ndarray | None) -> np.ndarray:
    """Returns pairs of images that look nearly the same, (num_pairs, 2), int64, ascending; at most MAX_PAIRS.

    Args:
        thumbs: (num_images, side, side), uint8: luminance.
        sides: (num_images,), integers: only images with different ones are compared; None to compare all.
    """
    side = thumbs.shape[1]
    normal = thumbs.reshape(len(thumbs), side * side).astype(np.float32)
    normal -= normal.mean(1, keepdims=True)
    lengths = np.sqrt(np.einsum("ij,ij->i", normal, normal))
    indices = np.flatnonzero(lengths >= MIN_CONTRAST * side)
    normal = normal[indices] / lengths[indices, None]
    hashes = _hashes(normal.reshape(-1, side, side))
    found: set[tuple[int, int]] = set()
    for first, second in _candidates(hashes):
        is_apart = slice(None) if sides is None else sides[indices[first]] != sides[indices[second]]
        first, second = first[is_apart], second[is_apart]
        is_near = np.einsum("ij,ij->i", normal[first], normal[second]) >= MIN_CORRELATION
        pairs = np.sort(np.stack([indices[first[is_near]], indices[second[is_near]]], 1), 1)
        found.update(map(tuple, pairs.tolist()))
        if len(found) >= MAX_PAIRS:
            break
    return np.array(sorted(found)[:MAX_PAIRS], np.int64).reshape(-1, 2)


def _hashes(thumbs: np.ndarray) -> np.ndarray:
    """Returns the perceptual hash of each thumbnail, (num_images,), uint64."""
    side = thumbs.shape[-1]
    steps = np.arange(side)
    cosines = np.cos(np.pi * np.outer(np.arange(1, 9), 2 * steps + 1) / (2 * side)).astype(np.float32)
    frequencies = (cosines @ thumbs @ cosines.T).reshape(len(thumbs), 64)
    middle = np.partition(frequencies, 32, axis=1)[:, 32:33]
    bits = np.packbits(frequencies >= middle, axis=1)
    return np.ascontiguousarray(bits).view(np.uint64)[:, 0]


def _candidates(hashes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields indices of pairs whose hashes differ in at most MAX_BITS, in chunks that fit into memory."""
    for quarter in range(_NUM_QUARTERS):
        keys = (hashes >> np.uint64(16 * quarter)) & np.uint64(0xFFFF)
        order = np.lexsort((hashes, keys))
        starts = np.flatnonzero(np.diff(keys[order], prepend=np.uint64(2**63)))
        sizes = np.diff(starts, append=len(order))
        # All groups at once: each member with the one `step` positions behind it.
        ends = np.repeat(starts + sizes, sizes)
        members = np.arange(len(order))
        for step in range(1, MAX_NEIGHBOURS + 1):
            members = members[members + step < ends[members]]
            if not len(members):
                break
            for part in np.array_split(members, len(members) // _PART + 1):
                first, second = order[part], order[part + step]
                is_near = np.bitwise_count(hashes[first] ^ hashes[second]) <= MAX_BITS
                if is_near.any():
                    yield first[is_near], second[is_near]


def likeness_findings(samples: CheckedImages, near_pairs: NearPairs = near_pairs) -> list[Finding]:
    """Returns the findings about images that are identical or look alike."""
    groups = same(samples.content_hashes)
    return [*same_findings(samples, groups), *_near_findings(samples, groups, near_pairs)]


def _near_findings(samples: CheckedImages, groups: Sequence[np.ndarray], near_pairs: NearPairs) -> Iterator[Finding]:
    is_single = has_one(samples.splits)
    # Identical images are reported already; one of them represents all in a split.
    is_looked_at = np.ones(len(samples.splits), bool)
    for group in groups:
        _, first = np.unique(samples.splits[group], return_index=True)
        is_looked_at[np.delete(group, first)] = False
    indices = np.flatnonzero(is_looked_at)
    pairs = indices[near_pairs(samples.thumbs[indices], None if is_single else samples.splits[indices])]
    pairs = pairs[(samples.content_hashes[pairs[:, 0]] != samples.content_hashes[pairs[:, 1]]).any(1)]
    if not len(pairs):
        return
    limit = "at least " if len(pairs) >= MAX_PAIRS else ""
    where = (
        "; where validation or test is carved from them, they may land on both sides"
        if is_single
        else " and are in two splits"
    )
    sentence = (
        f"{limit}{counted(len(pairs), 'pair')} of images {'is' if len(pairs) == 1 else 'are'} nearly the same"
        f"{where}. Look at them, and keep one of each pair."
    )
    code = "near_duplicates" if is_single else "near_duplicates_across_splits"
    yield group_finding(code, "warning", sentence, samples, pairs, samples.class_names, samples.labels)
