"""The folder of a store entry: names of its files, its lock, and its removal. No torch."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from regraft.core.atomic import remove_leftovers

META = "meta.json"
SEGMENT_SUFFIX = ".safetensors"
_SEGMENT = re.compile(rf"[0-9a-f]{{32}}-(\d+){re.escape(SEGMENT_SUFFIX)}")


def segments(entry_folder: Path) -> dict[Path, int]:
    """Returns the sorted segment files in the folder of an entry, with their numbers of inputs from their names."""
    matches = {path: _SEGMENT.fullmatch(path.name) for path in sorted(entry_folder.glob(f"*{SEGMENT_SUFFIX}"))}
    return {path: int(match[1]) for path, match in matches.items() if match and path.is_file()}


@contextmanager
def lock(entry_folder: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Keeps other processes from writing an entry; the kernel releases the lock when its holder dies.

    Calls `on_wait` once if another process holds the lock, before waiting for it. The folder may not exist yet.
    """
    entry_folder.parent.mkdir(parents=True, exist_ok=True)
    held = _lock_of(entry_folder)
    try:
        held.acquire(timeout=0)
    except Timeout:
        on_wait()
        held.acquire()
    try:
        yield
    finally:
        held.release()


@contextmanager
def try_lock(entry_folder: Path) -> Iterator[str]:
    """Yields an empty string if it got the lock of an entry, otherwise the reason; never waits."""
    held = _lock_of(entry_folder)
    reason = ""
    try:
        held.acquire(timeout=0)
    except Timeout:  # is an OSError, too
        reason = "another process is writing it"
    except OSError as error:
        reason = error.strerror or str(error)
    try:
        yield reason
    finally:
        if not reason:
            held.release()


def remove_content(entry_folder: Path) -> None:
    """Removes the store's files from the folder of an entry; call it with the lock held.

    The description is removed last: a kill in between leaves a smaller entry, not a broken one.
    """
    for path in segments(entry_folder):
        path.unlink(missing_ok=True)
    remove_leftovers(entry_folder)
    (entry_folder / META).unlink(missing_ok=True)


def _lock_of(entry_folder: Path) -> FileLock:
    # Beside the folder, so that an eviction doesn't remove the file while others wait for the lock.
    return FileLock(f"{entry_folder}.lock")
