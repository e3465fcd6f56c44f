import subprocess
import sys

from regraft.sweeps import locks

_HOLD = """
import sys, time
from pathlib import Path
from regraft.sweeps.locks import job_lock
with job_lock(Path(sys.argv[1])) as is_ours:
    print(is_ours, flush=True)
    time.sleep(60)
"""


def test_one_process_has_a_job_until_it_is_killed(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path / "0")], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "True\n"
    with locks.job_lock(tmp_path / "0") as is_ours:
        assert not is_ours
    other.kill()
    other.wait()
    other.stdout.close()
    with locks.job_lock(tmp_path / "0") as is_ours:
        assert is_ours


def test_a_folder_is_begun_once_it_was_claimed(tmp_path):
    (tmp_path / "0").mkdir()
    assert not locks.was_started(tmp_path / "0")
    with locks.job_lock(tmp_path / "0"):
        pass
    assert locks.was_started(tmp_path / "0")


def test_a_sweep_is_stopped_and_started_over(tmp_path):
    locks.request_stop(tmp_path)
    assert locks.is_stop_requested(tmp_path)
    locks.clear_stop(tmp_path)
    locks.clear_stop(tmp_path)
    assert not locks.is_stop_requested(tmp_path)
