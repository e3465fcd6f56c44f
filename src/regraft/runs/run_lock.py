"""One process a run: a lock on its folder, which the system lets go of however the process ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_NAME = ".running"
_PATIENCE_SECONDS = 10
"""Loader workers of a killed process hold its lock until they notice; who lists runs holds it for a moment."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps other processes, of other machines too, from running the run of a folder inside the block.

    Where the file system has no locks, it doesn't.

    Raises:
        ValueError: another process runs it.
    """
    lock = FileLock(folder / _NAME)
    try:
        lock.acquire(timeout=_PATIENCE_SECONDS)
    except Timeout:
        raise ValueError(f"run: another process runs {folder}. Wait for it, or stop it first.") from None
    except NotImplementedError:
        yield
        return
    try:
        yield
    finally:
        lock.release()


def is_held(folder: Path) -> bool:
    """Whether a process runs the run of a folder; one that left no lock counts as one."""
    if not (folder / _NAME).exists():
        return True
    lock = FileLock(folder / _NAME)
    try:
        lock.acquire(timeout=0)
    except (Timeout, NotImplementedError, OSError):
        return True
    lock.release()
    return False
