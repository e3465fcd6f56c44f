"""What is decided of a run before its folder is locked is decided again with the lock."""

import shutil
from pathlib import Path

import pytest

from regraft.runs.folder import Run
from regraft.runs.state import is_locked
from regraft.training.plan import TrainingJob, claimed, plan, settled


def planned(run, **changes):
    """Returns a job that was planned before its folder existed; planned again, it is done."""
    again = TrainingJob({"ckpt_path": None}, run, is_done=True)
    return TrainingJob({"ckpt_path": None}, run, replan=lambda: again, planned_for=(None,) * 4, **changes)


def test_a_folder_is_locked_and_made_for_a_job():
    run = Run(Path("runs", "a").resolve())
    with claimed(planned(run)) as job:
        assert (job.is_locked, job.is_done) == (True, False)
        assert is_locked(run.path)
        with claimed(job) as again:
            assert again is job
    assert not is_locked(run.path)


def test_a_job_is_planned_again_if_its_folder_has_been_used_since():
    run = Run(Path("run").resolve())
    run.path.mkdir()
    run.write_state({"status": "finished"})
    with claimed(planned(run)) as job:
        assert job.is_done


def test_a_folder_that_another_run_has_got_meanwhile_is_left_as_it_is(small_run):
    config = small_run.config | {"output_dir": "runs"}
    run = Run(Path("run").resolve())
    job = plan(config, run, [])
    shutil.copytree(small_run.path, run.path)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="already holds a run"), claimed(job):
        pass
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    with pytest.raises(ValueError, match="already holds a run"):
        settled(TrainingJob(config, run))


def test_what_is_refused_with_the_lock_is_removed_with_the_folders_made_for_it():
    run = Run(Path("a", "b", "run").resolve())
    with pytest.raises(ValueError, match="no"), claimed(planned(run)):
        raise ValueError("no")
    assert not Path("a").exists()
