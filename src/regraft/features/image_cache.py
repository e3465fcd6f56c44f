"""Decoded images in the store: rows of depth 0, so to speak, that no backbone has seen yet.

What is decoded, and how a row becomes an image again, is the business of whoever gives the view.
"""

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

from regraft.features.extract import Filled, Progress, Writer, closing, once_each
from regraft.features.fingerprint import image_libraries
from regraft.features.settings import Settings
from regraft.features.store.catalog import key_of, make_room
from regraft.features.store.entry import Pool
from regraft.features.store.store import folder_of

log = logging.getLogger(__name__)

_BATCH_SIZE, _BATCH_BYTES = 32, 32 * 2**20
# Pictures of many sizes are gathered for as many files at once.
_FLUSH_SECONDS, _FLUSH_BYTES = 60, 64 * 2**20

Shape = tuple[int, ...]


class View(Protocol):
    """Decoded images of a split as rows of few shapes; see `data.decoded_rows`."""

    content_hashes: np.ndarray

    @property
    def transform(self) -> dict[str, Any]:
        """All that a row depends on besides its file."""

    def label(self, row_shape: Shape) -> str:
        """Returns what rows of a shape are, for people."""

    @property
    def possible_shapes(self) -> list[Shape]:
        """Shapes that rows can have."""

    def shapes(self, places: Tensor) -> list[Shape]:
        """Returns the shape of each row."""

    def batches(self, batches: Sequence[Tensor]) -> Iterator[list[tuple[np.ndarray, Tensor]]]:
        """Yields for each batch its rows by shape: which of the batch they are, and the rows."""


@dataclass
class StoredPixels:
    """The decoded images of one split, all of them.

    Attributes:
        pools: in which they lie, a pool for each shape of rows.
        content_hashes: (num_images, 16), uint8.
    """

    pools: list[Pool]
    content_hashes: np.ndarray

    def __post_init__(self) -> None:
        found = torch.stack([pool.find(self.content_hashes) for pool in self.pools])
        self._pool_of = found.ge(0).to(torch.uint8).argmax(0)
        self._positions = found.gather(0, self._pool_of[None])[0]
        assert (self._positions >= 0).all(), "whoever makes it has stored every image"

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process finds its own positions: a pool that is opened again has its rows in another order.
        return StoredPixels, (self.pools, self.content_hashes)

    def read(self, places: Tensor) -> Tensor:
        """Returns rows of one shape, (batch, *row_shape), uint8.

        Args:
            places: (batch,), int64, of the split.
        """
        (pool,) = self.pools
        return pool.gather(self._positions[places])

    def each(self, places: Tensor) -> Iterator[Tensor]:
        """Yields rows of any shapes, uint8.

        Args:
            places: (batch,), int64, of the split.
        """
        for pool, position in zip(self._pool_of[places].tolist(), self._positions[places].split(1), strict=True):
            yield self.pools[pool].gather(position)[0]


