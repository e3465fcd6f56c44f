import socket

import pytest

from helpers.written import written_run
from regraft.sweeps.grid_random import combinations, grid_search, random_search
from regraft.sweeps.outcomes import RUNNING_ELSEWHERE


def test_a_grid_is_every_combination(plan):
    search = grid_search(None)
    search.begin(plan("a=1,2", "b=x,y"), 1)
    assert [job.overrides for job in search.ask()] == [
        ("a=1", "b=x"),
        ("a=1", "b=y"),
        ("a=2", "b=x"),
        ("a=2", "b=y"),
    ]
    assert search.ask() == []


def test_what_is_listed_twice_is_one_job(plan):
    search = grid_search({"b": [3, 3]})
    search.begin(plan("a=1,2,1"), 1)
    assert [job.number for job in search.ask()] == [0, 1]
    assert search.num_jobs == 2


def test_what_is_varied_is_what_is_listed_even_in_a_single_job(plan, capsys):
    search = grid_search(None)
    search.begin(plan("a=1,1", "b=x"), 1)
    assert [search.varied(job) for job in search.jobs] == [["a=1"]]
    assert "1 of 2 jobs repeat another one's config" in capsys.readouterr().out


def test_a_list_without_a_value_is_no_sweep_of_nothing(plan):
    with pytest.raises(ValueError, match=r"^b: got 'range\(1,1\)'; there is no value to choose from"):
        grid_search(None).begin(plan("a=1,2", "b=range(1,1)"), 1)


def killed_run(folder):
    run = written_run(folder, [0.5], "stopped")
    run.write_state({"status": "running", "pid": 2**30, "host": socket.gethostname()})


def test_a_job_that_lost_its_process_comes_last_and_keeps_none_from_running(plan):
    plan = plan("a=1,2,3")
    killed_run(plan.folder / "1")
    search = grid_search(None)
    search.begin(plan, 1)
    assert [job.number for job in search.ask()] == [0, 2, 1]


def test_a_job_is_run_that_someone_else_had_taken_and_was_killed_at(plan):
    plan = plan("a=1,2,3")
    search = grid_search(None)
    search.begin(plan, 1)
    jobs = search.ask()
    assert search.tell(jobs[0], RUNNING_ELSEWHERE) == RUNNING_ELSEWHERE
    search.tell(jobs[1], RUNNING_ELSEWHERE)
    killed_run(plan.folder / "1")
    assert search.ask() == [jobs[1]]
    assert search.ask() == []


def test_a_grid_has_no_intervals(plan):
    with pytest.raises(ValueError, match="sweep=random or sweep=optuna"):
        combinations(plan("a=interval(0,1)").overrides({}))


def drawn_by(plan, n_trials, seed=0, argument="a=interval(0,1)"):
    search = random_search(n_trials, seed, None)
    search.begin(plan(argument, "b=x,y"), 1)
    return [job.overrides for job in search.jobs]


def test_more_draws_begin_with_the_same_ones(plan):
    assert drawn_by(plan, 8)[:5] == drawn_by(plan, 5)
    assert drawn_by(plan, 5, seed=1) != drawn_by(plan, 5)
    assert len(set(drawn_by(plan, 8))) == 8


def test_a_small_space_is_drawn_whole(plan, caplog):
    assert len(drawn_by(plan, 9, argument="a=1,2")) == 4
    assert "have 4 jobs only" in caplog.text


@pytest.mark.parametrize(("n_trials", "seed"), [(0, 0), (1.5, 0), (True, 0), (1, -1)])
def test_draws_are_counted_in_whole_numbers(n_trials, seed):
    with pytest.raises(ValueError, match="allowed: a whole number"):
        random_search(n_trials, seed, None)
