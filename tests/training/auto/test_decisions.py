"""What a search does next, by numbers alone."""

import pytest

from regraft.training.auto.decisions import (
    CLOSING_SECONDS,
    SAFETY,
    Cost,
    FitSeconds,
    affordable,
    early_share,
    fraction_that_fits,
    larger_fraction,
    largest_in_time,
    least_seconds,
    num_measured,
    rungs,
    seconds_at,
)

COST, FIT = Cost(0, 0.01, 2.0), FitSeconds(64, 0.1)


def cost_of(num_images: int) -> Cost:
    return Cost(num_images, 0.01, 2.0)


@pytest.mark.parametrize(
    ("num_images", "num_classes", "expected"),
    [(500, 10, [64, 128, 256, 500]), (500, 100, [400, 500]), (40, 2, [40]), (64, 2, [64]), (2, 2, [2])],
)
def test_candidates_are_compared_on_twice_as_many_images_each_time_and_on_all_in_the_end(
    num_images, num_classes, expected
):
    assert rungs(num_images, num_classes) == expected


def test_the_first_fit_has_two_images_of_each_class():
    assert [num_measured(*each) for each in ((500, 10), (500, 100), (40, 2), (150, 100))] == [64, 200, 40, 150]


def test_all_images_are_taken_if_there_is_time_for_them():
    assert fraction_that_fits(1000, 200, 10, cost_of(1000), FIT, seconds_left=60) == 1
    assert fraction_that_fits(5000, 200, 10, cost_of(0), FitSeconds(64, 0.0), seconds_left=10) == 1  # all are stored


def test_fewer_images_are_taken_if_there_is_no_time_for_all_and_none_if_those_are_too_few():
    many = cost_of(100_000)
    share = fraction_that_fits(100_000, 1000, 10, many, FIT, seconds_left=60)
    assert 0.01 < share < 0.03
    assert share * 100_000 * COST.seconds_per_image < 0.5 * 60
    assert fraction_that_fits(100_000, 1000, 10, many, FIT, seconds_left=10) > 0  # without the time for a test
    assert fraction_that_fits(100_000, 1000, 10, many, FIT, seconds_left=4) == 0
    assert fraction_that_fits(1000, 200, 10, cost_of(1000), FIT, seconds_left=1) == 0


def test_a_test_is_left_out_rather_than_many_images():
    assert fraction_that_fits(1000, 200, 10, cost_of(1000), FIT, seconds_left=18) < 1
    assert fraction_that_fits(1000, 2000, 10, cost_of(1000), FIT, seconds_left=20) == 1
    assert fraction_that_fits(1000, 2000, 10, cost_of(1000), FIT, seconds_left=14) < 0.5


def test_fits_that_take_long_limit_the_images_too():
    slow = FitSeconds(1000, 2.0)
    share = fraction_that_fits(20_000, 0, 10, cost_of(0), slow, seconds_left=100)
    assert 0.2 < share < 0.3
    assert 2 * slow(round(share * 20_000)) < 100


def test_the_time_of_a_fit_grows_with_the_square_of_the_images():
    seconds = FitSeconds().with_fit(64, 0.2)
    assert seconds(100) == 0.2
    assert seconds(1024) == pytest.approx(0.2 * 16)
    assert seconds.with_fit(512, 0.5)(1024) == pytest.approx(2.0)
    assert seconds.with_fit(512, 0.5).with_fit(128, 9.0)(512) == 0.5


def test_the_least_budget_is_one_that_works():
    many = cost_of(100_000)
    least = least_seconds(10, 100_000, 10, many, FIT)
    assert fraction_that_fits(100_000, 1000, 10, many, FIT, seconds_left=least - 10) > 0
    assert least > 10 + CLOSING_SECONDS + COST.run_seconds + 64 * COST.seconds_per_image


def test_candidates_that_do_not_fit_are_passed_over():
    assert affordable([[1], [10], [2]], 4) == [0, 2]
    assert affordable([[1], [10], [2]], 0) == []
    assert affordable([[1], [10], [2]], float("inf")) == [0, 1, 2]


def test_half_of_those_taken_along_are_expected_to_be_left_each_time():
    assert affordable([[1, 2, 4]] * 4, SAFETY * (4 * 1 + 2 * 2 + 1 * 4)) == [0, 1, 2, 3]
    assert affordable([[1, 2, 4]] * 4, 10.9 * SAFETY) == [0, 1]


def test_a_first_run_is_of_as_many_images_as_the_first_seconds_allow():
    assert early_share(500, 10, COST, passed=8) == 1
    assert 0.02 < early_share(20_000, 10, COST, passed=8) < 0.04
    assert early_share(10_000, 10, COST, passed=30) == 0.006  # the least


def test_seconds_grow_with_the_area():
    assert seconds_at(256, {128: 0.5}, 2) == pytest.approx(0.175 + 4 * 0.325)
    assert seconds_at(64, {128: 0.5}, 2) == 0.125
    assert seconds_at(256, {}, 2) == 0
    assert seconds_at(256, {64: 0.2, 128: 0.5}, 2) == pytest.approx(0.1 + 16 * 0.1)  # 0.1 whatever the size
    assert seconds_at(96, {64: 0.5, 128: 0.4}, 2) == 0.4


@pytest.mark.parametrize(("seconds_left", "largest"), [(5, None), (10, 96), (25, 128), (100, 224)])
def test_the_largest_size_is_taken_whose_run_and_test_are_in_time(seconds_left, largest):
    costs = {size: Cost(400, seconds, 2.0, 500) for size, seconds in ((96, 0.005), (128, 0.01), (224, 0.03))}
    assert largest_in_time(costs, seconds_left) == largest


def test_the_time_for_a_test_has_a_margin_only_where_a_size_is_chosen():
    cost = Cost(0, 0.01, 2.0, 100)
    assert cost.reserve == Cost(0, 0.01, 2.0).reserve + 1.0
    assert cost.reserve_with_test == pytest.approx(cost.reserve + (SAFETY - 1) * 1.0)
    assert largest_in_time({"small": Cost(0, 0.01, 1.0), "large": cost}, cost.reserve) == "small"


def test_in_the_end_as_many_images_are_taken_as_there_is_time_for():
    cost, fit = Cost(1000, 0.01, 2.0), FitSeconds(1000, 0.0)
    assert larger_fraction(0.1, 10_000, cost, fit, seconds_left=SAFETY * 42 + CLOSING_SECONDS) == pytest.approx(
        0.2, abs=0.002
    )
    assert larger_fraction(0.1, 10_000, cost, fit, seconds_left=1) == 0.1
    assert larger_fraction(0.1, 10_000, cost, fit, seconds_left=1000) == 1
    assert larger_fraction(0.1, 10_000, cost, FitSeconds(1000, 5.0), seconds_left=1000) < 0.9
