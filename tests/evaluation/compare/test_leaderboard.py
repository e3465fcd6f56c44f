import json
from pathlib import Path

import pytest

from helpers.made_runs import made_run
from regraft.config.nested import ABSENT
from regraft.evaluation.compare.entries import read_entries
from regraft.evaluation.compare.finding import find_runs
from regraft.evaluation.compare.leaderboard import make_leaderboard
from regraft.sweeps import manifest
from regraft.sweeps.manifest import Job

OUTPUTS = Path("outputs")


def leaderboard(*handles, metric=None):
    outputs = OUTPUTS.resolve()
    return make_leaderboard(read_entries(find_runs(handles, outputs), outputs), metric)


def names_of(row):
    return [entry.name for entry in row.entries]


@pytest.fixture
def sweep():
    """Two learning rates of three seeds each, the jobs of a sweep."""
    for number, (lr, seed) in enumerate((lr, seed) for lr in (0.1, 0.01) for seed in (0, 1, 2)):
        made_run(f"digits/sweep-a/{number}", lr=lr, seed=seed, acc=0.6 if lr == 0.1 else 0.9, seconds=seed + 1)
    return OUTPUTS / "digits" / "sweep-a"


def test_seeds_are_grouped_and_the_best_comes_first(sweep):
    board = leaderboard()
    assert (board.metric, board.metrics, board.parameters) == ("test/acc", ("test/acc", "val/acc"), ("optimizer.lr",))
    assert [(row.rank, row.values) for row in board.rows] == [(1, (0.01,)), (2, (0.1,))]
    assert names_of(board.rows[0]) == [f"digits/sweep-a/{number}" for number in (3, 4, 5)]
    accs = [entry.metrics["test/acc"] for entry in board.rows[0].entries]
    found = board.rows[0].metrics["test/acc"]
    assert (found.n, found.mean) == (3, pytest.approx(sum(accs) / 3))
    assert found.std > 0
    assert board.rows[0].seconds.mean == 2
    assert board.rows[0].num_trained.mean == 1000
    assert board.rows[0].state == "3 finished"


def test_validation_is_that_of_the_best_epoch(sweep):
    assert leaderboard().rows[0].metrics["val/acc"].mean == 0.7


def test_the_seconds_of_a_resumed_run_are_those_of_all_its_sessions():
    made_run("digits/a", seconds=2, earlier=[3, None, 4.5])
    assert leaderboard().rows[0].seconds.mean == 9.5


def test_validation_of_a_run_that_keeps_no_best_weights_is_that_of_its_last_epoch():
    made_run("digits/a", config={"callbacks": {"best": None}})
    assert leaderboard().rows[0].metrics["val/acc"].mean == 0.6


def test_a_loss_ranks_the_lowest_first(sweep):
    board = leaderboard(metric="test/loss")
    assert board.rows[0].values == (0.01,)
    assert board.metrics == ("test/loss", "val/loss")


def test_an_unknown_metric_is_said_with_the_nearest(sweep):
    with pytest.raises(ValueError, match=r"metric: unknown metric 'test/ac'. Did you mean 'test/acc'\?"):
        leaderboard(metric="test/ac")


def test_without_a_test_validation_ranks():
    run = made_run("digits/a")
    run.write_results({"metrics": {"val/acc": 0.75}, "seconds": 1})
    board = leaderboard()
    assert (board.metric, board.metrics, board.rows[0].metrics["val/acc"].mean) == ("val/acc", ("val/acc",), 0.75)


def test_unfinished_runs_are_shown_unranked_with_what_they_found(sweep):
    made_run("digits/b", lr=1.0, state="failed", reason="loss: it is NaN", rows=[(0, 0.99)])
    made_run("digits/c", lr=2.0, state="stopped", rows=[])
    made_run("digits/d", lr=0.01, seed=9, state="failed", reason="disk full")
    first, second, failed, stopped = leaderboard().rows
    assert first.state == "3 finished, 1 failed: disk full"
    assert first.metrics["test/acc"].n == 3
    assert second.rank == 2
    assert (failed.rank, failed.state) == (None, "failed: loss: it is NaN")
    assert failed.metrics["val/acc"].mean == 0.99
    assert (stopped.rank, stopped.metrics, stopped.seconds) == (None, {}, None)


