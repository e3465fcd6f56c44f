"""What is known of a folder's files from the last time that they were read, kept in the user's cache folder.

A row holds for a file whose path, size, times of modification and change, and inode are those that it had. What a run
stores by content never goes by this.
"""

import contextlib
import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import PIL
from filelock import FileLock

from regraft.core.atomic import atomically
from regraft.core.paths import cache_dir
from regraft.data.digests import digest_of
from regraft.data.images.file_reading.facts import FACTS
from regraft.data.images.validation.likeness import near_pairs

MAX_BYTES = 2 * 10**9
"""Of all indexes together; those that were used longest ago go first."""

_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Index:
    """Facts by path.

    Attributes:
        rows: the place of each path, file system encoded, in `facts`.
        facts: (num_files,), FACTS.
        details: what is to be said of a file's problem, by its place.
    """

    rows: Mapping[bytes, int] = field(default_factory=dict)
    facts: np.ndarray = field(default_factory=lambda: np.zeros(0, FACTS))
    details: Mapping[int, str] = field(default_factory=dict)


@contextmanager
def kept_for(root: Path) -> Iterator[Path | None]:
    """Gives the file of a folder's index, which no other process writes meanwhile; None if there can be none."""
    path = _path_of(root)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock"))
        lock.acquire()
    except OSError as error:
        _log.warning("What is found isn't kept for the next time: %s can't be written (%s).", path, error.strerror)
        yield None
        return
    try:
        yield path
    finally:
        lock.release()


def load(path: Path) -> Index:
    """Returns what was kept; nothing if there is no such file, or it is damaged or another version's."""
    try:
        # The archive's own checksums tell whether it is whole.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            if kept["version"].tobytes() != _version():
                return Index()
            facts, names = kept["facts"], kept["names"].tobytes().split(b"\0")
            details = json.loads(kept["details"].tobytes() or b"{}")
        os.utime(path)
    except FileNotFoundError:
        return Index()
    except _DAMAGED as error:
        _log.warning("%s is damaged (%s); every file is read again.", path, error)
        return Index()
    if facts.dtype != FACTS or facts.shape != (len(names),):
        return Index()
    return Index(
        {name: row for row, name in enumerate(names)}, facts, {int(row): text for row, text in details.items()}
    )


def save(path: Path, names: Sequence[bytes], facts: np.ndarray, details: Mapping[int, str]) -> None:
    """Writes what is known, whole or not at all; the log says if it can't be."""
    version, joined, said = (
        np.frombuffer(text, np.uint8) for text in (_version(), b"\0".join(names), json.dumps(details).encode())
    )
    try:
        with atomically(path) as file:
            np.savez(file, facts=facts, version=version, names=joined, details=said)
        _make_room(path)
    except OSError as error:
        _log.warning("What was found isn't kept for the next time: %s can't be written (%s).", path, error.strerror)


def near_pairs_of(root: Path, thumbs: np.ndarray, sides: np.ndarray | None) -> np.ndarray:
    """Returns what `likeness.near_pairs` does, which isn't computed again for the same images of a folder."""
    path = _path_of(root).with_suffix(".pairs.npz")
    key = digest_of(_version(), thumbs.tobytes(), b"" if sides is None else sides.tobytes())
    with contextlib.suppress(*_DAMAGED), path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
        if kept["key"].tobytes() == key:
            found: np.ndarray = kept["pairs"]
            return found
    pairs = near_pairs(thumbs, sides)
    # The log has said by now that nothing can be kept, if that is so.
    with contextlib.suppress(OSError), atomically(path) as whole:
        np.savez(whole, key=np.frombuffer(key, np.uint8), pairs=pairs)
    return pairs


def _path_of(root: Path) -> Path:
    name = hashlib.blake2b(os.fsencode(root.resolve()), digest_size=16).hexdigest()
    return cache_dir("checks") / f"{name}.npz"


@cache
def _version() -> bytes:
    """Returns what a file's facts depend on besides the file: our own code, Pillow, and what Pillow can read."""
    digest = hashlib.blake2b(f"pillow {PIL.__version__} heif {find_spec('pillow_heif') is not None}".encode())
    for path in sorted(Path(__file__).parents[2].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


def _make_room(kept: Path) -> None:
    indexes = sorted(
        (path for path in kept.parent.glob("*.npz") if path != kept), key=lambda path: path.stat().st_mtime
    )
    excess = sum(path.stat().st_size for path in (kept, *indexes)) - MAX_BYTES
    for path in indexes:
        if excess <= 0:
            return
        excess -= path.stat().st_size
        path.unlink(missing_ok=True)
