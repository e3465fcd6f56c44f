import os
import socket

import pytest

from helpers.written import written_run
from regraft.runs.folder import Run
from regraft.sweeps.manifest import Job
from regraft.sweeps.outcomes import (
    JobResult,
    counts_text,
    failed,
    result_in,
    shortened,
    skipped,
    succeeded,
    summary,
    varied_overrides,
)

JOBS = [Job(0, ("x=1", "lr=0.1", "hydra.verbose=true", "sweep.n_jobs=2"), "a"), Job(1, ("x=1", "lr=0.2"), "b")]


def test_what_a_job_returns_is_said_by_its_metric(tmp_path):
    run = written_run(tmp_path / "0", [0.1])
    assert succeeded(run) == JobResult("ok", "test/acc 0.5000  2.0 s")
    assert succeeded({"val/acc": 0.25}) == JobResult("ok", "val/acc 0.2500")
    assert succeeded({}) == JobResult("ok", "done")
    assert skipped("finished before", run).text == "test/acc 0.5000  2.0 s  finished before"


def test_an_error_is_its_first_line():
    assert failed(ValueError("one\ntwo")).text == "one"
    assert failed(MemoryError()).text == "MemoryError"
    assert failed(SystemExit(3)).text == "it exited with code 3"


def test_a_folder_says_what_its_process_cannot(tmp_path):
    words = {
        state: result_in(written_run(tmp_path / state, [0.1], state)) for state in ("finished", "failed", "pruned")
    }
    assert {state: outcome.status for state, outcome in words.items()} == {
        "finished": "ok",
        "failed": "failed",
        "pruned": "pruned",
    }
    damaged = written_run(tmp_path / "damaged", [0.1])
    (damaged.path / "results.json").write_text("{")
    assert result_in(damaged).status == "stopped"
    killed = written_run(tmp_path / "killed", [0.1])
    killed.write_state({"status": "running", "pid": 2**22 + 1, "process": 1, "host": socket.gethostname()})
    assert result_in(killed) == JobResult("stopped", "killed, its process is gone")
    killed.write_state({"status": "running", "pid": os.getpid(), "host": socket.gethostname()})
    assert result_in(killed) == JobResult(
        "skipped", f"it runs as process {os.getpid()} on {socket.gethostname()}", is_running=True
    )
    (tmp_path / "0").mkdir()
    assert result_in(Run(tmp_path / "0")) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"metrics": {"test/acc": 0.5}}'])
def test_damaged_results_are_said_to_be(tmp_path, content):
    run = written_run(tmp_path / "0", [0.1])
    (run.path / "results.json").write_text(content)
    outcome = result_in(run)
    assert outcome.status == "stopped"
    assert outcome.text.startswith("its results.json can't be read (")


def test_the_summary_has_a_line_a_job():
    lines = summary(JOBS, {0: JobResult("ok", "fine")}, lambda job: varied_overrides(job, JOBS), "there").splitlines()
    assert lines[0] == "Sweep of 2 jobs in there: 1 ok, 1 skipped"
    assert [line.split() for line in lines[1:]] == [
        ["0", "lr=0.1", "ok", "fine"],
        ["1", "lr=0.2", "skipped", "not", "started"],
    ]


def test_one_job_is_no_jobs():
    assert summary(JOBS[:1], {}, lambda job: [], "there").startswith("Sweep of 1 job in there: 1 skipped")


def test_drawn_numbers_are_shown_short_and_given_ones_as_they_are():
    assert shortened(["lr=0.0015676677195506068", "b=1.234567890123e-05", "c=0.125", "d=x_0.12345678"]) == (
        "lr=0.001568 b=1.235e-05 c=0.125 d=x_0.12345678"
    )


def test_outcomes_are_counted_in_a_fixed_order():
    assert (
        counts_text([JobResult("failed", ""), JobResult("ok", ""), JobResult("pruned", "")])
        == "1 ok, 1 pruned, 1 failed"
    )
