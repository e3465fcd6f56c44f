import pytest

from helpers.written import written_run
from regraft.sweeps.objectives import checked_directions, checked_metrics, kept_row, values_of


def test_a_search_goes_by_validation_and_costs():
    assert checked_metrics("val/acc") == ["val/acc"]
    assert checked_directions(None, ["val/acc", "val/loss", "seconds"]) == ["maximize", "minimize", "minimize"]
    assert checked_directions("minimize", ["val/acc"]) == ["minimize"]


@pytest.mark.parametrize(
    ("metrics", "sentence"),
    [
        (["test/acc"], "Search by val/acc"),
        (["val/acc", "val/acc"], "different metrics"),
        ([], "different metrics"),
        (["secnds"], "Did you mean 'seconds'"),
        (["val/accc"], "Did you mean 'val/acc'"),
    ],
)
def test_what_a_search_may_not_go_by_is_refused(metrics, sentence):
    with pytest.raises(ValueError, match=sentence):
        checked_metrics(metrics)


@pytest.mark.parametrize("directions", [["maximize"], ["up", "down"], 3])
def test_each_metric_has_a_direction(directions):
    with pytest.raises(ValueError, match=r"sweep\.directions: got"):
        checked_directions(directions, ["val/acc", "seconds"])


def test_a_runs_value_is_that_of_the_epoch_that_it_kept(tmp_path):
    run = written_run(tmp_path / "0", [0.2, 0.9, 0.4])
    assert values_of(run, ["val/acc", "seconds"]) == [0.9, 2.0]
    assert values_of(run, ["val/loss"]) == [pytest.approx(0.1)]
    assert values_of(written_run(tmp_path / "1", [0.2, 0.9, 0.4], callbacks={}), ["val/acc"]) == [0.4]


def test_of_equal_epochs_the_one_with_the_lowest_loss_is_kept():
    config = {"callbacks": {"best": {"monitor": "val/acc", "mode": "max"}}}
    values = ((0.5, 0.1), (0.9, 0.4), (0.9, 0.3), (0.9, 0.3))
    rows = [{"step": 4 + 5 * epoch, "val/acc": acc, "val/loss": loss} for epoch, (acc, loss) in enumerate(values)]
    assert kept_row(rows, config, {}) is rows[2]
    assert kept_row(rows, config, {"kept": {"epoch": 1, "step": 10}}) is rows[1]


def test_the_seconds_of_a_resumed_run_are_those_of_all_its_sessions(tmp_path):
    run = written_run(tmp_path / "0", [0.2])
    (run.path / "provenance.json").write_text('{"sessions": [{"seconds": 3.5}, {"seconds": null}, {"seconds": 2.1}]}')
    assert values_of(run, ["seconds"]) == [5.5]


def test_a_run_without_the_figure_is_no_trial(tmp_path):
    with pytest.raises(ValueError, match=r"unknown metric 'val/top5'.*val/acc"):
        values_of(written_run(tmp_path / "0", [0.2]), ["val/top5"])
    with pytest.raises(ValueError, match="nan"):
        values_of(written_run(tmp_path / "1", [float("nan")]), ["val/acc"])
