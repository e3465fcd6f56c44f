import time

import pytest

from helpers.written import written_run
from regraft.sweeps.manifest import Job
from regraft.sweeps.outcomes import JobResult
from regraft.sweeps.progress import counts_line, print_progress, progress_line

OK, FAILED, RUNNING = JobResult("ok", ""), JobResult("failed", ""), JobResult("skipped", "it runs as process 1 on here")


@pytest.mark.parametrize(
    ("outcomes", "seconds_each", "line"),
    [
        ({}, None, "[1/24] lr=0.1"),
        ({0: OK, 1: OK}, 2.0, "[3/24] lr=0.1 (2 ok; about 44 s left)"),
        ({0: OK, 1: FAILED}, 30.0, "[3/24] lr=0.1 (1 ok, 1 failed; about 11 min left)"),
    ],
)
def test_a_job_starts_with_how_far_the_sweep_is(outcomes, seconds_each, line):
    assert progress_line(24, outcomes, seconds_each, ["lr=0.1"]) == line


def test_jobs_elsewhere_are_counted_by_what_their_folders_say():
    assert counts_line(24, [OK, OK, FAILED, RUNNING, None]) == ("2 ok, 1 failed, 1 running, of 24 jobs", 3)
    assert counts_line(3, [None]) == ("0 ok, 0 running, of 3 jobs", 0)


def test_what_changes_is_printed_with_the_time_left(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("regraft.sweeps.progress._LOOK_SECONDS", 0.01)
    written_run(tmp_path / "0", [0.5])
    whole = written_run(tmp_path / "elsewhere", [0.5]).path
    with print_progress(tmp_path, [Job(number, (), "") for number in range(2)], 4, None):
        time.sleep(0.1)
        whole.rename(tmp_path / "1")
        time.sleep(0.1)
    assert capsys.readouterr().out == "2 ok, 0 running, of 4 jobs; about 0 s left\n"
