"""Reads the files of a folder, each once and several at a time; those that haven't changed not at all."""

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from regraft.data.images.file_reading.facts import FACTS, read_facts
from regraft.data.images.file_reading.index import Index, kept_for, load, save

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
