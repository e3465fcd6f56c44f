"""Which process is meant, and whether it still lives: its number alone may be another one's by now."""

import os
import signal
import socket
import threading
import time
from pathlib import Path


def mark_of_this_process() -> str:
    """Returns what tells this process from all others, for `is_process_there`."""
    return f"{socket.gethostname()} {os.getpid()} {ticks_of(os.getpid())}"


def is_process_there(mark: str) -> bool:
    """Whether a marked process lives; one of another machine, which can't be seen from here, counts as such."""
    host, pid, ticks = mark.rsplit(" ", 2)
    return host != socket.gethostname() or is_there(int(pid), int(ticks) if ticks != "None" else None)


def is_there(pid: int, started: int | None) -> bool:
    """Whether a process of this machine lives, if it is the one that started at that tick."""
    if Path("/proc/self/stat").exists():
        ticks = ticks_of(pid)
        return ticks is not None and started in (None, ticks)
    if os.name == "nt":  # there a signal 0 would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def ticks_of(pid: int) -> int | None:
    """Returns when a living process started, in ticks since the machine did; None without one. See proc(5)."""
    try:
        # The name in brackets may hold spaces and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    is_dead = fields[0] in "ZX"
    return None if is_dead else int(fields[19])


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
