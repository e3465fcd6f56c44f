"""A process that works for another one saves its run and ends once that one is gone, also by kill -9."""

import os
import signal
import threading
import time

from regraft.core.processes import is_process_there

_LOOK_SECONDS = 2.0
_PATIENCE_SECONDS = 22.0
"""For a run to be saved; see `interrupts.DEADLINE_SECONDS`."""


def end_with(mark: str) -> None:
    """Has this process end with another one; looks from a thread of its own, once however often it is asked.

    Args:
        mark: of that process; see `process_marks.mark_of_this_process`.
    """
    name = f"ends with {mark}"
    if any(thread.name == name for thread in threading.enumerate()):
        return

    def look() -> None:
        while is_process_there(mark):
            time.sleep(_LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        # A launcher's pool may catch the exit and wait for work that never comes.
        time.sleep(_PATIENCE_SECONDS)
        os._exit(143)

    threading.Thread(target=look, name=name, daemon=True).start()
