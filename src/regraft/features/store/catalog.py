"""The catalog of the features store: its entries, their sizes, and eviction of the least recently used.

An entry is a folder named by its key. No torch: the command line reads this.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from regraft.core.errors import ConfigError
from regraft.core.paths import cache_dir
from regraft.features.store.files import META, remove_content, segments, try_lock

log = logging.getLogger(__name__)

FORMAT = 2
"""Version of the files, and part of all keys: no version reads the files of another."""

_KEY = re.compile(r"[0-9a-f]{32}")
_MAX_RESERVE_BYTES = 2**30
_RESERVED_SHARE = 0.05


class StoreFullError(OSError):
    """The store can't hold the features, even after eviction."""


@dataclass(frozen=True)
class EntryInfo:
    """Description of an entry of the store.

    Attributes:
        num_images: number of images whose features it holds.
        last_used: seconds since the epoch.
        problem: why it can't be read, empty if it can.
    """

    key: str
    label: str
    num_bytes: int
    num_images: int
    last_used: float
    problem: str


def default_dir() -> Path:
    """Returns the user's store: in $REGRAFT_CACHE, or in regraft in $XDG_CACHE_HOME or ~/.cache."""
    return cache_dir("features")


def key_of(fields: Mapping[str, Any]) -> str:
    """Returns the key of an entry, 32 hex digits: equal for equal fields, plain types, in any order."""
    return hashlib.blake2b(canonical([FORMAT, fields]).encode(), digest_size=16).hexdigest()


def canonical(value: Any) -> str:
    """Returns the canonical JSON text of a value: keys sorted, tuples as lists."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def read_meta(entry_folder: Path) -> dict[str, Any]:
    """Returns the description in the folder of an entry; raises ValueError if it is damaged."""
    path = entry_folder / META
    if path.exists() and not path.is_file():  # reading a pipe would block
        raise ValueError(f"{META} is not a regular file")
    try:
        meta = json.loads(path.read_bytes(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:  # not JSON, not text, or nested too deeply
        raise ValueError(f"{META} is damaged") from error
    if not isinstance(meta, dict) or not {"fields", "label", "feature_shape", "dtype", "format"} <= meta.keys():
        raise ValueError(f"{META} is damaged")
    if meta["format"] != FORMAT:
        raise ValueError(f"it has format {meta['format']}, this version reads {FORMAT}")
    return meta


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not valid JSON")


def mark_used(entry_folder: Path) -> None:
    """Marks an entry as used now; does nothing in a read-only store."""
    with contextlib.suppress(OSError):
        os.utime(entry_folder / META)


def entries(folder: Path) -> list[EntryInfo]:
    """Returns the entries of the store, the most recently used first; an empty list if the folder doesn't exist."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise ConfigError("features.dir", f"{folder} is a file", fix="Give the folder of the store.")
    paths = [path for path in folder.iterdir() if _KEY.fullmatch(path.name) and path.is_dir() and not path.is_symlink()]
    return sorted(map(_entry, paths), key=lambda entry: (-entry.last_used, entry.key))


def clear(folder: Path, key_prefix: str | None) -> tuple[int, int]:
    """Removes the entries whose key has a prefix (None: all), and returns their number and bytes.

    Warns of entries that are being written, which stay. Raises OSError if a file can't be removed.
    """
    removed = []
    for entry in entries(folder):
        if entry.key.startswith(key_prefix or ""):
            with try_lock(folder / entry.key) as reason:
                if reason:
                    log.warning("%s (%s) stays: %s.", entry.key[:8], entry.label, reason)
                    continue
                if _remove(folder / entry.key):
                    removed.append(entry.num_bytes)
    return len(removed), sum(removed)


def make_room(
    folder: Path,
    num_bytes: int,
    max_bytes: float,
    keep: Collection[str],
    what: str = "features",
    instead: str = "use features.dtype=float16",
) -> None:
    """Removes the least recently used entries until the store can hold `num_bytes` more.

    Nothing is removed if that wouldn't suffice. Entries that another process reads may be removed: memory-mapped
    features stay readable.

    Args:
        keep: keys of entries that stay.
        what: description of the bytes, for people.
        instead: an alternative if there is no room, for people.

    Raises:
        StoreFullError: the limit or the disk is too small.
    """
    present = entries(folder)
    limit_room = max_bytes - sum(entry.num_bytes for entry in present)
    disk_room = _disk_room(folder)
    excess = num_bytes - min(limit_room, disk_room)
    freed = 0
    with contextlib.ExitStack() as locks:
        victims = []
        for entry in reversed(present):
            if freed >= excess:
                break
            if entry.key not in keep and not locks.enter_context(try_lock(folder / entry.key)):
                victims.append(entry)
                freed += entry.num_bytes
        if freed < excess:
            needed = f"{num_bytes / 1e9:.3g} GB of {what} are needed"
            limit = _limit_text(folder, max_bytes, limit_room + freed, disk_room + freed)
            raise StoreFullError(f"{needed}, but {limit}, or {instead}.")
        for entry in victims:
            _remove(folder / entry.key)
            log.info("Features: %s (%s, %s) was evicted.", entry.key[:8], entry.label, decimal(entry.num_bytes))


def _limit_text(folder: Path, max_bytes: float, limit_room: float, disk_room: float) -> str:
    room = f"{max(min(limit_room, disk_room), 0) / 1e9:.3g} GB"
    if limit_room <= disk_room:
        return f"features.max_gb={max_bytes / 1e9:g} leaves {room} for them; raise features.max_gb"
    return f"the disk of {folder} has {room} for them; free space there, give another folder with features.dir=PATH"


def _disk_room(folder: Path) -> float:
    """Returns the bytes that may be written to the disk of the folder, minus a reserve."""
    usage = shutil.disk_usage(next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()))
    return usage.free - min(_RESERVED_SHARE * usage.total, _MAX_RESERVE_BYTES)


def _entry(entry_folder: Path) -> EntryInfo:
    stats = {}
    label, problem = "", ""
    try:
        for path in entry_folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # removed by another process
                stats[path.name] = path.stat()
    except OSError as error:  # the folder itself, or another user's
        return EntryInfo(entry_folder.name, label, 0, 0, 0.0, error.strerror or str(error))
    try:
        label = str(read_meta(entry_folder)["label"])
    except FileNotFoundError:
        problem = f"{META} is missing"
    except (ValueError, OSError) as error:
        problem = str(error)
    num_bytes = sum(stat.st_size for stat in stats.values())
    # Entries without a description are evicted first.
    last_used = stats[META].st_mtime if META in stats else 0.0
    num_images = sum(segments(entry_folder).values())
    return EntryInfo(entry_folder.name, label, num_bytes, num_images, last_used, problem)


def _remove(entry_folder: Path) -> bool:
    """Removes an entry whose lock is held; returns whether that worked: a folder with other files stays."""
    remove_content(entry_folder)
    try:
        entry_folder.rmdir()
    except OSError as error:
        log.warning("%s stays: %s.", entry_folder, error.strerror)
        return False
    return True
