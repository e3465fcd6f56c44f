"""What a search does next, by numbers alone."""

import pytest

from regraft.training.auto.decisions import (
    CLOSING_SECONDS,
    Cost,
    affordable,
    fraction_that_fits,
    larger_fraction,
    least_seconds,
    rungs,
)

COST = Cost(0, 0.01, 2.0)


@pytest.mark.parametrize(
    ("num_images", "num_classes", "expected"),
    [(500, 10, [64, 128, 256, 500]), (500, 100, [400, 500]), (40, 2, [40]), (64, 2, [64]), (2, 2, [2])],
)
def test_candidates_are_compared_on_twice_as_many_images_each_time_and_on_all_in_the_end(
    num_images, num_classes, expected
):
    assert rungs(num_images, num_classes) == expected


def test_all_images_are_taken_if_there_is_time_for_them():
    assert fraction_that_fits(1000, 200, 10, COST, seconds_left=60) == 1


def test_fewer_images_are_taken_if_there_is_no_time_for_all_and_none_if_those_are_too_few():
    share = fraction_that_fits(100_000, 1000, 10, COST, seconds_left=60)
    assert 0.01 < share < 0.03
    assert share * 100_000 * COST.seconds_per_image < 0.5 * 60
    assert fraction_that_fits(100_000, 1000, 10, COST, seconds_left=10) > 0  # without the time for a test
    assert fraction_that_fits(100_000, 1000, 10, COST, seconds_left=4) == 0
    assert fraction_that_fits(1000, 200, 10, COST, seconds_left=1) == 0


def test_the_least_budget_is_one_that_works():
    least = least_seconds(10, 100_000, 10, COST)
    assert fraction_that_fits(100_000, 1000, 10, COST, seconds_left=least - 10) > 0
    assert least > 10 + CLOSING_SECONDS + COST.run_seconds + 64 * COST.seconds_per_image


def test_candidates_that_do_not_fit_are_passed_over():
    assert affordable([1, 10, 2], 4) == [0, 2]
    assert affordable([1, 10, 2], 0) == []
    assert affordable([1, 10, 2], float("inf")) == [0, 1, 2]


def test_in_the_end_as_many_images_are_taken_as_there_is_time_for():
    cost = Cost(1000, 0.01, 2.0)
    assert larger_fraction(0.1, 10_000, cost, seconds_left=cost.reserve + 23) == pytest.approx(0.2, abs=0.002)
    assert larger_fraction(0.1, 10_000, cost, seconds_left=1) == 0.1
    assert larger_fraction(0.1, 10_000, cost, seconds_left=1000) == 1
