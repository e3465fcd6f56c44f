"""Where the rows of a run lie: in the store's pools, or in memory where the disk can't hold them.

What rows there are, and how they are computed, belongs in `frozen`.
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from regraft.core.memory import memory_bytes
from regraft.features.extract import missing_places
from regraft.features.settings import Settings
from regraft.features.store.catalog import default_dir, key_of, make_room
from regraft.features.store.entry import Pool
from regraft.features.store.memory import MemoryPool

log = logging.getLogger(__name__)

_SHARE_OF_MEMORY = 0.25


class NoRoomError(OSError):
    """Neither the disk nor memory can hold the features."""


class NoFolderError(ValueError):
    """There is no folder for the store."""


def memory_limit() -> float:
    """Returns the bytes of features that a run may hold in memory: a quarter of it."""
    return _SHARE_OF_MEMORY * memory_bytes(torch.device("cpu"))


class Shelf:
    """The pools that a run has opened.

    Args:
        settings: the user's choices.

    Attributes:
        folder: of the store.

    Raises:
        NoFolderError: the store's folder can't be told.
    """

    def __init__(self, settings: Settings) -> None:
        self.folder = folder_of(settings)
        self._max_bytes = settings.max_bytes
        self._dtype = settings.torch_dtype
        self._pools: dict[str, Pool | MemoryPool] = {}
        self._in_memory: dict[tuple[Any, str], MemoryPool] = {}
        self._promised_bytes = 0

    @property
    def is_any_in_memory(self) -> bool:
        """Whether rows of a view were moved to memory."""
        return bool(self._in_memory)

    def holds(self, fields: Mapping[str, Any]) -> bool:
        """Whether the store has a pool of these fields; a folder that can't be looked into has none."""
        try:
            return Pool.exists(self.folder, fields)
        except OSError:  # said where the pool is opened
            return False

    def pool(self, view: Any, fields: Mapping[str, Any], label: str, row_shape: tuple[int, ...]) -> Pool | MemoryPool:
        """Returns the rows of a view's images; opened once, in memory where the store can't be used.

        Args:
            view: the images under one transform.
            fields: all that the rows depend on besides their images' content; plain types.
            label: what they are, for people.
            row_shape: of each row.
        """
        key = key_of(fields)
        if (view, key) in self._in_memory:
            return self._in_memory[view, key]
        if key not in self._pools:
            try:
                self._pools[key] = Pool(self.folder, fields, label, row_shape, self._dtype)
            except OSError as error:
                log.warning("features: %s They are kept in memory for this run.", error)
                self._pools[key] = MemoryPool(row_shape, self._dtype)
        return self._pools[key]

    def make_room(self, num_bytes: int, pools: Iterable[Pool | MemoryPool]) -> None:
        """Makes room for what is to be computed.

        Raises:
            NoRoomError: memory can't take it.
            OSError: the disk can't.
        """
        in_memory = [pool for pool in pools if isinstance(pool, MemoryPool)]
        if any(pool not in self._in_memory.values() for pool in in_memory):
            self._require_memory(num_bytes)
        elif not in_memory:
            # All that this run has opened stays: rows of another split may lie there.
            make_room(self.folder, num_bytes, self._max_bytes, [pool.key for pool in self._pools.values()])

    def move_to_memory(self, view: Any, pools: Iterable[Pool | MemoryPool]) -> None:
        """Has the rows of a view that the store lacks in part kept in memory, those that it has copied there.

        Raises:
            NoRoomError: they don't fit.
        """
        stored_pools = [pool for pool in pools if isinstance(pool, Pool)]
        moved = [pool for pool in stored_pools if len(missing_places(view, {0: pool}))]
        num_bytes = len(view.content_hashes) * sum(pool.row_bytes for pool in moved)
        self._require_memory(num_bytes)
        self._promised_bytes += num_bytes
        for pool in moved:
            rows = MemoryPool(pool.row_shape, self._dtype)
            positions = pool.find(view.content_hashes)
            stored = (positions >= 0).nonzero()[:, 0]
            if len(stored):
                seconds = (pool.seconds_per_row or 0.0) * len(stored)
                rows.append(view.content_hashes[stored.numpy()], pool.gather(positions[stored]), seconds)
            # Not in the place of the pool, which other splits go on reading.
            self._in_memory[view, pool.key] = rows

    def _require_memory(self, num_more_bytes: int) -> None:
        """Checks that memory can hold more bytes of rows than it holds already.

        Raises:
            NoRoomError: it can't.
        """
        held = [pool for pool in self._pools.values() if isinstance(pool, MemoryPool)]
        num_bytes = num_more_bytes + self._promised_bytes + sum(pool.num_rows * pool.row_bytes for pool in held)
        limit = memory_limit()
        if num_more_bytes and num_bytes > limit:
            raise NoRoomError(
                f"{num_bytes / 1e9:.3g} GB of features fit neither the store nor a quarter of memory "
                f"({limit / 1e9:.3g} GB). Raise features.max_gb, free disk space, or use features.dtype=float16."
            )


def folder_of(settings: Settings) -> Path:
    """Returns the store's folder, which needn't exist.

    Raises:
        NoFolderError: it lies in a home folder that can't be found.
    """
    try:
        return default_dir() if settings.dir is None else Path(settings.dir).expanduser()
    except RuntimeError as error:  # pathlib's, of a user that the machine doesn't know
        given = "" if settings.dir is None else f" {settings.dir!r}"
        raise NoFolderError(
            f"the store's folder{given} lies in a home folder that can't be found; give another one with "
            "features.dir=PATH."
        ) from error
