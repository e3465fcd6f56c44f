"""Reading of a folder's files in several threads, with an index on disk so that unchanged files aren't read again."""

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
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import PIL
from filelock import FileLock

from regraft.core.atomic import atomically
from regraft.core.console import ProgressBar
from regraft.core.content_hash import content_hash
from regraft.core.paths import cache_dir
from regraft.data.images.file_reading.facts import FACTS, read_facts
from regraft.data.images.validation.duplicates import near_pairs


@dataclass(frozen=True)
class Index:
    """Facts by path.

    Attributes:
        names: the paths, file system encoded, joined by zero bytes: one object, however many there are.
        facts: (num_files,), FACTS, in the order of the names.
        details: detail of a file's problem, by its index.
    """

    names: bytes = b""
    facts: np.ndarray = field(default_factory=lambda: np.zeros(0, FACTS))
    details: Mapping[int, str] = field(default_factory=dict)

    def rows_of(self, names: Sequence[bytes]) -> np.ndarray:
        """Returns the index of each name in `facts`, (num_names,), int64; -1 for those that aren't there."""
        if not len(self.facts):
            return np.full(len(names), -1)
        if b"\0".join(names) == self.names:  # usually the folder is the same as the last time
            return np.arange(len(names))
        rows = {name: row for row, name in enumerate(self.names.split(b"\0"))}
        return np.array([rows.get(name, -1) for name in names], np.int64)


_NUM_THREADS = 8
_CHUNK = 64
# Below, passing on the interpreter lock costs more than decoding in parallel saves.
MIN_FILE_BYTES_FOR_THREADS = 8_192
# A file changed within a clock's tick after it was read would look unchanged.
_TICK_NS = 100_000_000
_LOG_SECONDS = 10.0
_KEY = ["size", "mtime_ns", "ctime_ns", "inode"]  # ctime, because a copy may keep the original's mtime
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Read:
    """The result of `read_all`.

    Attributes:
        facts: (num_files,), FACTS, in the order of the paths.
        details: detail of a file's problem, by its index.
        is_fresh: (num_files,), bool: which files were read just now.
    """

    facts: np.ndarray
    details: dict[int, str]
    is_fresh: np.ndarray


def read_all(
    root: Path, paths: Sequence[str], closed: Mapping[str, str], progress: ProgressBar, *, has_range: bool = False
) -> Read:
    """Returns the facts of files; takes those of unchanged files from the index.

    Args:
        paths: relative to `root`.
        closed: reasons for those that mustn't be opened, by path.
        has_range: whether a `value_range` is given, so that an unknown range isn't a problem.
    """
    started_ns = time.time_ns()
    with index_of(root) as index_path:
        names = [os.fsencode(path) for path in paths]
        read, is_known = _known(root, paths, names, Index() if index_path is None else load(index_path))
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
                # Also after Ctrl-C.
                if index_path is not None:
                    _keep(index_path, names, read, is_known, started_ns)
    if has_range:
        read.facts["problem"][read.facts["problem"] == b"unknown_range"] = b""
    return read


@contextmanager
def logged_progress(num_files: int, message: str = "Checked %s of %s new images.") -> Iterator[Callable[[int], None]]:
    """Logs the progress every few seconds."""
    num_done, logged = 0, time.monotonic()

    def count(num: int) -> None:
        nonlocal num_done, logged
        num_done += num
        if time.monotonic() - logged > _LOG_SECONDS:
            logged = time.monotonic()
            _log.info(message, f"{num_done:,}", f"{num_files:,}")

    yield count


def _known(root: Path, paths: Sequence[str], names: Sequence[bytes], index: Index) -> tuple[Read, np.ndarray]:
    """Returns the facts in the index, and which files it knows, (num_files,), bool."""
    rows = index.rows_of(names)
    is_known = rows >= 0
    if np.array_equal(rows, np.arange(len(index.facts))):
        facts = index.facts
    else:
        facts = np.zeros(len(paths), FACTS)
        facts[is_known] = index.facts[rows[is_known]]
    now = np.zeros((len(paths), len(_KEY)), np.uint64)
    for number in np.flatnonzero(is_known).tolist():
        now[number] = _key_of(root, paths[number])
    for column, name in enumerate(_KEY):
        is_known &= now[:, column] == facts[name].astype(np.uint64)
    facts[~is_known] = np.zeros((), FACTS)
    with_detail = np.flatnonzero(is_known & np.isin(rows, list(index.details)))
    details = {int(number): index.details[int(rows[number])] for number in with_detail}
    return Read(facts, details, np.zeros(len(paths), bool)), is_known


def _key_of(root: Path, path: str) -> tuple[int, ...]:
    try:
        found = os.stat(f"{root}{os.sep}{path}")  # noqa: PTH116 (a Path a file is most of the time)
    except OSError:
        return (0,) * len(_KEY)
    return found.st_size, found.st_mtime_ns % 2**64, found.st_ctime_ns % 2**64, found.st_ino


