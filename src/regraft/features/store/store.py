"""The features store as a run uses it: entries on disk, or in memory if the disk can't hold them."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from regraft.core.memory import memory_bytes
from regraft.features.extract import missing_positions
from regraft.features.record import StoredFeatures
from regraft.features.settings import FeatureSettings
from regraft.features.store.catalog import default_dir, key_of, make_room
from regraft.features.store.entry import StoreEntry
from regraft.features.store.memory import FeatureEntry, InMemoryEntry
from regraft.features.view import InputView

log = logging.getLogger(__name__)

_SHARE_OF_MEMORY = 0.25


class NoRoomError(OSError):
    """Neither the disk nor memory can hold the features."""


class NoFolderError(ValueError):
    """The folder of the store can't be determined or used."""


def memory_limit() -> float:
    """Returns the bytes of features that a run may hold in memory: a quarter of all memory."""
    return _SHARE_OF_MEMORY * memory_bytes(torch.device("cpu"))


class FeatureStore:
    """The entries that a run has opened.

    Attributes:
        is_only_on_disk: whether opening an entry that the folder can't hold is an error.
    """

    is_only_on_disk = False

    def __init__(self, settings: FeatureSettings) -> None:
        self.folder = folder_of(settings)
        self._max_bytes = settings.max_bytes
        self._dtype = settings.torch_dtype
        self._entries: dict[str, FeatureEntry] = {}
        self._in_memory: dict[tuple[Any, str], InMemoryEntry] = {}
        self._promised_bytes = 0

    @property
    def is_any_in_memory(self) -> bool:
        """Whether features of a view were moved to memory."""
        return bool(self._in_memory)

    def has(self, fields: Mapping[str, Any]) -> bool:
        """Whether the store has an entry of these fields; False if its folder can't be read."""
        try:
            return StoreEntry.exists(self.folder, fields)
        except OSError:  # reported when the entry is opened
            return False

    def entry(self, view: Any, fields: Mapping[str, Any], label: str, feature_shape: tuple[int, ...]) -> FeatureEntry:
        """Returns the entry of a view, opened once; it is in memory if the store can't be used.

        The other arguments are those of `StoreEntry`.
        """
        key = key_of(fields)
        if (view, key) in self._in_memory:
            return self._in_memory[view, key]
        if key not in self._entries:
            try:
                self._entries[key] = StoreEntry(self.folder, fields, label, feature_shape, self._dtype)
            except OSError as error:
                if self.is_only_on_disk:
                    raise
                log.warning("features: %s They are kept in memory for this run.", error)
                self._entries[key] = InMemoryEntry(feature_shape, self._dtype)
        return self._entries[key]

    def make_room(self, num_bytes: int, entries: Iterable[FeatureEntry]) -> None:
        """Makes room for features to be computed; NoRoomError if memory can't hold them, OSError if the disk can't."""
        in_memory = [entry for entry in entries if isinstance(entry, InMemoryEntry)]
        if any(entry not in self._in_memory.values() for entry in in_memory):
            self._require_memory(num_bytes)
        elif not in_memory:
            # Everything that this run has opened stays: features of another split may be there.
            make_room(self.folder, num_bytes, self._max_bytes, [entry.key for entry in self._entries.values()])

    def move_to_memory(self, view: InputView, stored: Iterable[StoredFeatures]) -> None:
        """Moves a partially stored view into memory, copying what is on disk; raises NoRoomError if it doesn't fit."""
        on_disk = [each for each in stored if isinstance(each.entry, StoreEntry)]
        moved = [each for each in on_disk if len(missing_positions(view, [each.entry]))]
        everything = torch.arange(len(view))
        num_bytes = sum(each.num_bytes(view, everything) for each in moved)
        self._require_memory(num_bytes)
        self._promised_bytes += num_bytes
        for each in moved:
            entry, keys = each.entry, each.keys(view, everything)
            copy = InMemoryEntry(entry.feature_shape, self._dtype)
            slots = entry.find(keys)
            found = (slots >= 0).nonzero()[:, 0]
            if len(found):
                seconds = (entry.seconds_per_input or 0.0) * len(found)
                copy.append(keys[found.numpy()], entry.gather(slots[found]), seconds)
            # Other splits still read the entry on disk.
            self._in_memory[view, entry.key] = copy

    def _require_memory(self, num_more_bytes: int) -> None:
        """Raises NoRoomError if memory can't hold so many bytes more than it holds already."""
        held = [entry for entry in self._entries.values() if isinstance(entry, InMemoryEntry)]
        num_bytes = num_more_bytes + self._promised_bytes + sum(each.num_inputs * each.feature_bytes for each in held)
        limit = memory_limit()
        if num_more_bytes and num_bytes > limit:
            raise NoRoomError(
                f"{num_bytes / 1e9:.3g} GB of features fit neither the store nor a quarter of memory "
                f"({limit / 1e9:.3g} GB). Raise features.max_gb, free disk space, or use features.dtype=float16."
            )


def folder_of(settings: FeatureSettings) -> Path:
    """Returns the folder of the store, which may not exist yet; NoFolderError if its home folder can't be found."""
    try:
        return default_dir() if settings.dir is None else Path(settings.dir).expanduser()
    except RuntimeError as error:  # from pathlib, for a user unknown to the machine
        given = "" if settings.dir is None else f" {settings.dir!r}"
        raise NoFolderError(
            f"the store's folder{given} is in a home folder that can't be found; give another folder with "
            "features.dir=PATH."
        ) from error
