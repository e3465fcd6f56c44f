import json
import socket
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from helpers.written import written_run
from regraft.sweeps import manifest
from regraft.sweeps.optuna_search import OptunaSearch
from regraft.sweeps.optuna_study import OptunaSettings
from regraft.sweeps.outcomes import RUNNING_ELSEWHERE, JobResult, result_in
from regraft.sweeps.trial_file import read

LR = "lr=tag(log,interval(1e-5,1e-1))"
SETTINGS: dict[str, Any] = {
    "n_trials": 4,
    "sampler": "random",
    "sampler_options": None,
    "pruner": None,
    "pruner_options": None,
    "seed": 0,
    "metrics": ["val/acc"],
    "directions": None,
    "storage": None,
    "study": None,
    "space": None,
}


def begun(plan, num_at_once=1, **settings):
    search = OptunaSearch(OptunaSettings(**{**SETTINGS, **settings}))
    search.earlier = search.begin(plan, num_at_once)
    return search


def run(search, plan, job, val_acc=0.5):
    return search.tell(job, result_in(written_run(plan.folder / str(job.number), [val_acc])))


def states(search):
    return [trial.state for trial in search._stored.all()]


def test_trials_are_asked_for_until_there_are_enough(plan):
    plan = plan("seed=0", LR)
    search = begun(plan)
    values = [0.2, 0.9, 0.4, 0.3]
    found = []
    while jobs := search.ask():
        found += [run(search, plan, job, values[job.number]) for job in jobs]
    assert found == [JobResult("ok", f"val/acc {value:.4f}") for value in values]
    assert [trial.value for trial in search._stored.all()] == values
    assert f"val/acc 0.9000  lr={search._study.best_params['lr']:.4g}  {plan.folder}/1\n" in search.report()
    assert manifest.read(plan.folder) == search.jobs
    assert all(job.overrides[0] == "seed=0" for job in search.jobs)


def test_a_study_that_goes_on_draws_what_it_would_have_drawn(plan):
    plan = plan(LR)
    first = begun(plan, n_trials=2)
    for _ in range(2):
        run(first, plan, *first.ask())
    second = begun(plan, n_trials=4)
    assert sorted(second.earlier) == [0, 1]
    drawn = [job.overrides for job in first.jobs]
    while jobs := second.ask():
        drawn += [job.overrides for job in jobs]
        run(second, plan, *jobs)
    assert len(set(drawn)) == 4
    straight = begun(type(plan)(plan.folder.with_name("other"), [LR]), num_at_once=4)
    assert [job.overrides for job in straight.ask()] == drawn


def test_a_study_that_goes_on_with_another_axis_shows_axes_only(plan):
    first = begun(plan("seed=0", LR), n_trials=1)
    run(first, first._plan, *first.ask())
    second = begun(plan("seed=0", LR, "head=a,b"), n_trials=2)
    (job,) = second.ask()
    assert [len(second.varied(each)) for each in (*first.jobs, job)] == [1, 2]
    assert second.varied(first.jobs[0])[0].startswith("lr=")


def test_trials_of_a_killed_sweep_go_on(plan):
    plan = plan(LR)
    killed = begun(plan, num_at_once=2)
    jobs = killed.ask()
    run(killed, plan, jobs[0])
    killed._study.ask()  # cut off before it had a folder
    search = begun(plan, num_at_once=2)
    assert states(search) == [TrialState.COMPLETE, TrialState.RUNNING, TrialState.FAIL]
    assert search.ask() == [jobs[1]]
    run(search, plan, jobs[1])
    assert [job.number for job in search.ask()] == [2]


def test_two_who_go_on_with_a_study_share_its_trials(plan):
    plan = plan(LR)
    one, other = begun(plan), begun(plan)
    numbers = []
    for search in (one, other, one, other, one, other):
        numbers += [job.number for job in search.ask()]
    # The other one's trials are under way for all that each can see.
    assert sorted(set(numbers)) == [0, 1, 2, 3]
    (job,) = [job for job in one.jobs if job.number == 0]
    run(one, plan, job)
    assert run(other, plan, job) == JobResult("ok", "val/acc 0.5000")


def test_a_job_that_another_process_runs_is_left_to_it(plan):
    search = begun(plan(LR))
    assert search.tell(*search.ask(), JobResult("skipped", "another process runs it")).status == "skipped"
    assert states(search) == [TrialState.RUNNING]


def killed_run(folder):
    written_run(folder, [0.5], "stopped").write_state({"status": "running", "pid": 2**30, "host": socket.gethostname()})