def test_what_a_search_gave_up_is_said_to_be_pruned(sweep):
    made_run("digits/b", lr=1.0, state="pruned", reason="val/acc 0.1000 after 1 epoch", rows=[(0, 0.1)])
    row = leaderboard().rows[-1]
    assert (row.rank, row.state) == (None, "pruned: val/acc 0.1000 after 1 epoch")


def test_a_running_run_says_how_far_it_is(sweep):
    run = made_run("digits/b", lr=1.0, state="running", rows=[(0, 0.1), (1, 0.3)])
    run.write_state({"status": "running", "host": "elsewhere", "pid": 1})
    with (run.path / "metrics.csv").open("a") as file:
        file.write("2,29,0.9")  # half a row, as it is being written
    row = leaderboard().rows[-1]
    assert row.state == "running: epoch 2 of 3"
    assert row.metrics["val/acc"].mean == 0.3


def test_jobs_that_have_not_started_belong_to_their_kind(sweep):
    planned = ((0, 0.1, 0), (6, 0.1, 3), (7, 5.0, 0))
    jobs = [Job(number, (f"optimizer.lr={lr}", f"seed={seed}"), str(number)) for number, lr, seed in planned]
    manifest.write(sweep, jobs, [Job(8, ("optimizer.lr=7.0",), "8")])  # which it no longer wants
    for handle in ("outputs/digits/sweep-a", "sweep-a"):
        first, second, waiting = leaderboard(handle).rows
        assert first.state == "3 finished"
        assert second.state == "3 finished, 1 waiting"
        assert (waiting.rank, waiting.state, waiting.values) == (None, "waiting", ("5.0",))


def test_what_a_sweep_is_to_vary_is_seen_from_its_first_job_on():
    made_run("digits/sweep-a/0", state="running", overrides=["sweep.n_jobs=2", "optimizer.lr=0.1", "seed=0"], rows=[])
    sweep = OUTPUTS / "digits" / "sweep-a"
    planned = enumerate((lr, seed) for lr in (0.1, 0.01) for seed in (0, 1))
    overrides = [("sweep.n_jobs=3", f"optimizer.lr={lr}", f"seed={seed}") for _, (lr, seed) in planned]
    manifest.write(sweep, [Job(number, each, str(number)) for number, each in enumerate(overrides)])
    made_run("digits/b", overrides=[], config={"head": {"dropout": 0.5}})
    board = leaderboard("sweep-a", "digits/b")
    assert board.parameters == ("head.dropout", "optimizer.lr")
    found = {row.state: row.values for row in board.rows}
    assert found == {
        "finished": (0.5, 0.1),
        "1 running: epoch 0 of 3, 1 waiting": (ABSENT, 0.1),
        "2 waiting": (ABSENT, "0.01"),
    }


def test_a_job_that_failed_before_it_had_a_config_says_why(sweep):
    manifest.write(sweep, [Job(6, ("optimizer.lr=7.0",), "6")])
    (sweep / "6").mkdir()
    (sweep / "6" / "traceback.txt").write_text("Traceback\nValueError: data.root: it has no value\n")
    assert leaderboard("sweep-a").rows[-1].state == "failed: ValueError: data.root: it has no value"


def test_a_repeated_run_counts_once():
    made_run("digits/a", acc=0.5)
    again = made_run("digits/b", acc=0.9)
    again.write_state(again.state | {"started": "2031-01-01"})
    made_run("digits/c", state="failed")
    board = leaderboard()
    assert board.num_repeated == 2
    assert [names_of(row) for row in board.rows] == [["digits/b"]]


