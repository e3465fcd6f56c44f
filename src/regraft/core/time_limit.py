"""An end to what a command does when its time is over, wherever it is then."""

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from regraft.core.startup import is_own_process


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
    has_ended = False

    def end_block(signum: int, frame: FrameType | None) -> None:
        if not has_ended:
            raise TimeOver

    before = signal.signal(signal.SIGALRM, end_block)
    # Not an alarm of the system: a training that has been told to end has one of its own.
    ring = signal.pthread_kill, (threading.get_ident(), signal.SIGALRM)
    timer = threading.Timer(max(0.0, seconds), *ring)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        has_ended = True  # a ring from here on would undo what the block has done
        timer.cancel()
        timer.join()  # it may just be about to ring, and by default a process ends then
        signal.signal(signal.SIGALRM, before)
