import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from regraft.core.startup import Preempted
from regraft.runs import state as run_state
from regraft.runs.folder import Run
from regraft.runs.state import read, recording_state, require_not_running


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "run")
    run.path.mkdir()
    return run


def test_a_run_is_running_until_it_has_finished(run):
    with recording_state(run) as recorder:
        inside = read(run)
        recorder.progress = lambda: (7, 2)
    after = read(run)
    assert (inside.status, inside.pid, inside.host, inside.ended) == (
        "running",
        os.getpid(),
        socket.gethostname(),
        None,
    )
    assert (after.status, after.step, after.epoch, after.reason) == ("finished", 7, 2, None)
    assert after.started == inside.started
    assert after.ended >= after.started
    assert after.started.endswith("+00:00")


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (KeyboardInterrupt(), "stopped", "Ctrl-C"),
        (Preempted(signal.SIGTERM), "stopped", "SIGTERM"),
        (Preempted(signal.SIGUSR1), "stopped", "SIGUSR1"),
        (run_state.Pruned("val/acc 0.1 was too low"), "pruned", "val/acc 0.1 was too low"),
        (SystemExit(3), "stopped", "it exited with code 3"),
        (ValueError("loss: NaN\nmore"), "failed", "loss: NaN"),
        (ValueError(), "failed", "ValueError"),
    ],
)
def test_how_it_ended_is_kept(run, error, state, reason):
    with pytest.raises(type(error)), recording_state(run):
        raise error
    assert (read(run).status, read(run).reason) == (state, reason)


def test_a_refused_resume_leaves_the_state_as_it_was(run):
    run.write_config({})
    run.write_state({"status": "finished", "step": 3})
    before = run.state
    with pytest.raises(ValueError, match="refused"), recording_state(run):
        raise ValueError("refused")
    assert run.state == before


def test_what_fails_once_a_resume_has_started_is_said(run):
    run.write_config({})

    def go_on():
        with recording_state(run) as recorder:
            recorder.start()
            raise ValueError("later")

    with pytest.raises(ValueError, match="later"):
        go_on()
    assert read(run).status == "failed"


def test_a_killed_run_is_stopped(run):
    code = f"""
import os, signal
from regraft.runs.state import recording_state
from regraft.runs.folder import Run
from pathlib import Path
with recording_state(Run(Path({str(run.path)!r}))):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert run.state["status"] == "running"
    assert read(run).status == "stopped"
    assert "killed" in read(run).reason


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_another_process_with_the_number_is_not_the_run(run):
    with recording_state(run):
        state = run.state
    run.write_state(state | {"status": "running", "ended": None})
    assert read(run).status == "running"
    run.write_state(state | {"status": "running", "process": state["process"] - 1})
    assert read(run).status == "stopped"


def test_a_run_of_another_machine_is_believed(run):
    run.write_state({"status": "running", "host": "another", "pid": 1})
    assert read(run).status == "running"
    with pytest.raises(ValueError, match="is running, as process 1 on another"):
        require_not_running(run)


@pytest.mark.parametrize("text", ["{", "[]", '{"status": "dancing"}', '{"status": "running", "pid": "x"}'])
def test_a_damaged_state_is_no_obstacle(run, text):
    (run.path / "state.json").write_text(text)
    assert read(run).status == "stopped"
    run.write_results({"metrics": {}})
    assert read(run).status == "finished"


def test_only_the_first_process_writes(run, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with recording_state(run):
        pass
    assert not (run.path / "state.json").exists()


def test_the_file_holds_what_it_says(run):
    with recording_state(run):
        pass
    fields = {"layout", *run_state.RunState.__dataclass_fields__}
    assert set(json.loads((run.path / "state.json").read_text())) == fields


def fail(run, *, saves):
    with recording_state(run) as recorder:
        recorder.start()
        run.write_config({"trainer": {"max_epochs": -1}})
        if saves:
            os.utime(run.last_ckpt, (1, 1))
        raise ValueError("no such schedule")


def test_what_fails_before_it_saves_anything_leaves_a_run_as_it_was(run):
    with recording_state(run):
        run.write_config({"trainer": {"max_epochs": 2}})
    run.last_ckpt.parent.mkdir()
    run.last_ckpt.touch()
    with pytest.raises(ValueError, match="no such schedule"):
        fail(run, saves=False)
    assert (read(run).status, run.config["trainer"]["max_epochs"]) == ("finished", 2)
    with pytest.raises(ValueError, match="no such schedule"):
        fail(run, saves=True)
    assert (read(run).status, run.config["trainer"]["max_epochs"]) == ("failed", -1)


def test_a_run_is_run_once_at_a_time(run, monkeypatch):
    monkeypatch.setattr("regraft.runs.state._PATIENCE_SECONDS", 0)
    with recording_state(run), pytest.raises(ValueError, match=r"another process runs"), recording_state(run):
        pass


def test_a_process_of_another_machine_is_known_by_its_lock(run):
    with recording_state(run):
        elsewhere = run.state | {"host": "elsewhere"}
        run.write_state(elsewhere)
        assert read(run).status == "running"
    run.write_state(elsewhere | {"status": "running"})
    assert read(run).status == "stopped"
