import math
import signal
import threading
import time

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
    class Late(threading.Timer):
        def cancel(self) -> None:
            super().cancel()
            signal.raise_signal(signal.SIGALRM)

    monkeypatch.setattr(module.threading, "Timer", Late)
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(60):
        pass
    assert signal.getsignal(signal.SIGALRM) == before
