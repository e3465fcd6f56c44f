import pytest

from helpers.made_runs import drawn, made_run
from regraft.evaluation.compare.entries import read_entries
from regraft.evaluation.compare.paired import PAIRED, SEVERAL, SINGLE, compare_to_leader
from regraft.runs.predictions import PREDICTIONS, Predictions, write


@pytest.fixture
def compared(tmp_path):
    """Returns a function that compares the second of two groups of runs with the first."""

    def compare(first, second):
        groups = [read_entries(runs, tmp_path) for runs in (first, second)]
        (found,) = compare_to_leader(groups)
        return found

    return compare


def runs(name, acc, seeds=(0,), **more):
    return [made_run(f"{name}-{seed}", acc=acc, seed=seed, **more) for seed in seeds]


def test_a_clear_difference_is_called_one(compared):
    leader, other = runs("a", 0.9), runs("b", 0.7)
    found = compared(leader, other)
    assert (found.verdict, found.method, found.split) == ("worse", SINGLE, "test")
    accs = [run[0].metrics["test/acc"] for run in (other, leader)]
    assert found.difference.value == pytest.approx(accs[0] - accs[1])
    assert compared(other, leader).verdict == "better"


def test_noise_is_not(compared):
    found = compared(runs("a", 0.8), runs("b", 0.8, [1]))
    assert found.verdict == "not significantly different"
    assert found.difference.low <= 0 <= found.difference.high


@pytest.mark.parametrize(
    ("seeds", "others", "method"),
    [
        ([0, 1, 2], [0, 1, 2], PAIRED),
        ([0, 1, 2], [3, 4, 5], SEVERAL),
        ([0, 1], [0, 1], SEVERAL),
        ([0], [0, 1], SEVERAL),
    ],
)
def test_seeds_are_paired_where_both_have_the_same_three(compared, seeds, others, method):
    found = compared(runs("a", 0.9, seeds), runs("b", 0.6, others))
    assert (found.method, found.verdict) == (method, "worse")


def test_several_comparisons_are_adjusted_for(tmp_path):
    groups = [read_entries(runs(f"g{place}", acc), tmp_path) for place, acc in enumerate((0.80, 0.77, 0.765, 0.5))]
    alone = [compare_to_leader([groups[0], group])[0].p for group in groups[1:]]
    together = [found.p for found in compare_to_leader(groups)]
    assert all(p >= single for p, single in zip(together, alone, strict=True))
    assert together[2] == pytest.approx(3 * alone[2])


def test_other_data_is_not_compared(compared):
    found = compared(runs("a", 0.9), runs("b", 0.8, fingerprint="0" * 32))
    assert found.verdict == "not compared: other data than the leader's"


def test_other_images_are_not_compared(compared):
    found = compared(runs("a", 0.9), runs("b", 0.8, num_images=300))
    assert found.verdict == "not compared: tested on other samples than the leader"


def test_another_split_is_not_compared(compared):
    first, second = runs("a", 0.9), runs("b", 0.8)
    kept = drawn(0.8, 0)
    write(second[0].path, Predictions("val", kept.indices, kept.targets, kept.predicted, kept.confidences))
    assert "other samples" in compared(first, second).verdict


def test_seeds_with_tests_of_their_own_are_not_compared(compared):
    mixed = [*runs("b", 0.8), *runs("c", 0.8, [1], num_images=300)]
    assert compared(runs("a", 0.9), mixed).verdict == "not compared: its seeds were tested on different samples"


def test_runs_of_old_kept_nothing_to_compare(compared):
    assert "predictions weren't kept" in compared(runs("a", 0.9), runs("b", 0.8, kept=False)).verdict
    assert "of the leader, predictions" in compared(runs("c", 0.9, kept=False), runs("d", 0.8)).verdict


def test_damaged_predictions_are_not_compared(compared):
    leader, other = runs("a", 0.9), runs("b", 0.8)
    path = other[0].path / PREDICTIONS
    path.write_bytes(path.read_bytes()[:100])
    assert "damaged" in compared(leader, other).verdict