def test_where_a_run_lies_how_it_was_sampled_and_what_it_shows_is_no_parameter():
    for place in (1, 2, 3):
        shown = {"trainer": {"enable_progress_bar": place == 1}, "logger": {"csv": place}, "report": str(place)}
        made_run(f"digits/{place}", seed=place, config={"sweep": {"seed": place}, **shown, "ckpt_path": None})
    moved = made_run("digits/b", lr=0.2, seed=1, config={"sweep": {"seed": 9}})
    moved.write_config(moved.config | {"ckpt_path": "/elsewhere/digits/b/checkpoints/last.ckpt"})
    board = leaderboard()
    assert board.parameters == ("optimizer.lr",)
    assert [len(row.entries) for row in board.rows] == [3, 1]
    assert [entry.seeds for entry in board.rows[1].entries] == [board.rows[0].entries[0].seeds]


def test_a_run_that_began_with_another_ones_weights_is_another_configuration():
    made_run("digits/a", acc=0.7, config={"ckpt_path": None})
    made_run("digits/b", acc=0.9, config={"ckpt_path": "/runs/digits/a/checkpoints/best.ckpt"})
    board = leaderboard()
    assert board.num_repeated == 0
    assert board.parameters == ("ckpt_path",)
    assert [names_of(row) for row in board.rows] == [["digits/b"], ["digits/a"]]


def test_damaged_folders_are_no_obstacle(sweep):
    (sweep / "0" / "config.yaml").write_text("a: [")
    (sweep / "1" / "results.json").write_text('{"metrics"')
    (sweep / "2" / "metrics.csv").write_bytes(b"step,\x00\nx,\xff\n")
    (sweep / "3" / "predictions.safetensors").write_bytes(b"\x00" * 20)
    (sweep / "4" / "provenance.json").write_text('{"sessions": [3, {"data": 4}]}')
    (sweep / "5" / "state.json").write_text("[1")
    (sweep / "5" / ".hydra" / "overrides.yaml").write_text("3")
    made_run("digits/foreign").write_config({"model": 3})
    (OUTPUTS / "digits" / "odd").mkdir()
    (OUTPUTS / "digits" / "odd" / "config.yaml").write_text("model: {x: 1}\ncallbacks: 7\ntrainer: 3\nseed: [1, 2]\n")
    (OUTPUTS / "digits" / "odd" / "state.json").write_text(json.dumps({"status": "running", "host": "elsewhere"}))
    board = leaderboard()
    states = {name: row.state for row in board.rows for name in names_of(row)}
    assert states["digits/foreign"] == "damaged: config.yaml is not a run's config"
    assert (
        states["digits/sweep-a/0"] == states["digits/sweep-a/2"] == "1 finished, 2 damaged: results.json can't be read"
    )
    assert board.rows[0].metrics["test/acc"].n == 3
    assert board.rows[1].comparison.problem == "of the leader, predictions weren't kept, or are damaged"


def test_parts_of_names_mean_all_runs_that_have_them(sweep):
    made_run("flowers/b", lr=3.0)
    assert [len(row.entries) for row in leaderboard("sweep-a").rows] == [3, 3]
    assert [names_of(row) for row in leaderboard("sweep-a/1", "flowers/b").rows] == [
        ["flowers/b"],
        ["digits/sweep-a/1"],
    ]
    assert len(leaderboard("outputs/flowers").rows) == 1
    assert len(leaderboard("flowers", str(sweep), "sweep-a/0").rows) == 3
    with pytest.raises(FileNotFoundError, match=r"there is no run 'flower/b'\. The closest name is 'flowers/b'"):
        leaderboard("flower/b")


def test_the_last_run_needs_no_checkpoint():
    run = made_run("digits/a", state="stopped")
    assert [names_of(row) for row in leaderboard("last").rows] == [["digits/a"]]
    assert not run.last_ckpt.exists()


def test_what_a_run_lacks_is_absent():
    made_run("digits/a")
    made_run("digits/b", config={"head": {"dropout": 0.5}})
    assert {row.values for row in leaderboard().rows} == {(ABSENT,), (0.5,)}