def test_a_trial_that_lost_its_process_comes_last(plan):
    plan = plan(LR)
    killed = begun(plan, n_trials=2)
    (job,) = killed.ask()
    killed_run(plan.folder / "0")
    search = begun(plan, n_trials=2)
    run(search, plan, *search.ask())
    assert search.ask() == [job]
    run(search, plan, job)
    assert search.ask() == []
    assert states(search) == [TrialState.COMPLETE] * 2


def test_a_trial_is_run_that_someone_else_had_taken_and_was_killed_at(plan):
    plan = plan(LR)
    search = begun(plan, n_trials=1)
    (job,) = search.ask()
    search.tell(job, RUNNING_ELSEWHERE)
    killed_run(plan.folder / "0")
    assert search.ask() == [job]
    assert search.ask() == []


def test_failed_and_pruned_trials_are_recorded_and_the_study_goes_on(plan):
    plan = plan(LR)
    search = begun(plan)
    failed = search.tell(*search.ask(), JobResult("failed", "out of memory"))
    pruned = search.tell(*search.ask(), JobResult("pruned", "too low"))
    (job,) = search.ask()
    written_run(plan.folder / str(job.number), [float("nan")])
    without_value = search.tell(job, JobResult("ok", ""))
    assert (failed, pruned) == (JobResult("failed", "out of memory"), JobResult("pruned", "too low"))
    assert without_value.status == "failed"
    assert states(search) == [TrialState.FAIL, TrialState.PRUNED, TrialState.FAIL]
    assert len(search.ask()) == 1


def test_failed_trials_are_run_again_when_the_study_goes_on(plan):
    plan = plan(LR)
    search = begun(plan, n_trials=2)
    first = search.ask()
    search.tell(*first, JobResult("failed", "the disk was full"))
    run(search, plan, *search.ask())
    assert search.ask() == []
    again = begun(plan, n_trials=2)
    assert list(again.earlier) == [1]
    assert again.ask() == first
    run(again, plan, *first, 0.7)
    assert again.ask() == []
    assert states(again) == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert [trial.params for trial in again._stored.all()][0::2] == [again._study.best_params] * 2


def test_a_job_that_another_process_has_just_taken_is_left_to_it(plan):
    plan = plan(LR)
    search = begun(plan)
    (job,) = search.ask()
    killed = written_run(plan.folder / "0", [0.1], "running")
    killed.write_state({"status": "running", "pid": 2**22 + 1, "host": socket.gethostname(), "process": 1})
    assert search.tell(job, JobResult("skipped", "another process runs it")).status == "skipped"
    assert states(search) == [TrialState.RUNNING]


def test_a_study_that_is_gone_is_made_anew_from_the_runs(plan):
    plan = plan(LR, "n=range(1,9)", "head=a,b")
    search = begun(plan, n_trials=4, num_at_once=4)
    jobs = search.ask()
    run(search, plan, jobs[0], 0.8)
    written_run(plan.folder / "1", [0.1], "pruned")
    written_run(plan.folder / "2", [0.1], "failed")
    (plan.folder / "study.journal").unlink()
    again = begun(plan, n_trials=5)
    assert states(again) == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]
    assert [trial.params for trial in again._stored.all()] == [trial.params for trial in search._stored.all()]
    assert again._study.best_value == 0.8
    assert again.ask() == jobs[2:]
    assert [job.number for job in again.ask()] == [4]


def test_what_a_damaged_study_has_lost_is_made_anew_from_the_runs(plan):
    plan = plan(LR, "head=a,b")
    search = begun(plan, n_trials=3)
    for value in (0.2, 0.9):
        run(search, plan, *search.ask(), value)
    entries = (plan.folder / "study.journal").read_bytes().splitlines(keepends=True)
    second = [place for place, entry in enumerate(entries) if json.loads(entry)["op_code"] == 4][1]
    (plan.folder / "study.journal").write_bytes(b"".join(entries[:second]))
    again = begun(plan, n_trials=3)
    assert again.earlier == {0: JobResult("ok", "val/acc 0.2000"), 1: JobResult("ok", "val/acc 0.9000")}
    assert [job.number for job in again.ask()] == [2]


def test_a_job_is_shown_by_its_axes_whatever_else_has_been_given_since(plan):
    search = begun(plan("head=a,b"))
    (job,) = search.ask()
    wider = begun(type(search._plan)(search._plan.folder, ["head=a,b", "seed=1,2"]))
    assert wider.varied(job) == [job.overrides[-1]]


def test_a_job_that_the_study_does_not_know_is_what_its_folder_says(plan):
    plan = plan(LR)
    search = begun(plan)
    (job,) = search.ask()
    assert search.current_result(job) is None
    written_run(plan.folder / str(job.number), [0.5])
    assert search.current_result(job).status == "ok"


def test_a_storage_that_is_none_is_said_to_be(plan):
    plan = plan(LR)
    with pytest.raises(ValueError, match="allowed: a URL such as sqlite"):
        begun(plan, storage="sqlite:study.db")
    assert not (plan.folder / "study.db").exists()


