"""The features store as a run uses it: entries on disk, or in memory if the disk can't hold them."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from regraft.core.memory import memory_bytes
from regraft.features.settings import FeatureSettings
from regraft.features.store.catalog import default_dir, key_of, make_room
from regraft.features.store.entry import StoreEntry
from regraft.features.store.memory import FeatureEntry, InMemoryEntry

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
        is_in_memory: whether features that are added are kept in memory, see `use_memory`.
    """

    is_only_on_disk = False
    is_in_memory = False

    def __init__(self, settings: FeatureSettings) -> None:
        self.folder = folder_of(settings)
        self._max_bytes = settings.max_bytes
        self._dtype = settings.torch_dtype
        self._entries: dict[str, FeatureEntry] = {}

    @property
    def location(self) -> str:
        """Where features are kept, for people."""
        return "memory" if self.is_in_memory else str(self.folder)

    def has(self, fields: Mapping[str, Any]) -> bool:
        """Whether there is an entry of these fields, also one in memory; False if the folder can't be read."""
        try:
            return key_of(fields) in self._entries or StoreEntry.exists(self.folder, fields)
        except OSError:  # reported when the entry is opened
            return False

    def entry(self, fields: Mapping[str, Any], label: str, feature_shape: tuple[int, ...]) -> FeatureEntry:
        """Returns an entry, opened once; the arguments are those of `StoreEntry`."""
        key = key_of(fields)
        if key not in self._entries:
            found: FeatureEntry
            try:
                found = StoreEntry(self.folder, fields, label, feature_shape, self._dtype)
            except OSError as error:
                if self.is_only_on_disk:
                    raise
                self.use_memory(error)
                found = InMemoryEntry(feature_shape, self._dtype)
            self._entries[key] = InMemoryEntry.above(found) if self.is_in_memory else found
        return self._entries[key]

    def use_memory(self, error: OSError) -> None:
        """Keeps what is added from now on in memory, because of an error of the disk, with a warning.

        What is on disk is still read there.
        """
        if self.is_in_memory:
            return
        self.is_in_memory = True
        log.warning("features: %s Those that are missing are kept in memory for this run.", error)
        self._entries = {key: InMemoryEntry.above(entry) for key, entry in self._entries.items()}

    def make_room(self, num_bytes: int) -> None:
        """Makes room for features to be computed; NoRoomError if memory can't hold them, OSError if the disk can't."""
        if not self.is_in_memory:
            # Everything that this run has opened stays: features of another split may be there.
            make_room(self.folder, num_bytes, self._max_bytes, self._entries)
            return
        held = sum(entry.bytes_in_memory for entry in self._entries.values())
        limit = memory_limit()
        if held + num_bytes > limit:
            raise NoRoomError(
                f"{(held + num_bytes) / 1e9:.3g} GB of features fit neither the store nor a quarter of memory "
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
