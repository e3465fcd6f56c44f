"""Reads the files of a folder, each once and several at a time; those that haven't changed not at all."""

import contextlib
import hashlib
import json
import logging
import os
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import PIL
from filelock import FileLock

from regraft.core.atomic import atomically
from regraft.core.paths import cache_dir
from regraft.data.content_hash import digest_of
from regraft.data.images.file_reading.facts import FACTS, read_facts
from regraft.data.images.validation.duplicates import near_pairs


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


Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]
"""Called with the number of files that are to be read, gives what counts those that have been."""
_NUM_THREADS = 8
_CHUNK = 64


# Bytes a file: below, to hand the interpreter lock over costs more than decoding at the same time saves.
_WORTH_THREADS = 8_192


# A file changed within a clock's tick after it was read would look unchanged.
_TICK_NS = 100_000_000
_LOG_SECONDS = 10.0
_KEY = ["size", "mtime_ns", "ctime_ns", "inode"]  # the time of change, for a copy that keeps the other's
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Read:
    """What is known of files.

    Attributes:
        facts: (num_files,), FACTS, in the order of the paths.
        details: what is to be said of a file's problem, by its place.
        is_fresh: (num_files,), bool: which of them were read just now.
    """

    facts: np.ndarray
    details: dict[int, str]
    is_fresh: np.ndarray


def read_all(root: Path, paths: Sequence[str], closed: Mapping[str, str], progress: Progress) -> Read:
    """Returns the facts of files; those that have been read before and haven't changed since are taken as known.

    Args:
        root: what the paths are relative to.
        paths: of the files.
        closed: those of them that mustn't be opened, and why.
        progress: shows how far it is.
    """
    started_ns = time.time_ns()
    with kept_for(root) as place:
        names = [os.fsencode(path) for path in paths]
        read, is_known = _known(root, paths, names, Index() if place is None else load(place))
        for number, path in enumerate(paths):
            if path in closed:
                read.facts[number] = np.zeros((), FACTS)
                read.facts[number]["problem"], read.details[number] = "closed", closed[path]
                is_known[number] = True
        missing = np.flatnonzero(~is_known)
        if len(missing):
            try:
                _read_missing(root, paths, missing, read, progress)
            finally:
                # What a Ctrl-C leaves is of use, too.
                if place is not None:
                    _keep(place, names, read, is_known, started_ns)
    return read


@contextmanager
def logged_progress(num_files: int) -> Iterator[Callable[[int], None]]:
    """Says in the log how far it is, every few seconds; nothing of what is done sooner."""
    num_done, said = 0, time.monotonic()

    def count(num: int) -> None:
        nonlocal num_done, said
        num_done += num
        if time.monotonic() - said > _LOG_SECONDS:
            said = time.monotonic()
            _log.info("Checked %s of %s new images.", f"{num_done:,}", f"{num_files:,}")

    yield count


def _known(root: Path, paths: Sequence[str], names: Sequence[bytes], index: Index) -> tuple[Read, np.ndarray]:
    """Returns what the index knows of the files, and of which it does."""
    rows = np.array([index.rows.get(name, -1) for name in names], np.int64)
    facts = np.zeros(len(paths), FACTS)
    is_known = rows >= 0
    facts[is_known] = index.facts[rows[is_known]]
    now = np.zeros((len(paths), len(_KEY)), np.uint64)
    for number in np.flatnonzero(is_known).tolist():
        now[number] = _key_of(root, paths[number])
    then = np.stack([facts[name].astype(np.uint64) for name in _KEY], 1)
    is_known &= (now == then).all(1)
    facts[~is_known] = np.zeros((), FACTS)
    row_numbers = {int(row): number for number, row in enumerate(rows.tolist()) if is_known[number]}
    details = {row_numbers[row]: text for row, text in index.details.items() if row in row_numbers}
    return Read(facts, details, np.zeros(len(paths), bool)), is_known


def _key_of(root: Path, path: str) -> tuple[int, ...]:
    try:
        found = os.stat(f"{root}{os.sep}{path}")  # noqa: PTH116 (a Path a file is most of the time)
    except OSError:
        return (0,) * len(_KEY)
    return found.st_size, found.st_mtime_ns % 2**64, found.st_ctime_ns % 2**64, found.st_ino


def _read_missing(root: Path, paths: Sequence[str], missing: np.ndarray, read: Read, progress: Progress) -> None:
    """Reads files and fills in their facts."""
    chunks = np.array_split(missing, range(_CHUNK, len(missing), _CHUNK))
    sizes = [_key_of(root, paths[number])[0] for number in chunks[0].tolist()]
    num_threads = _NUM_THREADS if np.mean(sizes) > _WORTH_THREADS else 1
    with (
        warnings.catch_warnings(),
        progress(len(missing)) as count,
        ThreadPoolExecutor(num_threads) as pool,
    ):
        # What Pillow warns of, a large picture or odd EXIF, is found and told, or harmless.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        found = pool.map(partial(_read_chunk, root, paths), chunks)
        for chunk, rows in zip(chunks, found, strict=True):
            for number, (facts, detail) in zip(chunk.tolist(), rows, strict=True):
                read.facts[number] = facts
                read.is_fresh[number] = True
                if detail:
                    read.details[number] = detail
            count(len(chunk))


def _read_chunk(root: Path, paths: Sequence[str], numbers: np.ndarray) -> list[tuple[np.ndarray, str]]:
    return [read_facts(f"{root}{os.sep}{paths[number]}") for number in numbers.tolist()]


def _keep(place: Path, names: Sequence[bytes], read: Read, is_known: np.ndarray, started_ns: int) -> None:
    """Writes what is known into the index, but of files whose next change couldn't be told."""
    is_old = read.facts["mtime_ns"] < started_ns - _TICK_NS
    is_read = ~np.isin(read.facts["problem"], [b"unreadable", b"closed"])
    kept = np.flatnonzero((is_known | (read.is_fresh & is_old)) & is_read)
    places = {int(number): row for row, number in enumerate(kept)}
    details = {places[number]: text for number, text in read.details.items() if number in places}
    save(place, [names[number] for number in kept.tolist()], read.facts[kept], details)


MAX_BYTES = 2 * 10**9
"""Of all indexes together; those that were used longest ago go first."""
_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)


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