def test_a_relative_database_is_rebuilt_elsewhere(plan, tmp_path, monkeypatch):
    plan = plan(LR)
    run(search := begun(plan, storage="sqlite:///a.db"), plan, *search.ask())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert begun(plan, storage="sqlite:///a.db").earlier == search.earlier | {0: JobResult("ok", "val/acc 0.5000")}


def test_equal_trials_share_a_run(plan):
    plan = plan("head=a,b")
    search = begun(plan, n_trials=12)
    num_run = 0
    while jobs := search.ask():
        num_run += len(jobs)
        for job in jobs:
            run(search, plan, job, 0.1 * (1 + job.number))
    assert num_run == len(search.jobs) == 2
    assert states(search) == [TrialState.COMPLETE] * 12
    assert search.report().count("val/acc 0.2000") == 1


def test_a_trial_that_was_drawn_before_is_not_composed_again(plan, monkeypatch):
    plan = plan("head=a,b")
    search, composed = begun(plan, n_trials=12), []
    make = plan.job
    monkeypatch.setattr(plan, "job", lambda overrides, number: composed.append(number) or make(overrides, number))
    while jobs := search.ask():
        for job in jobs:
            run(search, plan, job)
    assert composed == [0, 1]


def test_a_grid_ends_when_it_is_done(plan):
    plan = plan("head=a,b", "n=range(0,2)")
    search = begun(plan, n_trials=20, sampler="grid")
    while jobs := search.ask():
        run(search, plan, *jobs)
    assert len(search.jobs) == search.num_jobs == 4


def test_several_metrics_have_a_front(plan):
    plan = plan(LR)
    search = begun(plan, n_trials=2, metrics=["val/acc", "val/loss"], directions=["maximize", "maximize"])
    for value in (0.2, 0.6):
        run(search, plan, *search.ask(), value)
    assert search.report().startswith("Pareto front: 2 of 2 trials, by val/acc, val/loss:\n")


def test_costs_are_shown_as_such(plan):
    plan = plan(LR)
    search = begun(plan, n_trials=1, metrics=["val/acc", "seconds", "num_trained_parameters"])
    assert run(search, plan, *search.ask()).text == "val/acc 0.5000  seconds 2.0  num_trained_parameters 10"


def test_a_job_knows_its_trial_where_it_may_be_given_up(plan):
    plan = plan(LR)
    search = begun(plan, pruner="median", pruner_options={"n_startup_trials": 1})
    (first,) = search.ask()
    trial = read(plan.folder / str(first.number))
    assert [trial.should_prune(value, epoch) for epoch, value in enumerate([0.5, 0.9])] == [False, False]
    assert search._stored.all()[0].intermediate_values == {0: 0.5, 1: 0.9}
    run(search, plan, first, 0.9)
    trial = read(plan.folder / str(search.ask()[0].number))
    assert trial.should_prune(0.1, 0)
    assert trial.should_prune(0.8, 0)  # said before, by a run that was killed
    assert not read(plan.folder / str(first.number)).should_prune(0.1, 5)


@pytest.mark.parametrize("error", [OSError("the disk is full"), StorageInternalError("the server has gone")])
def test_a_run_goes_on_where_its_study_cannot_be_reached(plan, error, monkeypatch, caplog):
    plan = plan(LR)
    (job,) = begun(plan, pruner="median").ask()
    trial = read(plan.folder / str(job.number))

    def fail(*_):
        raise error

    monkeypatch.setattr(trial.trial, "report", fail)
    assert not trial.should_prune(0.1, 0)
    assert f"can't be reached after epoch 1, so the run continues: {error}" in caplog.text


@pytest.mark.parametrize("metrics", [["val/acc", "seconds"], ["seconds"]])
def test_without_a_single_validation_metric_nothing_is_pruned_which_is_said(plan, metrics, capsys):
    plan = plan(LR)
    search = begun(plan, pruner="median", metrics=metrics)
    assert read(plan.folder / str(search.ask()[0].number)) is None
    assert f"Nothing is pruned: pruning needs a single validation metric; got {', '.join(metrics)}." in (
        capsys.readouterr().out
    )


def test_a_folder_without_a_trial_is_none(tmp_path):
    assert read(tmp_path) is None


@pytest.mark.parametrize("settings", [{"n_trials": 0}, {"seed": -1}, {"metrics": ["test/acc"]}, {"pruner": "x"}])
def test_mistakes_are_found_before_anything_is_written(plan, settings):
    plan = plan(LR)
    with pytest.raises(ValueError, match=r"^sweep\."):
        begun(plan, **settings)
    assert list(plan.folder.iterdir()) == []
