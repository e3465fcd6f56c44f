"""One process a job: a claim on its folder, which the system lets go of however the process ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_CLAIM = ".claim"
_STOP = ".stop"
_CHANGING = ".asking"


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Gives whether this process has the job of a folder to itself, for as long as the block lasts.

    Raises:
        OSError: the folder can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _CLAIM)
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
def changing(sweep: Path) -> Iterator[None]:
    """Keeps others, who go on with the sweep too, from saying at the same time which jobs it has.

    Raises:
        OSError: the folder can't be written.
    """
    sweep.mkdir(parents=True, exist_ok=True)
    with FileLock(sweep / _CHANGING):
        yield


def ask_to_stop(sweep: Path) -> None:
    """Has jobs of a sweep that haven't started stay so, in whatever process they would."""
    (sweep / _STOP).touch()


def is_to_stop(sweep: Path) -> bool:
    """Whether no further job is to start."""
    return (sweep / _STOP).exists()


def start_over(sweep: Path) -> None:
    """Lets jobs start again."""
    (sweep / _STOP).unlink(missing_ok=True)


def is_begun(folder: Path) -> bool:
    """Whether a process has ever had the job of a folder."""
    return (folder / _CLAIM).exists()
