"""Everything that Regraft uses of Python's multiprocessing beyond its public API.

`tests/core/test_multiprocessing_internals.py` has a test for each name.
"""

from collections.abc import Callable
from multiprocessing.queues import Queue
from typing import Any


def call_when_unsent(handler: Callable[[Any, Exception, Any], None]) -> None:
    """Calls `handler(queue, error, item)` in this process when an item can't be sent through a queue.

    Python prints a traceback then, and whoever waits for the item waits for ever.
    """
    Queue._on_queue_feeder_error = handler  # type: ignore[attr-defined]
