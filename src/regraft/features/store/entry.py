"""Entries of the features store on disk.

Features are found by the content of their inputs: a changed image has another hash, a subset or a grown folder uses
what is there, and labels aren't stored.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from regraft.core.atomic import remove_leftovers, write_atomically
from regraft.features.share import WHOLE, Share
from regraft.features.store import catalog, files
from regraft.features.store.memory import FeatureEntry, is_among
from regraft.features.store.segments import DamagedError, Segment, hashes_in, read, write

log = logging.getLogger(__name__)

_NUM_THREADS = 4


class StoreEntry(FeatureEntry):
    """An entry in a folder of the store, shared by processes and runs; creates the folder if necessary.

    Args:
        fields: everything that features depend on except for the content of their inputs; plain types.

    Raises:
        OSError: the folder can't be made or written. An existing entry can be read from a read-only store.
    """

    def __init__(
        self, store: Path, fields: Mapping[str, Any], label: str, feature_shape: tuple[int, ...], dtype: torch.dtype
    ) -> None:
        super().__init__(feature_shape, dtype)
        self.key = catalog.key_of(fields)
        self.folder = store / self.key
        description = {"feature_shape": list(feature_shape), "dtype": str(dtype).removeprefix("torch.")}
        self._meta = {"fields": dict(fields), "label": label, **description, "format": catalog.FORMAT}
        self._arguments = store, fields, label, feature_shape, dtype
        self._names_seen: set[str] = set()
        try:
            if self._problem() is not None:
                with files.lock(self.folder, self._log_waiting):
                    self._prepare()
            self.refresh()
        except OSError as error:
            self._fail(error)
        catalog.mark_used(self.folder)

    def __reduce__(self) -> tuple[Any, ...]:
        # Loader processes open it again: pickling would copy the features instead of mapping them.
        return StoreEntry, self._arguments

    @staticmethod
    def exists(store: Path, fields: Mapping[str, Any]) -> bool:
        """Whether the store has an entry of these fields."""
        return (store / catalog.key_of(fields) / files.META).is_file()

    def refresh(self) -> None:
        """Reads new segments; removes those that are damaged, with a warning, and those that were merged."""
        # Another process may merge segments meanwhile.
        while paths := [path for path in files.segments(self.folder) if path.name not in self._names_seen]:
            # Checksums and reading release the interpreter lock.
            with ThreadPoolExecutor(_NUM_THREADS) as threads:
                found = [segment for segment in threads.map(self._read, paths) if segment is not None]
            self._names_seen.update(path.name for path in paths)
            merged = {self.folder / name for segment in found for name in segment.replaces}
            _remove(path for path in paths if path in merged)
            if new := [segment for segment in found if segment.path not in merged]:
                self._add(new)

    def is_on_disk(self, content_hashes: np.ndarray) -> np.ndarray:
        """Returns which inputs are stored now, also by other processes, (num_inputs,), bool; no features are read."""
        found = [hashes_in(path) for path in files.segments(self.folder)]
        return is_among(content_hashes, np.concatenate([content_hashes[:0], *found]))

    @contextmanager
    def lock(self, on_wait: Callable[[], None], share: Share = WHOLE) -> Iterator[None]:
        """Keeps other processes from computing the same; reads what they have stored once the lock is held."""
        with ExitStack() as stack:
            try:
                # While this process waited, another one may have evicted the entry.
                stack.enter_context(files.lock(self.folder, on_wait, share, self._prepare))
                self.refresh()
            except OSError as error:
                self._fail(error)
            self._num_shared = 0 if share.is_whole else len(self._segments)
            yield

    def _kept(self, segment: Segment) -> Segment:
        try:
            path = write(self.folder, self.key, segment)
        except OSError as error:
            self._fail(error)
        self._names_seen.add(path.name)
        written = self._read(path)
        if written is None:
            raise OSError(f"{path} differs from what was written to it; check the disk.")
        _remove(self.folder / name for name in segment.replaces)
        self._names_seen.difference_update(segment.replaces)
        return written

    def _checked(self, segment: Segment) -> Segment | None:
        assert segment.path is not None, "it has been read from a file"
        return self._read(segment.path)

    def _read(self, path: Path) -> Segment | None:
        """Returns a segment; removes it and returns None if it is damaged."""
        try:
            return read(path, self.key, self.feature_shape, self.dtype)
        except FileNotFoundError:  # evicted or merged by another process
            return None
        except DamagedError as error:
            log.warning("features: %s is damaged (%s); what it held is computed again.", path, error)
            _remove([path])
            return None

    def _problem(self) -> str | None:
        """Returns why the folder isn't a valid folder of this entry, None if it is."""
        try:
            meta = catalog.read_meta(self.folder)
        except FileNotFoundError:
            return f"it has no {files.META}"
        except ValueError as error:
            return str(error)
        is_same = catalog.canonical(meta["fields"]) == catalog.canonical(self._meta["fields"])
        return None if is_same else f"its {files.META} is of other features"

    def _prepare(self) -> None:
        """Makes the folder; empties an invalid one, with a warning. Call it with the lock held."""
        problem = self._problem()
        if problem is not None:
            if files.segments(self.folder) or (self.folder / files.META).exists():
                log.warning("features: %s is emptied: %s. Its content is computed again.", self.folder, problem)
            self.folder.mkdir(parents=True, exist_ok=True)
            files.remove_content(self.folder)
            write_atomically(self.folder / files.META, catalog.canonical(self._meta).encode())
        remove_leftovers(self.folder)

    def _log_waiting(self) -> None:
        log.info("features: another process is writing %s; waiting for it.", self.folder)

    def _fail(self, error: OSError) -> NoReturn:
        raise OSError(f"{self.folder} can't be used as a store of features ({error.strerror or error}).") from error


def _remove(paths: Iterable[Path]) -> None:
    """Removes segments; a read-only store stays as it is."""
    for path in paths:
        with suppress(OSError):
            path.unlink()
