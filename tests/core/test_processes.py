import signal
import subprocess
import sys

from regraft.core import processes
from regraft.core.processes import program_seconds

_WORKER = """
import sys, time
from regraft.core.processes import process_id
from regraft.core.processes import exit_with_parent
exit_with_parent(process_id())
exit_with_parent(sys.argv[1])
print("working", flush=True)
time.sleep(60)
"""
_OTHER = "from regraft.core.processes import process_id as mark; print(mark(), flush=True); input()"


def test_a_worker_ends_once_the_process_that_it_works_for_is_killed():
    other = subprocess.Popen([sys.executable, "-c", _OTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    mark = other.stdout.readline().strip()
    worker = subprocess.Popen([sys.executable, "-c", _WORKER, mark], stdout=subprocess.PIPE, text=True)
    assert worker.stdout.readline() == "working\n"
    assert worker.poll() is None
    other.kill()
    other.communicate()
    worker.communicate(timeout=30)
    assert worker.returncode == -signal.SIGTERM


def test_the_age_of_a_program_is_that_of_its_process():
    first = program_seconds()
    assert 0 < first <= program_seconds() < 24 * 3600


def test_the_age_of_a_shell_that_becomes_the_program_does_not_count(monkeypatch):
    age = program_seconds()
    monkeypatch.setattr(processes.time, "process_time", lambda: 0.4)
    monkeypatch.setattr(processes.time, "clock_gettime", lambda _: 1e9)
    assert program_seconds() == 9.0
    monkeypatch.undo()
    assert program_seconds() >= age
