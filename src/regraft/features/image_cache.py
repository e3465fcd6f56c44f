"""Decoded images in the features store."""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from regraft.core.console import ProgressBar
from regraft.features.extract import ExtractionStats, Writer, flushing, without_copies
from regraft.features.settings import FeatureSettings
from regraft.features.store.catalog import key_of, make_room
from regraft.features.store.entry import StoreEntry
from regraft.features.store.store import folder_of

log = logging.getLogger(__name__)

_BATCH_SIZE, _BATCH_BYTES = 32, 32 * 2**20
# Images of many sizes go to as many files at once.
_FLUSH_SECONDS, _FLUSH_BYTES = 60, 64 * 2**20

Shape = tuple[int, ...]


class PackedView(Protocol):
    """Decoded images of a split, packed into few shapes, such as `data.images.packed_images.DecodedView`."""

    content_hashes: np.ndarray

    @property
    def transform(self) -> dict[str, Any]:
        """Everything that packed images depend on except for their files, in plain types."""

    def label(self, shape: Shape) -> str:
        """Returns a description of the images of a shape, for people."""

    @property
    def possible_shapes(self) -> list[Shape]:
        """Shapes that packed images can have."""

    def shapes(self, positions: Tensor) -> list[Shape]:
        """Returns the shape of each packed image."""

    def batches(self, batches: Sequence[Tensor]) -> Iterator[list[tuple[np.ndarray, Tensor]]]:
        """Yields the packed images of each batch by shape: their positions in the batch, and the images."""


@dataclass
class StoredImages:
    """The decoded images of a split, all of which are stored, in one entry for each shape."""

    entries: list[StoreEntry]
    content_hashes: np.ndarray

    def __post_init__(self) -> None:
        found = torch.stack([entry.find(self.content_hashes) for entry in self.entries])
        self._entry_of = found.ge(0).to(torch.uint8).argmax(0)
        self._slots = found.gather(0, self._entry_of[None])[0]
        assert (self._slots >= 0).all(), "all images are stored"

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process has other slots: its entries may have their segments in another order.
        return StoredImages, (self.entries, self.content_hashes)

    def read(self, positions: Tensor) -> Tensor:
        """Returns images of one shape at some positions in the split, (batch, *shape), uint8."""
        (entry,) = self.entries
        return entry.gather(self._slots[positions])

    def each(self, positions: Tensor) -> Iterator[Tensor]:
        """Yields images of any shapes at some positions in the split, uint8."""
        for entry, slot in zip(self._entry_of[positions].tolist(), self._slots[positions].split(1), strict=True):
            yield self.entries[entry].gather(slot)[0]


class ImageCache:
    """The decoded images in the features store, which share its folder and size limit."""

    def __init__(self, settings: FeatureSettings, progress: ProgressBar) -> None:
        self.folder = folder_of(settings)
        self._max_bytes = settings.max_bytes
        self._progress = progress
        self._entries: dict[str, StoreEntry] = {}

    def find(self, view: PackedView) -> StoredImages | None:
        """Returns the images of a split if all of them are stored; raises OSError if the store can't be read."""
        entries = self._existing(view)
        if len(self._missing(view, entries)):
            return None
        return StoredImages(list(entries.values()), view.content_hashes)

    def decode_missing(self, view: PackedView) -> tuple[StoredImages, ExtractionStats]:
        """Decodes and stores missing images; of several processes one decodes, the others wait.

        Raises:
            ValueError: a file can't be decoded.
            OSError: the store can't hold the images.
        """
        started = time.perf_counter()
        entries = self._existing(view)
        positions = self._missing(view, entries)
        if len(positions):
            shapes = view.shapes(positions)
            entries |= {shape: self._entry(view, shape) for shape in dict.fromkeys(shapes)}
            positions = self._decode(view, entries, positions, shapes)
        stored = StoredImages(list(entries.values()), view.content_hashes)
        return stored, ExtractionStats(len(view.content_hashes), len(positions), time.perf_counter() - started)

    def _decode(
        self, view: PackedView, entries: dict[Shape, StoreEntry], positions: Tensor, shapes: list[Shape]
    ) -> Tensor:
        """Decodes images into entries; returns the positions of those that no other process stored in the meantime."""
        shape_of = dict(zip(positions.tolist(), shapes, strict=True))
        with ExitStack() as stack:

            def locked(shape: Shape) -> Writer:
                stack.enter_context(
                    entries[shape].lock(lambda: log.info("Another process decodes the images; waiting for it."))
                )
                return Writer(entries[shape], _FLUSH_SECONDS, _FLUSH_BYTES)

            # In the same order in all processes, so that no two wait for each other.
            writers = {shape: locked(shape) for shape in sorted(set(shapes), key=lambda shape: entries[shape].key)}
            positions = self._missing(view, entries)
            if not len(positions):
                return positions
            num_bytes = [entries[shape_of[position]].feature_bytes for position in positions.tolist()]
            instead = "use data.cache=off"
            make_room(self.folder, sum(num_bytes), self._max_bytes, self._entries, "decoded images", instead)
            report = stack.enter_context(self._progress(len(positions)))
            # What was decoded before an error or Ctrl-C is kept.
            stack.enter_context(flushing(writers))
            batches = _batches(positions, num_bytes)
            for batch_positions, groups in zip(batches, view.batches(batches), strict=True):
                hashes = view.content_hashes[batch_positions.numpy()]
                for chosen, images in groups:
                    shape = tuple(images.shape[1:])
                    if shape not in writers:  # the header of a file gave another size than the decoded image has
                        entries[shape] = self._entry(view, shape)
                        writers[shape] = locked(shape)
                    writers[shape].add(hashes[chosen], images)
                report(len(batch_positions))
        return positions

    def _missing(self, view: PackedView, entries: dict[Shape, StoreEntry]) -> Tensor:
        is_stored = torch.zeros(len(view.content_hashes), dtype=torch.bool)
        for entry in entries.values():
            is_stored |= entry.find(view.content_hashes) >= 0
        return without_copies(view.content_hashes, (~is_stored).nonzero()[:, 0])

    def _existing(self, view: PackedView) -> dict[Shape, StoreEntry]:
        return {
            shape: self._entry(view, shape)
            for shape in view.possible_shapes
            if StoreEntry.exists(self.folder, _fields(view, shape))
        }

    def _entry(self, view: PackedView, shape: Shape) -> StoreEntry:
        fields = _fields(view, shape)
        key = key_of(fields)
        if key not in self._entries:
            self._entries[key] = StoreEntry(self.folder, fields, view.label(shape), shape, torch.uint8)
        return self._entries[key]


def _batches(positions: Tensor, num_bytes: Sequence[int]) -> list[Tensor]:
    """Returns the positions in batches of at most _BATCH_SIZE images and, except for single images, _BATCH_BYTES."""
    sizes: list[int] = []
    total = math.inf
    for number in num_bytes:
        total += number
        if total > _BATCH_BYTES or sizes[-1] == _BATCH_SIZE:
            sizes.append(0)
            total = number
        sizes[-1] += 1
    return list(positions.split(sizes))


def _fields(view: PackedView, shape: Shape) -> dict[str, Any]:
    """Returns everything that packed images depend on, except for the content of their files."""
    return {"transform": view.transform, "feature_shape": list(shape), "dtype": "uint8"}
