"""The files of a pool's folder: what they are called, who may write them, and how they go. No torch."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from regraft.core.atomic import remove_leftovers

META = "meta.json"
SEGMENT_SUFFIX = ".safetensors"
_SEGMENT = re.compile(rf"[0-9a-f]{{32}}-(\d+){re.escape(SEGMENT_SUFFIX)}")


def segments(pool_folder: Path) -> dict[Path, int]:
    """Returns the files of rows in a pool's folder with the number of rows that their names tell, sorted.

    Whatever else lies there is somebody else's.
    """
    matches = {path: _SEGMENT.fullmatch(path.name) for path in sorted(pool_folder.glob(f"*{SEGMENT_SUFFIX}"))}
    return {path: int(match[1]) for path, match in matches.items() if match and path.is_file()}


@contextmanager
def lock(pool_folder: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Keeps other processes from writing a pool; the kernel lets go of the lock when its holder dies.

    Args:
        pool_folder: the pool's folder, which needn't exist.
        on_wait: called once if another process holds the lock, before it is waited for.

    Raises:
        OSError: the lock's file can't be made.
    """
    pool_folder.parent.mkdir(parents=True, exist_ok=True)
    held = _lock_of(pool_folder)
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
def try_lock(pool_folder: Path) -> Iterator[str]:
    """Gives an empty text if it holds the lock of a pool, else why it doesn't; never waits."""
    held = _lock_of(pool_folder)
    reason = ""
    try:
        held.acquire(timeout=0)
    except Timeout:  # an OSError, too
        reason = "another process is writing it"
    except OSError as error:
        reason = error.strerror or str(error)
    try:
        yield reason
    finally:
        if not reason:
            held.release()


def remove_content(pool_folder: Path) -> None:
    """Removes the files that are ours from a pool's folder; whoever calls it holds the lock.

    The description goes last: after a kill in between, what is left is a smaller pool and not a broken one.
    """
    for path in segments(pool_folder):
        path.unlink(missing_ok=True)
    remove_leftovers(pool_folder)
    (pool_folder / META).unlink(missing_ok=True)


def _lock_of(pool_folder: Path) -> FileLock:
    # Beside the folder: in it, an eviction would take the file away from those who wait for its lock.
    return FileLock(f"{pool_folder}.lock")
