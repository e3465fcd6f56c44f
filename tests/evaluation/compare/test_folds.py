import numpy as np
import pytest
from scipy import stats

from helpers.made_runs import drawn, made_run
from regraft.evaluation.compare.entries import read_entries
from regraft.evaluation.compare.folds import difference_of_folds
from regraft.evaluation.compare.leaderboard import make_leaderboard
from regraft.evaluation.compare.paired import FOLDS
from regraft.report.leaderboard.terminal import show
from regraft.report.leaderboard.text import cells, headings, sentences, to_csv
from regraft.runs import outputs
from regraft.runs.outputs import Outputs
from regraft.runs.predictions import Predictions, write
from regraft.tasks import TASKS

NUM_FOLDS = 5


def fold_runs(name, acc, folds=range(NUM_FOLDS), seed=0):
    """Returns the runs of a configuration on some folds of 400 images."""
    every, found = drawn(acc, seed), []
    for fold in folds:
        run = made_run(
            f"{name}-{fold}", lr=acc, acc=acc, seed=seed, config={"data": {"folds": NUM_FOLDS, "fold": fold}}
        )
        held_out = slice(fold, None, NUM_FOLDS)
        columns = (every.indices, every.targets, every.predicted, every.confidences)
        kept = Predictions("test", *(column[held_out].copy() for column in columns))
        write(run.path, kept)
        accuracy = float((kept.predicted == kept.targets).mean())
        run.write_results({"metrics": {"test/acc": accuracy}, "seconds": 1.0, "num_trained_parameters": 10})
        found.append(run)
    return found


def board_of(*groups, tmp_path):
    return make_leaderboard(read_entries([run for group in groups for run in group], tmp_path), None)


def test_folds_are_repetitions_of_one_configuration(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("regraft.report.leaderboard.terminal._WIDTH", 80)
    board = board_of(fold_runs("a", 0.9), fold_runs("b", 0.7), tmp_path=tmp_path)
    first, second = board.rows
    assert board.parameters == ("optimizer.lr",)
    assert (first.metrics["test/acc"].n, second.metrics["test/acc"].n) == (5, 5)
    every = drawn(0.9, 0)
    assert first.out_of_fold.value == pytest.approx((every.predicted == every.targets).mean())
    assert second.comparison.method == FOLDS
    assert second.comparison.verdict == "worse"
    assert second.comparison.difference.value == pytest.approx(-0.2, abs=0.05)
    assert headings(board).index("acc out of fold") == 4
    assert cells(board, first)[4] == f"{first.out_of_fold.value:.4f}"
    show(board)
    assert f"(n = 5); acc out of fold {first.out_of_fold.value:.4f}" in capsys.readouterr().out
    assert any("Nadeau and Bengio" in sentence for sentence in sentences(board))


@pytest.mark.parametrize("name", ["multilabel", "regression"])
def test_the_figure_out_of_fold_of_labels_and_numbers(name, tmp_path):
    task, generator = TASKS[name], np.random.default_rng(0)
    targets = generator.random((100, 2)).astype(np.float32)
    found = (targets + generator.normal(0, 0.3, (100, 2))).astype(np.float32)
    targets = (targets > 0.5).astype(np.float32) if name == "multilabel" else targets
    runs = []
    for fold in range(NUM_FOLDS):
        config = {"data": {"folds": NUM_FOLDS, "fold": fold}, "task": {"name": name}}
        run = made_run(f"{name}-{fold}", lr=0.1, acc=0.5, seed=0, config=config)
        part = slice(fold, None, NUM_FOLDS)
        outputs.write(
            run.path, Outputs("test", name, np.arange(100)[part].copy(), targets[part].copy(), found[part].copy())
        )
        run.write_results({"metrics": {f"test/{task.headline}": 0.5}, "seconds": 1.0, "num_trained_parameters": 10})
        runs.append(run)
    board = board_of(runs, tmp_path=tmp_path)
    figure = board.rows[0].out_of_fold
    assert figure.metric == task.headline
    assert figure.value == pytest.approx(task.scores(found, targets, "ab").metrics[task.headline])
    assert f"{task.headline} out of fold" in headings(board)
    assert f"{task.headline}_out_of_fold" in to_csv(board)
    assert f"{name}-0 and 4 more, " in sentences(board)[0]


def test_without_all_folds_there_is_no_figure_out_of_fold(tmp_path):
    board = board_of(fold_runs("a", 0.9, range(4)), fold_runs("b", 0.7, [3, 4]), tmp_path=tmp_path)
    assert [row.out_of_fold for row in board.rows] == [None, None]
    assert "acc out of fold" not in headings(board)
    assert board.rows[1].comparison.verdict == "not compared: fewer than 2 folds that the leader was tested on"


def test_folds_and_single_runs_are_not_compared(tmp_path):
    board = board_of(fold_runs("a", 0.9), [made_run("b", acc=0.5)], tmp_path=tmp_path)
    assert board.rows[1].comparison.verdict == "not compared: only one of it and the leader has folds"


def test_the_variance_is_corrected_for_overlapping_training_sets():
    differences = np.array([0.02, 0.05, -0.01, 0.03, 0.04])
    found = difference_of_folds(differences, 5)
    naive = stats.ttest_1samp(differences, 0)
    t = naive.statistic / np.sqrt(1 + 5 / 4)  # (1/5 + 1/4) in place of 1/5
    assert found.value == pytest.approx(differences.mean())
    assert found.p == pytest.approx(2 * stats.t.sf(t, 4))
    assert found.low < 0 < found.high
    assert difference_of_folds(np.zeros(5), 5).p == 1


def test_the_test_keeps_its_level_on_chance_alone():
    random = np.random.default_rng(0)
    # Folds whose training sets overlap: differences share a part, which a test that ignores it takes for an effect.
    shared, own = random.normal(0, np.sqrt(1 / 4), (2_000, 1)), random.normal(0, 1, (2_000, 5))
    rejected = [difference_of_folds(row / 100, 5).p < 0.05 for row in shared + own]
    assert np.mean(rejected) < 0.06
