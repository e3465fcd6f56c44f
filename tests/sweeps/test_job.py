import signal
import sys
import threading

from regraft.sweeps.job import _prepare_worker
from regraft.sweeps.sweeper import SWEEP_VARIABLE


def test_a_thread_of_a_launchers_worker_finds_the_users_modules(monkeypatch, tmp_path):
    monkeypatch.setenv(SWEEP_VARIABLE, "another process")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=_prepare_worker)
    thread.start()
    thread.join()
    assert sys.path[-1] == str(tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before
