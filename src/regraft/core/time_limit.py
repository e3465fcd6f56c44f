"""An end to what a command does when its time is over, wherever it is then."""

import math
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from regraft.core.startup import is_own_process

_SECONDS_BETWEEN = 0.25
"""After which TimeOver is raised again: code in C that imports or frees something may have dropped it."""


class TimeOver(BaseException):
    """The time of a command is over."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeOver inside the block after some seconds, in the main thread of a command's own process.

    A call into C that is running then ends first. Elsewhere, and where the system has no signals of threads (Windows),
    nothing happens.
    """
    is_possible = is_own_process() and hasattr(signal, "pthread_kill") and math.isfinite(seconds)
    if not is_possible or threading.current_thread() is not threading.main_thread():
        yield
        return
    has_ended, main = threading.Event(), threading.get_ident()

    def ring() -> None:
        pause = max(0.0, seconds)
        while not has_ended.wait(pause):
            # Not an alarm of the system: a training that has been told to end has one of its own.
            signal.pthread_kill(main, signal.SIGALRM)
            pause = _SECONDS_BETWEEN

    def end_block(signum: int, frame: FrameType | None) -> None:
        # A block that has ended keeps what it has done, and one that is ending cleans up.
        if not has_ended.is_set() and not _is_ending():
            raise TimeOver

    before = signal.signal(signal.SIGALRM, end_block)
    clock = threading.Thread(target=ring, name="time limit", daemon=True)
    clock.start()
    try:
        yield
    finally:
        has_ended.set()
        clock.join()  # it may just be about to ring, and by default a process ends then
        signal.signal(signal.SIGALRM, before)


def _is_ending() -> bool:
    """Whether TimeOver, or another end such as Ctrl-C, has been raised, and what handles it is running."""
    error = sys.exception()
    while isinstance(error, Exception):
        error = error.__context__
    return error is not None
