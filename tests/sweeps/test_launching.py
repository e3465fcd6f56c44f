import os
import socket
from types import SimpleNamespace

import pytest
from hydra._internal.core_plugins.basic_launcher import BasicLauncher

from helpers.written import written_run
from regraft.sweeps.grid_random import grid_search
from regraft.sweeps.launching import JobLauncher
from regraft.sweeps.locks import is_stop_requested, job_lock
from regraft.sweeps.outcomes import JobResult

FINE = JobResult("ok", "fine")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr("regraft.sweeps.launching._LOOK_SECONDS", 0.01)


class Launcher:
    """Runs a batch as told; what it raises is a batch whose worker was killed."""

    def __init__(self, *batches):
        self._batches = list(batches)
        self.launched = []

    def launch(self, overrides, initial_job_idx):
        self.launched.append([each[-1] for each in overrides])
        return [SimpleNamespace(return_value=outcome) for outcome in self._batches.pop(0)()]


def killed(folder, *begun):
    def launch():
        for number in begun:
            with job_lock(folder / str(number)):
                pass
        raise RuntimeError("a worker was\nterminated")

    return launch


def outcomes_of(plan, *batches, n_jobs=None, **more):
    search = grid_search(None)
    search.begin(plan, 1)
    launcher = Launcher(*batches)
    launching = JobLauncher(launcher, plan.folder, n_jobs, **more)
    launching.run(search.ask(), search)
    return launching.results, launcher.launched


def test_jobs_that_lost_their_process_go_on(plan):
    plan = plan("a=1,2")
    outcomes, launched = outcomes_of(plan, killed(plan.folder, 0, 1), lambda: [FINE, FINE])
    assert outcomes == {0: FINE, 1: FINE}
    assert launched == [["hydra.sweep.subdir=0", "hydra.sweep.subdir=1"]] * 2


def test_what_finished_before_a_batch_was_lost_is_not_run_again(plan):
    plan = plan("a=1,2")
    written_run(plan.folder / "0", [0.5])
    outcomes, launched = outcomes_of(plan, killed(plan.folder, 0, 1), lambda: [FINE])
    assert outcomes[0].status == "ok"
    assert launched[1] == ["hydra.sweep.subdir=1"]


def test_a_job_that_always_loses_its_process_is_given_up_and_those_that_waited_are_not(plan):
    plan = plan("a=1,2")
    batches = [killed(plan.folder, 0), killed(plan.folder, 0), lambda: [FINE], killed(plan.folder, 0)]
    outcomes, launched = outcomes_of(plan, *batches)
    assert launched[2:] == [["hydra.sweep.subdir=1"], ["hydra.sweep.subdir=0"]]
    assert outcomes == {0: JobResult("stopped", "its process was lost (a worker was terminated)"), 1: FINE}


@pytest.mark.parametrize("fail_fast", [True, False])
def test_a_lost_job_stops_the_others_if_the_first_failure_is_to(plan, fail_fast):
    plan = plan("a=1,2")
    batches = [killed(plan.folder, 0), killed(plan.folder, 0), lambda: [FINE]]
    outcomes_of(plan, *batches, fail_fast=fail_fast)
    assert is_stop_requested(plan.folder) == fail_fast


def test_a_job_that_another_one_takes_along_again_and_again_is_run_alone(plan):
    plan = plan("a=1,2")
    together = killed(plan.folder, 0, 1)
    outcomes, launched = outcomes_of(plan, together, together, killed(plan.folder, 0), lambda: [FINE])
    assert [outcomes[number].status for number in (0, 1)] == ["stopped", "ok"]
    assert list(map(len, launched)) == [2, 2, 1, 1]


def test_a_launcher_that_never_starts_anything_is_given_up(plan):
    outcomes, launched = outcomes_of(plan("a=1,2"), *[killed(None)] * 2)
    assert set(outcomes.values()) == {JobResult("stopped", "it wasn't launched (a worker was terminated)")}
    assert len(launched) == 2


def test_what_still_runs_when_a_launcher_fails_is_waited_for(plan, monkeypatch):
    plan = plan("a=1,2")
    run = written_run(plan.folder / "1", [0.5])
    run.write_state({"status": "running", "pid": os.getpid(), "host": socket.gethostname()})
    looks = iter([lambda: None] * 4 + [lambda: written_run(run.path, [0.5])] + [lambda: None] * 9)
    monkeypatch.setattr("regraft.sweeps.launching.time.sleep", lambda seconds: next(looks)())
    outcomes, _ = outcomes_of(plan, killed(plan.folder, 0, 1), lambda: [FINE])
    assert [outcomes[number].status for number in (0, 1)] == ["ok", "ok"]
    assert len(list(looks)) == 14 - 5 - 2


def test_a_launcher_is_given_as_many_as_are_asked_for(plan):
    outcomes, launched = outcomes_of(plan("a=1,2,3"), lambda: [FINE, FINE], lambda: [FINE], n_jobs=2)
    assert list(map(len, launched)) == [2, 1]
    assert outcomes == dict.fromkeys(range(3), FINE)


def test_what_fails_in_this_very_process_is_no_lost_process(plan):
    class InThisProcess(BasicLauncher):
        def launch(self, overrides, initial_job_idx):
            raise OSError("no space left")

    search = grid_search(None)
    search.begin(plan("a=1,2"), 1)
    launching = JobLauncher(InThisProcess(), search._folder, None)
    launching.run(search.ask(), search)
    assert launching.results == dict.fromkeys(range(2), JobResult("failed", "no space left"))


def test_an_interrupt_is_not_taken_for_a_lost_process(plan):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outcomes_of(plan("a=1,2"), interrupted)
