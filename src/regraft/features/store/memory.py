"""Entries of the features store: features found by the content hashes of their inputs, on disk or in memory."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.core.content_hash import HASH_BYTES
from regraft.core.errors import ConfigError
from regraft.features.share import WHOLE, Share
from regraft.features.store.segments import Segment, merged

_MERGED_BYTES = 64 * 2**20
"""Segments up to this size are merged with those that are added after them."""
_GROWTH = 2
"""Each small segment is more than so many times as large as the next one, so that there are few."""


class FeatureEntry(ABC):
    """Features of one shape, computed by the same stages, transform and precision, for any number of inputs.

    `feature_shape` is that of one input, `dtype` that of what is kept.
    """

    key: str

    def __init__(self, feature_shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.feature_shape = tuple(feature_shape)
        self.dtype = dtype
        self._segments: list[Segment] = []
        self._starts = [0]
        # Segments that processes with other shares may merge as well, each of them for itself.
        self._num_shared = 0
        # Sorted hashes with their slots, in parts each of which is longer than the next.
        self._index: list[tuple[np.ndarray, np.ndarray]] = []

    @property
    def feature_bytes(self) -> int:
        """Bytes of the features of one input."""
        return math.prod(self.feature_shape) * self.dtype.itemsize

    @property
    def num_inputs(self) -> int:
        """Number of inputs whose features are there, as far as the entry has been read."""
        return self._starts[-1]

    @property
    def bytes_in_memory(self) -> int:
        """Bytes of the features that aren't in a file."""
        return sum(len(segment) for segment in self._segments if segment.path is None) * self.feature_bytes

    @property
    def seconds_per_input(self) -> float | None:
        """Time that computing the features of one input took; None if there are none."""
        return sum(segment.seconds for segment in self._segments) / self.num_inputs if self.num_inputs else None

    @abstractmethod
    def lock(self, on_wait: Callable[[], None], share: Share = WHOLE) -> AbstractContextManager[Any]:
        """Keeps other processes from computing the same share; calls `on_wait` once if another one holds the lock."""

    @abstractmethod
    def _checked(self, segment: Segment) -> Segment | None:
        """Returns a segment after checking it; None if it has been removed or is damaged."""

    @abstractmethod
    def _kept(self, segment: Segment) -> Segment:
        """Keeps a segment in the place of those that it replaces; returns it as it can be read from there."""

    def append(self, content_hashes: np.ndarray, features: Tensor, seconds: float) -> None:
        """Adds the features of inputs that aren't there yet; call it with the lock held.

        Its cost hardly depends on what is there: small segments are merged, each at most once for each doubling.

        Args:
            content_hashes: (num_inputs, HASH_BYTES), uint8; may have duplicates.
            features: (num_inputs, *feature_shape), float, on any device.
            seconds: time that computing them took.
        """
        segment = self._new_segment(content_hashes, features, seconds)
        if segment is None:
            return
        parts = [segment]
        for earlier in reversed(self._segments[self._num_shared :]):
            total = sum(map(len, parts))
            if len(earlier) > _GROWTH * total or (len(earlier) + total) * self.feature_bytes > _MERGED_BYTES:
                break
            # Otherwise damage since it was read would get a checksum of its own.
            checked = self._checked(earlier)
            if checked is None or not np.array_equal(checked.content_hashes, earlier.content_hashes):
                break
            parts.insert(0, checked)
        self._add([self._kept(merged(parts) if len(parts) > 1 else segment)], num_replaced=len(parts) - 1)

    def find(self, content_hashes: np.ndarray) -> Tensor:
        """Returns the slot of each hash, (num_inputs,), int64, -1 for those that aren't there; slots never change."""
        wanted = _comparable(content_hashes)
        found = np.full(len(wanted), -1)
        # A hash that is there twice has the slot that it had first.
        for keys, slots in reversed(self._index) if len(wanted) else ():
            nearest = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
            found = np.where(keys[nearest] == wanted, slots[nearest], found)
        return torch.from_numpy(found)

    def gather(self, slots: Tensor, part: slice | None = None) -> Tensor:
        """Returns a copy of the features at slots given by `find`, none of them -1: (num_slots, *feature_shape).

        Args:
            part: which of them to return, if their shape has one axis; None for all.
        """

        def found(segment: Segment) -> Tensor:
            return segment.features if part is None else segment.features[:, part]

        if len(self._segments) == 1:
            return found(self._segments[0]).index_select(0, slots)
        shape = self.feature_shape if part is None else (part.stop - part.start,)
        gathered = torch.empty((len(slots), *shape), dtype=self.dtype)
        segment_of = torch.bucketize(slots, torch.tensor(self._starts[1:]), right=True)
        counts = segment_of.bincount(minlength=len(self._segments)).tolist()
        for segment, start, members in zip(
            self._segments, self._starts[:-1], segment_of.argsort().split(counts), strict=True
        ):
            if len(members):
                gathered.index_copy_(0, members, found(segment).index_select(0, slots[members] - start))
        return gathered

    def _new_segment(self, content_hashes: np.ndarray, features: Tensor, seconds: float) -> Segment | None:
        """Returns the features that aren't there yet, in the entry's dtype; None if all are."""
        assert features.shape == (len(content_hashes), *self.feature_shape), (features.shape, self.feature_shape)
        _, first = np.unique(_comparable(content_hashes), return_index=True)
        first.sort()
        first = first[self.find(content_hashes[first]).numpy() < 0]
        if not len(first):
            return None
        kept = features.detach()[torch.from_numpy(first).to(features.device)]
        share = len(first) / len(content_hashes)
        return Segment(content_hashes[first], _cast(kept, self.dtype).cpu().contiguous(), seconds * share)

    def _add(self, segments: Sequence[Segment], num_replaced: int = 0) -> None:
        """Adds segments, the first of which begins with the features of the last `num_replaced` ones."""
        num_before = self.num_inputs
        keep = len(self._segments) - num_replaced
        del self._segments[keep:], self._starts[keep + 1 :]
        num_known = num_before - self.num_inputs
        for segment in segments:
            self._segments.append(segment)
            self._starts.append(self.num_inputs + len(segment))
        keys = _comparable(np.concatenate([segment.content_hashes for segment in segments])[num_known:])
        slots = np.arange(num_before, num_before + len(keys))
        while self._index and len(self._index[-1][0]) <= len(keys):
            earlier_keys, earlier_slots = self._index.pop()
            keys, slots = np.concatenate([earlier_keys, keys]), np.concatenate([earlier_slots, slots])
        order = np.argsort(keys, kind="stable")
        self._index.append((keys[order], slots[order]))


