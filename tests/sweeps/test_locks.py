import subprocess
import sys

from regraft.sweeps import locks

_HOLD = """
import sys, time
from pathlib import Path
from regraft.sweeps.locks import claimed
with claimed(Path(sys.argv[1])) as is_ours:
    print(is_ours, flush=True)
    time.sleep(60)
"""


def test_one_process_has_a_job_until_it_is_killed(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path / "0")], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "True\n"
    with locks.claimed(tmp_path / "0") as is_ours:
        assert not is_ours
    other.kill()
    other.wait()
    other.stdout.close()
    with locks.claimed(tmp_path / "0") as is_ours:
        assert is_ours


def test_a_folder_is_begun_once_it_was_claimed(tmp_path):
    (tmp_path / "0").mkdir()
    assert not locks.is_begun(tmp_path / "0")
    with locks.claimed(tmp_path / "0"):
        pass
    assert locks.is_begun(tmp_path / "0")


def test_a_sweep_is_stopped_and_started_over(tmp_path):
    locks.ask_to_stop(tmp_path)
    assert locks.is_to_stop(tmp_path)
    locks.start_over(tmp_path)
    locks.start_over(tmp_path)
    assert not locks.is_to_stop(tmp_path)
