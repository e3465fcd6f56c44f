"""Signs by which the processes of a group know that the others still live, as one that was killed can't say so."""

import itertools
import threading
import time
from contextlib import suppress
from typing import Any

_BEAT_SECONDS, _SILENT_SECONDS = 5.0, 45.0
"""How often a process says that it lives, and how long it may say nothing; all end within a minute of one's death."""
_SECONDS_TO_STOP = 5.0


class SignsOfLife:
    """Those of all processes, at torch's store; this one gives its own from `start` to `stop`."""

    def __init__(self, rank: int, num_processes: int) -> None:
        self._rank, self._num_processes = rank, num_processes
        self._seen: dict[int, tuple[bytes, float]] = {}
        self._looked = 0.0
        self._has_ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, store: Any) -> None:
        """Begins to give this process's signs."""
        self._thread = threading.Thread(target=self.give, args=(store,), name="signs of life", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends them; C++ aborts a process that ends while a thread of its is at the store."""
        self._has_ended.set()
        if self._thread is not None:
            self._thread.join(_SECONDS_TO_STOP)

    def silent(self, store: Any) -> tuple[int, float] | None:
        """Returns the rank of a process that has given no sign for long, and for how many seconds; None for none."""
        now = time.monotonic()
        if now - self._looked < _BEAT_SECONDS:
            return None
        self._looked = now
        for rank in range(self._num_processes):
            key = f"beat/{rank}"
            sign = store.get(key) if store.check([key]) else b""
            before, since = self._seen.get(rank, (b"", now))
            if sign != before:
                self._seen[rank] = sign, now
            elif sign and now - since > _SILENT_SECONDS:
                return rank, now - since
        return None

    def give(self, store: Any) -> None:
        """Gives this process's signs until `stop`, or until the store is gone."""
        with suppress(RuntimeError):
            # A connection of its own: torch's store answers one call of each at a time, and some wait for minutes.
            store = store.clone()
            for number in itertools.count():
                store.set(f"beat/{self._rank}", str(number))
                if self._has_ended.wait(_BEAT_SECONDS):
                    return
