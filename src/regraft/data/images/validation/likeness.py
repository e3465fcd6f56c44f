"""Which images are the same, or nearly: by the hash of their bytes, and by a small picture of each.

Near ones are found by a perceptual hash (the signs of the lowest frequencies, as in pHash, Zauner 2010) and confirmed
by the small pictures themselves. Only images whose hashes share a quarter are compared, so the time grows with the
number of images, not with that of all pairs: hashes that differ in 3 bits of 64 share one for certain, in 6 more often
than not.
"""

from collections.abc import Iterator

import numpy as np

MAX_BITS = 10
"""In which two hashes may differ."""
MIN_CORRELATION = 0.98
"""Of the small pictures."""
MIN_CONTRAST = 4.0
"""Standard deviation of a small picture, in levels of 255: two plain areas say nothing of each other."""
MAX_PAIRS = 100_000
MAX_NEIGHBOURS = 1_024
"""Of those that share a quarter, in the order of their hashes, each is compared with so many; there are more only where
thousands of pictures have one layout."""

_NUM_QUARTERS = 4
_PART = 2**16


def same(digests: np.ndarray) -> list[np.ndarray]:
    """Returns the places of images whose bytes are the same, a group each.

    Args:
        digests: (num_images, num_bytes), uint8.
    """
    if not len(digests):
        return []
    keys = np.ascontiguousarray(digests).view(f"V{digests.shape[1]}")[:, 0]
    _, group_of, counts = np.unique(keys, return_inverse=True, return_counts=True)
    order = np.argsort(group_of, kind="stable")
    groups = np.split(order, np.cumsum(counts)[:-1])
    return [groups[number] for number in np.flatnonzero(counts > 1)]


def near_pairs(thumbs: np.ndarray, sides: np.ndarray | None) -> np.ndarray:
    """Returns pairs of images that look nearly the same, (num_pairs, 2), int64, ascending; at most MAX_PAIRS.

    Args:
        thumbs: (num_images, side, side), uint8: luminance.
        sides: (num_images,), integers: only images on different sides are compared; None to compare all.
    """
    side = thumbs.shape[1]
    normal = thumbs.reshape(len(thumbs), side * side).astype(np.float32)
    normal -= normal.mean(1, keepdims=True)
    lengths = np.sqrt(np.einsum("ij,ij->i", normal, normal))
    places = np.flatnonzero(lengths >= MIN_CONTRAST * side)
    normal = normal[places] / lengths[places, None]
    hashes = _hashes(normal.reshape(-1, side, side))
    found: set[tuple[int, int]] = set()
    for first, second in _candidates(hashes):
        is_apart = slice(None) if sides is None else sides[places[first]] != sides[places[second]]
        first, second = first[is_apart], second[is_apart]
        is_near = np.einsum("ij,ij->i", normal[first], normal[second]) >= MIN_CORRELATION
        pairs = np.sort(np.stack([places[first[is_near]], places[second[is_near]]], 1), 1)
        found.update(map(tuple, pairs.tolist()))
        if len(found) >= MAX_PAIRS:
            break
    return np.array(sorted(found)[:MAX_PAIRS], np.int64).reshape(-1, 2)


def _hashes(thumbs: np.ndarray) -> np.ndarray:
    """Returns a perceptual hash of each small picture, (num_images,), uint64."""
    side = thumbs.shape[-1]
    steps = np.arange(side)
    cosines = np.cos(np.pi * np.outer(np.arange(1, 9), 2 * steps + 1) / (2 * side)).astype(np.float32)
    frequencies = (cosines @ thumbs @ cosines.T).reshape(len(thumbs), 64)
    middle = np.partition(frequencies, 32, axis=1)[:, 32:33]
    bits = np.packbits(frequencies >= middle, axis=1)
    hashes: np.ndarray = np.ascontiguousarray(bits).view(np.uint64)[:, 0]
    return hashes


def _candidates(hashes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields places of pairs whose hashes differ in MAX_BITS at most, in stretches that fit into memory."""
    for quarter in range(_NUM_QUARTERS):
        keys = (hashes >> np.uint64(16 * quarter)) & np.uint64(0xFFFF)
        order = np.lexsort((hashes, keys))
        starts = np.flatnonzero(np.diff(keys[order], prepend=np.uint64(2**63)))
        sizes = np.diff(starts, append=len(order))
        # All groups at once: each member with the one that is `step` places behind it.
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
