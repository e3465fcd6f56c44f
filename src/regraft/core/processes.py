"""Whether a process is still alive; its number alone doesn't say, as the system gives it to another one later."""

import os
import signal
import socket
import threading
import time
from pathlib import Path


def process_id() -> str:
    """Returns an identifier of this process that no other one has, on any machine: host, pid and start time."""
    return f"{socket.gethostname()} {os.getpid()} {start_ticks(os.getpid())}"


def is_process_alive(identifier: str) -> bool:
    """Whether the process of a `process_id` is alive; one of another machine can't be checked and counts as alive."""
    host, pid, ticks = identifier.rsplit(" ", 2)
    return host != socket.gethostname() or is_pid_alive(int(pid), int(ticks) if ticks != "None" else None)


def is_pid_alive(pid: int, started: int | None) -> bool:
    """Whether a process of this machine is alive; its `start_ticks`, if known, tell it from a later one."""
    if Path("/proc/self/stat").exists():
        ticks = start_ticks(pid)
        return ticks is not None and started in (None, ticks)
    if os.name == "nt":  # on Windows a signal 0 would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def start_ticks(pid: int) -> int | None:
    """Returns when a process started, in clock ticks since boot; None if it isn't alive. See proc(5)."""
    try:
        # The name in brackets may hold spaces and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    is_dead = fields[0] in "ZX"
    return None if is_dead else int(fields[19])


_MOST_WAITING = 20.0
"""Seconds that a program may wait at its start for each second that it computes, on a busy machine."""


def program_seconds() -> float:
    """Returns the seconds since this program was started; 0 where the system doesn't report it. See proc(5).

    A process may be older: a shell becomes its last command, or what it calls with exec. So what has been computed is a
    bound.
    """
    ticks = start_ticks(os.getpid())
    if ticks is None:  # not on Linux
        return 0.0
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return min(age, 1.0 + _MOST_WAITING * time.process_time())


_POLL_SECONDS = 2.0
_GRACE_SECONDS = 22.0
"""Enough for a run to be saved, which takes at most `training.callbacks.signals.DEADLINE_SECONDS`."""


def exit_with_parent(parent: str) -> None:
    """Ends this process when that of a `process_id` has ended; a thread polls for it. Calling it again does nothing."""
    name = f"exit with {parent}"
    if any(thread.name == name for thread in threading.enumerate()):
        return

    def poll() -> None:
        while is_process_alive(parent):
            time.sleep(_POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        # A launcher's pool may catch the exit and wait for work that never comes.
        time.sleep(_GRACE_SECONDS)
        os._exit(143)

    threading.Thread(target=poll, name=name, daemon=True).start()