def _read_missing(root: Path, paths: Sequence[str], missing: np.ndarray, read: Read, progress: ProgressBar) -> None:

    def read_chunk(numbers: np.ndarray) -> list[tuple[np.ndarray, str]]:
        return [read_facts(f"{root}{os.sep}{paths[number]}") for number in numbers.tolist()]

    chunks = np.array_split(missing, range(_CHUNK, len(missing), _CHUNK))
    sizes = [_key_of(root, paths[number])[0] for number in chunks[0].tolist()]
    num_threads = _NUM_THREADS if np.mean(sizes) > MIN_FILE_BYTES_FOR_THREADS else 1
    with warnings.catch_warnings(), progress(len(missing)) as count, ThreadPoolExecutor(num_threads) as pool:
        # Pillow warns of large images or odd EXIF, which is either reported or harmless.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for chunk, rows in zip(chunks, pool.map(read_chunk, chunks), strict=True):
            for number, (facts, detail) in zip(chunk.tolist(), rows, strict=True):
                read.facts[number] = facts
                read.is_fresh[number] = True
                if detail:
                    read.details[number] = detail
            count(len(chunk))


def _keep(index_path: Path, names: Sequence[bytes], read: Read, is_known: np.ndarray, started_ns: int) -> None:
    """Writes the index, without files whose next change might go unnoticed."""
    is_old = read.facts["mtime_ns"] < started_ns - _TICK_NS
    is_read = ~np.isin(read.facts["problem"], [b"unreadable", b"closed"])
    is_kept = (is_known | (read.is_fresh & is_old)) & is_read
    rows = is_kept.cumsum() - 1
    details = {int(rows[number]): text for number, text in read.details.items() if is_kept[number]}
    facts = read.facts if is_kept.all() else read.facts[is_kept]
    save(index_path, [names[number] for number in np.flatnonzero(is_kept).tolist()], facts, details)


MAX_BYTES = 2 * 10**9
"""Limit of all indexes together; the least recently used are removed first."""
_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)


@contextmanager
def index_of(root: Path) -> Iterator[Path | None]:
    """Yields the path of a folder's index, locked for other processes; None if it can't be written."""
    path = _path_of(root)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock"))
        lock.acquire()
    except OSError as error:
        _log.warning("The files will be read again the next time: %s can't be written (%s).", path, error.strerror)
        yield None
        return
    try:
        yield path
    finally:
        lock.release()


def load(path: Path) -> Index:
    """Returns an index; an empty one if the file doesn't exist, is damaged, or was written by another version."""
    try:
        # The checksums of the archive tell whether it is intact.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            if kept["version"].tobytes() != _version():
                return Index()
            facts, names = kept["facts"], kept["names"].tobytes()
            details = json.loads(kept["details"].tobytes() or b"{}")
        os.utime(path)
    except FileNotFoundError:
        return Index()
    except _DAMAGED as error:
        _log.warning("%s is damaged (%s); every file is read again.", path, error)
        return Index()
    if facts.dtype != FACTS or facts.shape != (names.count(b"\0") + 1,):
        return Index()
    return Index(names, facts, {int(row): text for row, text in details.items()})


def save(path: Path, names: Sequence[bytes], facts: np.ndarray, details: Mapping[int, str]) -> None:
    """Writes an index atomically; logs a warning if that fails."""
    version, joined, encoded_details = (
        np.frombuffer(text, np.uint8) for text in (_version(), b"\0".join(names), json.dumps(details).encode())
    )
    try:
        with atomically(path) as file:
            np.savez(file, facts=facts, version=version, names=joined, details=encoded_details)
        _make_room(path)
    except OSError as error:
        _log.warning("The files will be read again the next time: %s can't be written (%s).", path, error.strerror)


def near_pairs_of(root: Path, thumbs: np.ndarray, sides: np.ndarray | None) -> np.ndarray:
    """Returns the result of `near_pairs`, cached on disk for the same images of a folder."""
    path = _path_of(root).with_suffix(".pairs.npz")
    key = content_hash(_version(), thumbs.tobytes(), b"" if sides is None else sides.tobytes())
    with contextlib.suppress(*_DAMAGED), path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
        if kept["key"].tobytes() == key:
            return kept["pairs"]
    pairs = near_pairs(thumbs, sides)
    # If nothing can be written, a warning has been logged by now.
    with contextlib.suppress(OSError), atomically(path) as whole:
        np.savez(whole, key=np.frombuffer(key, np.uint8), pairs=pairs)
    return pairs


def _path_of(root: Path) -> Path:
    name = hashlib.blake2b(os.fsencode(root.resolve()), digest_size=16).hexdigest()
    return cache_dir("checks") / f"{name}.npz"


@cache
def _version() -> bytes:
    """Returns a hash of what facts depend on besides the file: this package's code, Pillow, and its HEIC plugin."""
    digest = hashlib.blake2b(f"pillow {PIL.__version__} heif {find_spec('pillow_heif') is not None}".encode())
    for path in sorted(Path(__file__).parents[2].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


def _make_room(kept: Path) -> None:
    indexes = sorted(set(kept.parent.glob("*.npz")) - {kept}, key=lambda path: path.stat().st_mtime)
    excess = sum(path.stat().st_size for path in (kept, *indexes)) - MAX_BYTES
    for path in indexes:
        if excess <= 0:
            return
        excess -= path.stat().st_size
        path.unlink(missing_ok=True)
