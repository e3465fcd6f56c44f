import numpy as np
import pytest
from scipy import stats

from regraft.evaluation.compare.statistics import (
    MeanStd,
    difference_of_seeds,
    difference_of_two,
    holm,
    mcnemar,
    mean_std,
    paired_interval,
)


def pair(both, only_first, only_second, neither):
    """Returns whether two models are right, of as many images of each kind."""
    counts = [both, only_first, only_second, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


# Three seeds each; an image is right in exactly two of the first and one of the second, so images add no variance.
FIRST = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [0, 0, 0, 1]], bool)
SECOND = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]], bool)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(5, 15, 0.04138947), (15, 5, 0.04138947), (1, 9, 22 / 1024), (6, 6, 1.0), (0, 0, 1.0), (0, 5, 2 / 32)],
)
def test_mcnemar_is_the_binomial_test_of_the_images_that_one_gets_right(only_first, only_second, p):
    assert mcnemar(*pair(70, only_first, only_second, 10)) == pytest.approx(p)


def test_the_interval_is_near_the_normal_one_of_many_images():
    first, second = pair(8000, 700, 400, 900)
    share_first, share_second = 0.07, 0.04
    deviation = np.sqrt((share_first + share_second - (share_first - share_second) ** 2) / 10_000)
    low, high = paired_interval(first, second)
    assert low == pytest.approx(0.03 - 1.96 * deviation, abs=1e-4)
    assert high == pytest.approx(0.03 + 1.96 * deviation, abs=1e-4)


@pytest.mark.parametrize("only_first", range(3, 10))
def test_the_interval_agrees_with_the_test_on_a_few_images(only_first):
    first, second = pair(340, only_first, 0, 19 - only_first)
    is_significant = mcnemar(first, second) < 0.05
    low, high = paired_interval(first, second)
    assert (low > 0) == is_significant == (only_first > 5)
    assert paired_interval(second, first) == pytest.approx((-high, -low))


def test_the_interval_holds_its_level():
    draw, share, num_rounds = np.random.default_rng(0), np.array([0.02, 0.005, 0.975]), 400
    covered = 0
    for only_first, only_second, both in draw.multinomial(150, share, size=num_rounds):
        low, high = paired_interval(*pair(both, only_first, only_second, 0))
        covered += low <= 0.015 <= high
    assert covered > 0.95 * num_rounds


def test_an_interval_ends_where_differences_do():
    assert paired_interval(*pair(0, 3, 0, 0))[1] == 1


def test_models_that_agree_differ_by_nothing():
    first, second = pair(90, 0, 0, 10)
    found = difference_of_two(first, second)
    assert (found.value, found.p) == (0, 1)
    assert found.low == -found.high < 0


def test_two_models_differ_as_the_first_less_the_second():
    found = difference_of_two(*pair(75, 5, 20, 0))
    assert found.value == pytest.approx(-0.15)
    assert found.low < -0.15 < found.high < 0
    assert found.p < 0.05


def test_where_images_add_nothing_it_is_welchs_test():
    found = difference_of_seeds(FIRST, SECOND, is_paired=False)
    known = stats.ttest_ind(FIRST.mean(1), SECOND.mean(1), equal_var=False)
    assert found.value == pytest.approx(1 / 3)
    assert found.p == pytest.approx(known.pvalue)
    assert (found.low, found.high) == pytest.approx(np.clip(known.confidence_interval(), -1, 1))


def test_where_images_add_nothing_and_seeds_are_paired_it_is_the_paired_t_test():
    found = difference_of_seeds(FIRST, SECOND, is_paired=True)
    known = stats.ttest_rel(FIRST.mean(1), SECOND.mean(1))
    assert found.p == pytest.approx(known.pvalue)
    assert (found.low, found.high) == pytest.approx(np.clip(known.confidence_interval(), -1, 1))


def test_where_seeds_add_nothing_it_is_the_t_test_of_the_images():
    first, second = pair(70, 12, 4, 14)
    found = difference_of_seeds(np.stack([first] * 3), np.stack([second] * 3), is_paired=True)
    known = stats.ttest_rel(first.astype(float), second.astype(float))
    assert found.p == pytest.approx(known.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(known.confidence_interval()))


def test_a_single_seed_takes_the_spread_of_the_others():
    found = difference_of_seeds(np.zeros((1, 4), bool), FIRST, is_paired=False)
    deviation = np.sqrt(np.var(FIRST.mean(1), ddof=1) * (1 + 1 / 3))
    assert found.value == pytest.approx(-2 / 3)
    assert found.p == pytest.approx(2 * stats.t.sf(2 / 3 / deviation, 2))
    assert (found.low, found.high) == (-1, 1)


def test_seeds_that_never_differ_leave_no_doubt():
    always, never = np.ones((2, 5), bool), np.zeros((2, 5), bool)
    assert difference_of_seeds(always, never, is_paired=False).p == 0
    assert difference_of_seeds(always, always, is_paired=False).p == 1


@pytest.mark.parametrize("is_paired", [True, False])
def test_the_luck_of_seeds_is_seldom_called_a_difference(is_paired):
    draw = np.random.default_rng(0)

    def models(easiness):
        luck = draw.normal(0, 0.3, size=(3, 1)) + draw.logistic(size=(3, 200))
        return easiness + luck > 0

    rounds = [draw.normal(1, 1, size=200) for _ in range(300)]
    found = [difference_of_seeds(models(easy), models(easy), is_paired=is_paired).p < 0.05 for easy in rounds]
    assert np.mean(found) < 0.08


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.01, 0.02, 0.03, 0.04], [0.04, 0.06, 0.06, 0.06]),
        ([0.9, 0.8], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([], []),
    ],
)
def test_holm(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted)


def test_a_figure_has_no_spread_of_one():
    assert mean_std([0.5]) == MeanStd(0.5, None, 1)
    assert mean_std([0.7] * 3) == MeanStd(0.7, 0, 3)
    assert mean_std([1, 2, 3, 4]) == MeanStd(2.5, pytest.approx(1.2909944), 4)
