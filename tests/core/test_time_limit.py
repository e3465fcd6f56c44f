import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable

import pytest

from regraft.core import time_limit as module
from regraft.core.time_limit import TimeOver, time_limit


@pytest.fixture(autouse=True)
def own_process(monkeypatch):
    monkeypatch.setattr(module, "is_own_process", lambda: True)


def test_a_block_that_takes_longer_is_ended():
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TimeOver), time_limit(0.01):
        time.sleep(60)
    assert signal.getsignal(signal.SIGALRM) == before


@pytest.mark.parametrize("seconds", [60, math.inf])
def test_a_block_that_ends_in_time_leaves_nothing_behind(seconds):
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(seconds):
        pass
    assert signal.getsignal(signal.SIGALRM) == before


def test_a_callers_process_is_left_alone(monkeypatch):
    monkeypatch.setattr(module, "is_own_process", lambda: False)
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(-1):
        assert signal.getsignal(signal.SIGALRM) == before


def test_a_block_that_has_ended_when_its_time_is_over_keeps_what_it_did(monkeypatch):
    class Late(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            super().join(timeout)
            signal.raise_signal(signal.SIGALRM)

    monkeypatch.setattr(module.threading, "Thread", Late)
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(60):
        pass
    assert signal.getsignal(signal.SIGALRM) == before


def drop_and_sleep() -> None:
    """Drops TimeOver, as code in C may, and goes on."""
    with contextlib.suppress(BaseException):
        time.sleep(60)
    time.sleep(60)


def end_and_clean_up(end: Callable[[], None], cleaned: list[bool]) -> None:
    try:
        end()
    finally:
        with contextlib.suppress(KeyError):
            raise KeyError
        for _ in range(10):
            time.sleep(0.01)
            cleaned.append(True)


def test_what_drops_the_end_of_the_time_is_ended_again():
    with pytest.raises(TimeOver), time_limit(0.01):
        drop_and_sleep()


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("end", "error"), [(lambda: time.sleep(60), TimeOver), (interrupt, KeyboardInterrupt)])
def test_what_cleans_up_after_an_end_is_not_ended(end, error, monkeypatch):
    monkeypatch.setattr(module, "_SECONDS_BETWEEN", 0.01)
    cleaned: list[bool] = []
    with pytest.raises(error), time_limit(0.01):
        end_and_clean_up(end, cleaned)
    assert len(cleaned) == 10
