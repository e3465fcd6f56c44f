"""Features of pictures that come a few at a time, and of which nothing is known beforehand: those of a prediction.

What a split of a data set has stored is the business of `frozen`.
"""

import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.features.cache import FrozenRows
from regraft.features.store.entry import Pool
from regraft.features.store.files import try_lock
from regraft.features.store.store import NoFolderError

log = logging.getLogger(__name__)

_FLUSH_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Transform:
    """What is done to each picture before it is normalised, in the place of a split's view.

    Attributes:
        transform: see `data.image_view.file_transform`.
    """

    transform: dict[str, Any]


class PictureFeatures:
    """Reads rows from a pool of the store, computes what it lacks, and adds that.

    Args:
        rows: of the backbone.
        transform: of the pictures.
        depth: of the cut.

    Attributes:
        depth: as given.
        num_found: pictures whose rows were there.

    Raises:
        NoFolderError: the store can't be used.
    """

    def __init__(self, rows: FrozenRows, transform: Transform, depth: int) -> None:
        self.depth = depth
        self._rows = rows
        pool = rows.pool(transform, depth)
        if not isinstance(pool, Pool):
            raise NoFolderError(
                f"nothing can be kept in {rows.shelf.folder}; give another folder with features.dir=PATH."
            )
        self._pool = pool
        # Pictures are looked up by several threads while rows are added by another.
        self._lock = threading.Lock()
        self._new: list[tuple[np.ndarray, Tensor]] = []
        self._seconds = 0.0
        self.num_found = 0

    @property
    def place(self) -> str:
        """Where the rows lie, for people."""
        return str(self._rows.shelf.folder)

    def find(self, digest: bytes) -> Tensor | None:
        """Returns a picture's row, (*row_shape), float32, or None; any thread may ask.

        Args:
            digest: of its file's content.
        """
        with self._lock:
            position = self._pool.find(np.frombuffer(digest, np.uint8)[None])
            if int(position) < 0:
                return None
            self.num_found += 1
            return self._pool.gather(position)[0].float()

    def compute(self, images: Tensor, digests: list[bytes | None]) -> Tensor:
        """Returns the rows of pictures, (batch, *row_shape), float32, and keeps them.

        Args:
            images: (batch, num_channels, image_size, image_size), float, normalised, on the device.
            digests: of their files' contents; None for what isn't to be kept.
        """
        started = time.perf_counter()
        rows = self._rows.prefix(self.depth)(images, 0, [self.depth])[self.depth]
        self._seconds += time.perf_counter() - started
        kept = [
            (np.frombuffer(digest, np.uint8), row) for digest, row in zip(digests, rows.cpu(), strict=True) if digest
        ]
        if kept:
            self._new.append((np.stack([digest for digest, _ in kept]), torch.stack([row for _, row in kept])))
        if sum(len(each) for each, _ in self._new) * self._pool.row_bytes > _FLUSH_BYTES:
            self.flush()
        return rows.float()

    def flush(self) -> None:
        """Adds the new rows to the store; where it can't take them now, the log says so, and they are gone."""
        if not self._new:
            return
        digests = np.concatenate([each for each, _ in self._new])
        rows = torch.cat([each for _, each in self._new])
        try:
            # Not waited for: a training that fills the pool holds it until it is through.
            with try_lock(self._pool.folder) as reason, self._lock:
                if reason:
                    raise OSError(f"{reason}.")
                self._rows.shelf.make_room(len(rows) * self._pool.row_bytes, [self._pool])
                self._pool.append(digests, rows, self._seconds)
        except OSError as error:
            log.warning("features: %s Those of the pictures aren't kept.", error)
        self._new, self._seconds = [], 0.0
