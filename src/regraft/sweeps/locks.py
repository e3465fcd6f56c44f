"""Locks of jobs and of a sweep's manifest, which the system releases however a process ends; and the stop request."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_JOB_LOCK = ".job.lock"
_MANIFEST_LOCK = ".manifest.lock"
_STOP = ".stop"


@contextmanager
def job_lock(folder: Path) -> Iterator[bool]:
    """Locks a job inside the block; yields False if another process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _JOB_LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def manifest_lock(sweep: Path) -> Iterator[None]:
    """Keeps other processes that resume the same sweep from changing its jobs inside the block."""
    sweep.mkdir(parents=True, exist_ok=True)
    with FileLock(sweep / _MANIFEST_LOCK):
        yield


def request_stop(sweep: Path) -> None:
    """Keeps jobs of a sweep that haven't started from starting, in any process."""
    (sweep / _STOP).touch()


def is_stop_requested(sweep: Path) -> bool:
    """Whether no further job may start."""
    return (sweep / _STOP).exists()


def clear_stop(sweep: Path) -> None:
    """Allows jobs to start again."""
    (sweep / _STOP).unlink(missing_ok=True)


def was_started(folder: Path) -> bool:
    """Whether a process has ever started the job of a folder."""
    return (folder / _JOB_LOCK).exists()
