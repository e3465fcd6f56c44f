"""Rows of features in memory, found by the digests of their images, whether they were computed or mapped from files.

What is kept between processes belongs in `pool`.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from regraft.features.store.segments import DIGEST_BYTES, Segment


class MemoryPool:
    """Rows that are gone with the process: for when the disk can't hold them.

    Args:
        row_shape: of each row.
        dtype: of what is kept.
    """

    key = "memory"

    def __init__(self, row_shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.row_shape = tuple(row_shape)
        self.dtype = dtype
        self._segments: list[Segment] = []
        self._starts = [0]
        self._index: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def row_bytes(self) -> int:
        """Of one row."""
        return math.prod(self.row_shape) * self.dtype.itemsize

    @property
    def num_rows(self) -> int:
        """Rows that it holds."""
        return self._starts[-1]

    @property
    def seconds_per_row(self) -> float | None:
        """What computing a row took; None if there is none."""
        return sum(segment.seconds for segment in self._segments) / self.num_rows if self.num_rows else None

    def lock(self, on_wait: Callable[[], None]) -> nullcontext[None]:
        """Does nothing: no other process adds rows."""
        return nullcontext()

    def find(self, digests: np.ndarray) -> Tensor:
        """Returns the positions of images' rows, (num_images,), int64, -1 where there is none; for good, once given.

        Args:
            digests: (num_images, 16), uint8.
        """
        if not self.num_rows or not len(digests):
            return torch.full((len(digests),), -1)
        if self._index is None:
            keys = np.concatenate([_comparable(segment.digests) for segment in self._segments])
            order = np.argsort(keys, kind="stable")
            self._index = keys[order], order
        keys, order = self._index
        wanted = _comparable(digests)
        places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        return torch.from_numpy(np.where(keys[places] == wanted, order[places], -1))

    def gather(self, positions: Tensor) -> Tensor:
        """Returns rows, (num_positions, *row_shape), in memory of their own.

        Args:
            positions: (num_positions,), int64, as `find` gave them; none of them -1.
        """
        if len(self._segments) == 1:
            return self._segments[0].rows.index_select(0, positions)
        gathered = torch.empty((len(positions), *self.row_shape), dtype=self.dtype)
        segment_of = torch.bucketize(positions, torch.tensor(self._starts[1:]), right=True)
        counts = segment_of.bincount(minlength=len(self._segments)).tolist()
        for segment, start, places in zip(
            self._segments, self._starts[:-1], segment_of.argsort().split(counts), strict=True
        ):
            if len(places):
                gathered.index_copy_(0, places, segment.rows.index_select(0, positions[places] - start))
        return gathered

    def append(self, digests: np.ndarray, rows: Tensor, seconds: float) -> None:
        """Adds the rows of images that it doesn't hold yet.

        Args:
            digests: (num_images, 16), uint8; may repeat themselves.
            rows: (num_images, *row_shape), float, on any device.
            seconds: that computing them took.

        Raises:
            ValueError: a value doesn't fit the pool's dtype.
        """
        segment = self.lacking(digests, rows, seconds)
        if segment is not None:
            self.add(segment)

    def lacking(self, digests: np.ndarray, rows: Tensor, seconds: float) -> Segment | None:
        """Returns what of some rows it doesn't hold yet, in its dtype, None if it holds them all; see `append`."""
        assert rows.shape == (len(digests), *self.row_shape), f"rows of {self.row_shape}, got {tuple(rows.shape)}"
        _, first = np.unique(_comparable(digests), return_index=True)
        first.sort()
        first = first[self.find(digests[first]).numpy() < 0]
        if not len(first):
            return None
        kept = rows.detach()[torch.from_numpy(first).to(rows.device)]
        share = len(first) / len(digests)
        return Segment(digests[first], _cast(kept, self.dtype).cpu().contiguous(), seconds * share)

    def add(self, segment: Segment) -> None:
        """Takes a segment as it is."""
        self._segments.append(segment)
        self._starts.append(self.num_rows + len(segment.digests))
        self._index = None


def _comparable(digests: np.ndarray) -> np.ndarray:
    """Returns digests, (num, 16), as (num,) texts that numpy sorts fast."""
    # A text's padding counts as nothing, which makes no two digests equal: they are all of one length.
    values: np.ndarray = np.ascontiguousarray(digests).view(f"S{DIGEST_BYTES}")[:, 0]
    return values


def _cast(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns rows in a dtype.

    Raises:
        ValueError: a finite value is beyond its range.
    """
    cast = rows.to(dtype)
    # What wasn't finite before is the model's own: it is kept, as a run without a store would see it.
    is_beyond = ~cast.isfinite() & rows.isfinite()
    if is_beyond.any():
        name = str(dtype).removeprefix("torch.")
        allowed = "float32 or features.dtype=bfloat16" if dtype == torch.float16 else "float32"
        raise ValueError(
            f"features.dtype: got {name}, which holds values up to {torch.finfo(dtype).max:.4g}; the features reach "
            f"{rows[is_beyond].abs().max().item():.4g}. Use features.dtype={allowed}."
        )
    return cast
