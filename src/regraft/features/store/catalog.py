"""Which pools the features store holds, how large they are, and which go when there is no room.

A pool is a folder named by its key; what lies in it is the business of `pool`. No torch: the command line reads this.
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

from regraft.core.paths import cache_dir
from regraft.features.store.files import META, remove_content, segments, try_lock

log = logging.getLogger(__name__)

FORMAT = 1
"""Of the files; another one has other keys, so that no version reads what another has written."""

_KEY = re.compile(r"[0-9a-f]{32}")
_MAX_RESERVE_BYTES = 2**30
_RESERVED_SHARE = 0.05


class StoreFullError(OSError):
    """The store can't take what is to be computed, whatever is evicted."""


@dataclass(frozen=True)
class Entry:
    """One pool of the store.

    Attributes:
        key: 32 hex digits.
        label: what its rows are, for people; empty if that can't be read.
        num_bytes: of all its files.
        num_rows: images whose features it holds.
        last_used: seconds since the epoch.
        problem: why it can't be read, empty if it can.
    """

    key: str
    label: str
    num_bytes: int
    num_rows: int
    last_used: float
    problem: str


def default_dir() -> Path:
    """Returns the user's own store: below $REGRAFT_CACHE, or regraft in $XDG_CACHE_HOME or in ~/.cache."""
    return cache_dir("features")


def key_of(fields: Mapping[str, Any]) -> str:
    """Returns a pool's key, 32 hex digits: equal for equal fields in whatever order, and for this FORMAT only.

    Args:
        fields: all that the rows depend on besides their images' content; plain types.

    Raises:
        TypeError: a field that JSON can't hold.
    """
    return hashlib.blake2b(canonical([FORMAT, fields]).encode(), digest_size=16).hexdigest()


def canonical(value: Any) -> str:
    """Returns the one JSON text of a value: keys sorted, tuples as lists."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def read_meta(pool_folder: Path) -> dict[str, Any]:
    """Returns what a pool says of itself.

    Raises:
        ValueError: it can't be read, is no description of a pool, or one of another format.
        FileNotFoundError: there is none.
    """
    path = pool_folder / META
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{META} is no file")
    try:
        meta = json.loads(path.read_bytes(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:  # no JSON, no text at all, or brackets without end
        raise ValueError(f"{META} is damaged") from error
    if not isinstance(meta, dict) or not {"fields", "label", "row_shape", "dtype", "format"} <= meta.keys():
        raise ValueError(f"{META} is damaged")
    if meta["format"] != FORMAT:
        raise ValueError(f"it has format {meta['format']}, this version reads {FORMAT}")
    return meta


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def mark_used(pool_folder: Path) -> None:
    """Notes that a pool is in use now."""
    # A store that may only be read is one whose order of eviction is another user's business.
    with contextlib.suppress(OSError):
        os.utime(pool_folder / META)


def entries(folder: Path) -> list[Entry]:
    """Returns the store's pools, that used last first; none if there is no such folder."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise NotADirectoryError(f"features.dir: {folder} is a file; give the folder of the store.")
    paths = [path for path in folder.iterdir() if _KEY.fullmatch(path.name) and path.is_dir() and not path.is_symlink()]
    return sorted(map(_entry, paths), key=lambda entry: (-entry.last_used, entry.key))


def clear(folder: Path, key_prefix: str | None) -> tuple[int, int]:
    """Removes pools and returns how many, and their bytes; those that are being written stay, and the log says so.

    Args:
        folder: the store.
        key_prefix: how the keys of those to remove start; None for all.

    Raises:
        OSError: a file can't be removed.
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
    """Removes the pools that were used longest ago, until the store can take so many bytes more.

    Nothing is removed if that wouldn't do. A pool that another process reads may go: what it has mapped stays readable.

    Args:
        folder: the store; needn't exist.
        num_bytes: that are going to be added.
        max_bytes: greatest size of the store.
        keep: keys of pools that stay.
        what: the bytes are, for people.
        instead: what else people can do where there is no room.

    Raises:
        StoreFullError: the limit or the disk is too small.
    """
    pools = entries(folder)
    limit_room = max_bytes - sum(entry.num_bytes for entry in pools)
    disk_room = _disk_room(folder)
    excess = num_bytes - min(limit_room, disk_room)
    freed = 0
    with contextlib.ExitStack() as locks:
        victims = []
        for entry in reversed(pools):
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
            log.info("Features: %s (%s, %s) made room.", entry.key[:8], entry.label, decimal(entry.num_bytes))


def _limit_text(folder: Path, max_bytes: float, limit_room: float, disk_room: float) -> str:
    room = f"{max(min(limit_room, disk_room), 0) / 1e9:.3g} GB"
    if limit_room <= disk_room:
        return f"features.max_gb={max_bytes / 1e9:g} leaves {room} for them; raise features.max_gb"
    return f"the disk of {folder} has {room} for them; free space there, give another folder with features.dir=PATH"


def _disk_room(folder: Path) -> float:
    """Returns the bytes that may be written to the folder's disk, a reserve for everything else left out."""
    usage = shutil.disk_usage(next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()))
    return usage.free - min(_RESERVED_SHARE * usage.total, _MAX_RESERVE_BYTES)


def _entry(pool_folder: Path) -> Entry:
    stats = {}
    label, problem = "", ""
    try:
        for path in pool_folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process took it away since
                stats[path.name] = path.stat()
    except OSError as error:  # the folder itself, or another user's
        return Entry(pool_folder.name, label, 0, 0, 0.0, error.strerror or str(error))
    try:
        label = str(read_meta(pool_folder)["label"])
    except FileNotFoundError:
        problem = f"{META} is missing"
    except (ValueError, OSError) as error:
        problem = str(error)
    num_bytes = sum(stat.st_size for stat in stats.values())
    # One without a description goes first.
    last_used = stats[META].st_mtime if META in stats else 0.0
    num_rows = sum(segments(pool_folder).values())
    return Entry(pool_folder.name, label, num_bytes, num_rows, last_used, problem)


def _remove(pool_folder: Path) -> bool:
    """Removes a pool whose lock is held, and says whether; a folder in which somebody has put something else stays."""
    remove_content(pool_folder)
    try:
        pool_folder.rmdir()
    except OSError as error:
        log.warning("%s stays: %s.", pool_folder, error.strerror)
        return False
    return True
