"""Entries of the features store: features found by the content hashes of their inputs, on disk or in memory."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.core.content_hash import HASH_BYTES
from regraft.core.errors import ConfigError
from regraft.features.store.segments import Segment


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
        self._index: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def feature_bytes(self) -> int:
        """Bytes of the features of one input."""
        return math.prod(self.feature_shape) * self.dtype.itemsize

    @property
    def num_inputs(self) -> int:
        """Number of inputs whose features are there, as far as the entry has been read."""
        return self._starts[-1]

    @property
    def seconds_per_input(self) -> float | None:
        """Time that computing the features of one input took; None if there are none."""
        return sum(segment.seconds for segment in self._segments) / self.num_inputs if self.num_inputs else None

    @abstractmethod
    def lock(self, on_wait: Callable[[], None]) -> AbstractContextManager[Any]:
        """Keeps other processes from computing the same; calls `on_wait` once if another process holds the lock."""

    @abstractmethod
    def append(self, content_hashes: np.ndarray, features: Tensor, seconds: float) -> None:
        """Adds the features of inputs that aren't there yet; call it with the lock held.

        Args:
            content_hashes: (num_inputs, HASH_BYTES), uint8; may have duplicates.
            features: (num_inputs, *feature_shape), float, on any device.
            seconds: time that computing them took.
        """

    def find(self, content_hashes: np.ndarray) -> Tensor:
        """Returns the slot of each hash, (num_inputs,), int64, -1 for those that aren't there; slots never change."""
        if not self.num_inputs or not len(content_hashes):
            return torch.full((len(content_hashes),), -1)
        if self._index is None:
            keys = np.concatenate([_comparable(segment.content_hashes) for segment in self._segments])
            order = np.argsort(keys, kind="stable")
            self._index = keys[order], order
        keys, order = self._index
        wanted = _comparable(content_hashes)
        nearest = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        return torch.from_numpy(np.where(keys[nearest] == wanted, order[nearest], -1))

    def gather(self, slots: Tensor) -> Tensor:
        """Returns a copy of the features at slots given by `find`, none of them -1: (num_slots, *feature_shape)."""
        if len(self._segments) == 1:
            return self._segments[0].features.index_select(0, slots)
        gathered = torch.empty((len(slots), *self.feature_shape), dtype=self.dtype)
        segment_of = torch.bucketize(slots, torch.tensor(self._starts[1:]), right=True)
        counts = segment_of.bincount(minlength=len(self._segments)).tolist()
        for segment, start, members in zip(
            self._segments, self._starts[:-1], segment_of.argsort().split(counts), strict=True
        ):
            if len(members):
                gathered.index_copy_(0, members, segment.features.index_select(0, slots[members] - start))
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

    def _add(self, segment: Segment) -> None:
        self._segments.append(segment)
        self._starts.append(self.num_inputs + len(segment.content_hashes))
        self._index = None


class InMemoryEntry(FeatureEntry):
    """An entry that ends with the process, for features that the disk can't hold."""

    key = "memory"

    def lock(self, on_wait: Callable[[], None]) -> nullcontext[None]:
        """Does nothing: no other process adds features."""
        return nullcontext()

    def append(self, content_hashes: np.ndarray, features: Tensor, seconds: float) -> None:
        """Adds the features of inputs that aren't there yet."""
        segment = self._new_segment(content_hashes, features, seconds)
        if segment is not None:
            self._add(segment)


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