class InMemoryEntry(FeatureEntry):
    """An entry that ends with the process, for features that the disk can't hold."""

    key = "memory"

    @classmethod
    def above(cls, entry: FeatureEntry) -> "InMemoryEntry":
        """Returns an entry that has the features of another one, read where they are, and keeps new ones in memory."""
        made = cls(entry.feature_shape, entry.dtype)
        if entry._segments:
            made._add(entry._segments)
        return made

    def lock(self, on_wait: Callable[[], None], share: Share = WHOLE) -> nullcontext[None]:
        """Does nothing: no other process adds features."""
        return nullcontext()

    def _checked(self, segment: Segment) -> Segment:
        return segment

    def _kept(self, segment: Segment) -> Segment:
        return segment


def is_among(content_hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns which hashes, (num, HASH_BYTES), are among others, (num,), bool."""
    return np.isin(_comparable(content_hashes), _comparable(others))


def _comparable(content_hashes: np.ndarray) -> np.ndarray:
    """Returns hashes, (num, HASH_BYTES), as (num,) byte strings, which NumPy sorts fast."""
    # Trailing zeros of byte strings are ignored, which makes no two hashes equal: all have the same length.
    return np.ascontiguousarray(content_hashes).view(f"S{HASH_BYTES}")[:, 0]


def _cast(features: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns features in a dtype; raises ValueError if a finite value is out of its range."""
    cast = features.to(dtype)
    # Values that weren't finite before are kept, as in a run without a store.
    is_beyond = ~cast.isfinite() & features.isfinite()
    if is_beyond.any():
        name = str(dtype).removeprefix("torch.")
        allowed = "float32 or features.dtype=bfloat16" if dtype == torch.float16 else "float32"
        raise ConfigError(
            "features.dtype",
            f"it holds values up to {torch.finfo(dtype).max:.4g}; the features reach "
            f"{features[is_beyond].abs().max().item():.4g}",
            got=name,
            fix=f"Use features.dtype={allowed}.",
        )
    return cast