class PixelStore:
    """The part of the store that holds decoded images.

    Args:
        settings: the user's choices; its folder and its greatest size are those of all that is stored.
        progress: see `fill.Progress`.

    Raises:
        NoFolderError: the store's folder can't be told.
    """

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self.folder = folder_of(settings)
        self._max_bytes = settings.max_bytes
        self._progress = progress
        self._pools: dict[str, Pool] = {}

    def find(self, view: View) -> StoredPixels | None:
        """Returns a split's images if all of them are stored.

        Args:
            view: of the split.

        Raises:
            OSError: the store can't be read.
        """
        pools = self._existing(view)
        if len(self._missing(view, pools)):
            return None
        return StoredPixels(list(pools.values()), view.content_hashes)

    def fill(self, view: View) -> tuple[StoredPixels, Filled]:
        """Decodes what is missing; of several processes one does, the others wait. Returns the images, and what it did.

        Args:
            view: of the split.

        Raises:
            ValueError: a file can't be decoded.
            OSError: the store can't hold them.
        """
        started = time.perf_counter()
        pools = self._existing(view)
        places = self._missing(view, pools)
        if len(places):
            shapes = view.shapes(places)
            pools |= {shape: self._pool(view, shape) for shape in dict.fromkeys(shapes)}
            places = self._decode(view, pools, places, shapes)
        stored = StoredPixels(list(pools.values()), view.content_hashes)
        return stored, Filled(len(view.content_hashes), len(places), time.perf_counter() - started)

    def _decode(self, view: View, pools: dict[Shape, Pool], places: Tensor, shapes: list[Shape]) -> Tensor:
        """Decodes images into pools, and returns the places of those that no other process had stored meanwhile."""
        shape_of = dict(zip(places.tolist(), shapes, strict=True))
        with ExitStack() as stack:

            def locked(shape: Shape) -> Writer:
                stack.enter_context(pools[shape].lock(_say_waiting))
                return Writer(pools[shape], _FLUSH_SECONDS, _FLUSH_BYTES)

            # In one order for all processes, so that no two wait for each other.
            in_order = sorted(set(shapes), key=lambda shape: pools[shape].key)
            writers = {shape: locked(shape) for shape in in_order}
            places = self._missing(view, pools)
            if not len(places):
                return places
            num_bytes = [pools[shape_of[place]].row_bytes for place in places.tolist()]
            make_room(self.folder, sum(num_bytes), self._max_bytes, self._pools, "decoded images", "use data.cache=off")
            report = stack.enter_context(self._progress(len(places)))
            # What has been decoded before an error or Ctrl-C is kept.
            stack.enter_context(closing(writers))
            batches = _batches(places, num_bytes)
            for batch_places, groups in zip(batches, view.batches(batches), strict=True):
                digests = view.content_hashes[batch_places.numpy()]
                for chosen, rows in groups:
                    shape = tuple(rows.shape[1:])
                    if shape not in writers:  # the beginning of a file told another size than the decoded picture has
                        pools[shape] = self._pool(view, shape)
                        writers[shape] = locked(shape)
                    writers[shape].add(digests[chosen], rows)
                report(len(batch_places))
        return places

    def _missing(self, view: View, pools: dict[Shape, Pool]) -> Tensor:
        is_stored = torch.zeros(len(view.content_hashes), dtype=torch.bool)
        for pool in pools.values():
            is_stored |= pool.find(view.content_hashes) >= 0
        return once_each(view.content_hashes, (~is_stored).nonzero()[:, 0])

    def _existing(self, view: View) -> dict[Shape, Pool]:
        """Returns the pools that the store has for a view."""
        return {
            shape: self._pool(view, shape)
            for shape in view.possible_shapes
            if Pool.exists(self.folder, _fields(view, shape))
        }

    def _pool(self, view: View, shape: Shape) -> Pool:
        fields = _fields(view, shape)
        key = key_of(fields)
        if key not in self._pools:
            self._pools[key] = Pool(self.folder, fields, view.label(shape), shape, torch.uint8)
        return self._pools[key]


def _batches(places: Tensor, num_bytes: Sequence[int]) -> list[Tensor]:
    """Returns the places in batches of at most _BATCH_SIZE images, and _BATCH_BYTES unless a single one is larger.

    Args:
        places: (num_images,), int64.
        num_bytes: of each one's row.
    """
    sizes: list[int] = []
    total = math.inf
    for number in num_bytes:
        total += number
        if total > _BATCH_BYTES or sizes[-1] == _BATCH_SIZE:
            sizes.append(0)
            total = number
        sizes[-1] += 1
    return list(places.split(sizes))


def _say_waiting() -> None:
    log.info("Another process decodes the images; waiting for it.")


def _fields(view: View, shape: Shape) -> dict[str, Any]:
    """Returns all that a row depends on, besides its image's content."""
    return {"transform": view.transform, "row_shape": list(shape), "dtype": "uint8"} | image_libraries()
