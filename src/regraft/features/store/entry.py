"""Pools of stored features: the activations of one frozen prefix, each found by the digest of its image's content.

So a changed image is another digest, a subset or a grown folder reuses what is there, and labels are stored nowhere.
What makes two prefixes the same belongs in `key`, what is missing is computed in `fill`.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from regraft.core.atomic import remove_leftovers, write_atomically
from regraft.features.store import catalog, files
from regraft.features.store.memory import MemoryPool
from regraft.features.store.segments import DamagedError, Segment, read, write

log = logging.getLogger(__name__)

_NUM_THREADS = 4


class Pool:
    """Rows in a folder of the store, shared by processes and runs; the folder is made if it isn't there.

    Args:
        store: folder of the store.
        fields: all that the rows depend on besides their images' content; plain types.
        label: what they are, for people.
        row_shape: of each row.
        dtype: of what is kept.

    Raises:
        OSError: the folder can't be made or written; one that is there can be read without being written.
    """

    def __init__(
        self, store: Path, fields: Mapping[str, Any], label: str, row_shape: tuple[int, ...], dtype: torch.dtype
    ) -> None:
        self.key = catalog.key_of(fields)
        self.folder = store / self.key
        description = {"row_shape": list(row_shape), "dtype": str(dtype).removeprefix("torch.")}
        self._meta = {"fields": dict(fields), "label": label, **description, "format": catalog.FORMAT}
        self._arguments = store, fields, label, row_shape, dtype
        self._rows = MemoryPool(row_shape, dtype)
        self._names_seen: set[str] = set()
        try:
            if self._problem() is not None:
                with files.lock(self.folder, self._say_waiting):
                    self._prepare()
            self.refresh()
        except OSError as error:
            self._fail(error)
        catalog.mark_used(self.folder)

    def __reduce__(self) -> tuple[Any, ...]:
        # On its way to a loader process it is opened again: its rows would be copied, not mapped.
        return Pool, self._arguments

    @staticmethod
    def exists(store: Path, fields: Mapping[str, Any]) -> bool:
        """Whether a pool of these fields is in the store."""
        return (store / catalog.key_of(fields) / files.META).is_file()

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Of each row."""
        return self._rows.row_shape

    @property
    def row_bytes(self) -> int:
        """Of one row."""
        return self._rows.row_bytes

    @property
    def num_rows(self) -> int:
        """Rows that it holds, as far as it has been read."""
        return self._rows.num_rows

    @property
    def seconds_per_row(self) -> float | None:
        """What computing a row took; None if there is none."""
        return self._rows.seconds_per_row

    def find(self, digests: np.ndarray) -> Tensor:
        """Returns the positions of images' rows; see `MemoryPool.find`."""
        return self._rows.find(digests)

    def gather(self, positions: Tensor) -> Tensor:
        """Returns rows, read from the mapped files; see `MemoryPool.gather`."""
        return self._rows.gather(positions)

    def refresh(self) -> None:
        """Reads the segments that came since; removes those that aren't what was written, with a warning."""
        paths = [path for path in files.segments(self.folder) if path.name not in self._names_seen]
        # Checksums and reading release the interpreter lock.
        with ThreadPoolExecutor(_NUM_THREADS) as threads:
            for segment in threads.map(self._read, paths):
                if segment is not None:
                    self._rows.add(segment)
        self._names_seen.update(path.name for path in paths)

    @contextmanager
    def lock(self, on_wait: Callable[[], None]) -> Iterator[None]:
        """Keeps other processes from computing the same; once it is held, what they have stored is read.

        Args:
            on_wait: called once if another process holds it.

        Raises:
            OSError: the store can't be written.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(files.lock(self.folder, on_wait))
                # While this process waited, another one may have made room.
                self._prepare()
                self.refresh()
            except OSError as error:
                self._fail(error)
            yield

    def append(self, digests: np.ndarray, rows: Tensor, seconds: float) -> None:
        """Adds the rows of images that it doesn't hold yet, as one file; call it with the lock held.

        Args:
            digests: (num_images, 16), uint8; may repeat themselves.
            rows: (num_images, *row_shape), float, on any device.
            seconds: that computing them took.

        Raises:
            ValueError: a value doesn't fit the pool's dtype.
            OSError: the store can't be written.
        """
        segment = self._rows.lacking(digests, rows, seconds)
        if segment is None:
            return
        try:
            path = write(self.folder, self.key, segment)
        except OSError as error:
            self._fail(error)
        self._names_seen.add(path.name)
        written = self._read(path)
        if written is None:
            raise OSError(f"{path} isn't what was written to it; is the disk sound?")
        self._rows.add(written)

    def _read(self, path: Path) -> Segment | None:
        """Returns a segment, None if it isn't to be trusted; then it is removed."""
        try:
            return read(path, self.key, self._rows.row_shape, self._rows.dtype)
        except FileNotFoundError:  # another process made room
            return None
        except DamagedError as error:
            log.warning("features: %s is damaged (%s); its images are computed again.", path, error)
            with suppress(OSError):  # a store that may only be read stays as it is
                path.unlink()
            return None

    def _problem(self) -> str | None:
        """Returns why the folder can't be trusted to be this pool's, None if it can."""
        try:
            meta = catalog.read_meta(self.folder)
        except FileNotFoundError:
            return f"it has no {files.META}"
        except ValueError as error:
            return str(error)
        is_same = catalog.canonical(meta["fields"]) == catalog.canonical(self._meta["fields"])
        return None if is_same else f"its {files.META} is of other features"

    def _prepare(self) -> None:
        """Makes the folder a pool; empties one that can't be trusted, with a warning; the lock is held."""
        problem = self._problem()
        if problem is not None:
            if files.segments(self.folder) or (self.folder / files.META).exists():
                log.warning("features: %s is emptied: %s. What it held is computed again.", self.folder, problem)
            self.folder.mkdir(parents=True, exist_ok=True)
            files.remove_content(self.folder)
            write_atomically(self.folder / files.META, catalog.canonical(self._meta).encode())
        remove_leftovers(self.folder)

    def _say_waiting(self) -> None:
        log.info("features: another process is writing %s; waiting for it.", self.folder)

    def _fail(self, error: OSError) -> NoReturn:
        raise OSError(f"{self.folder} can't be used as a store of features ({error.strerror or error}).") from error
