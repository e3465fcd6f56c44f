import math

import pytest

from regraft.config.nested import ABSENT
from regraft.report.axes import numeric_axis, shortened
from regraft.report.leaderboard.plots import ScatterPoint, _labelled, axis_of


def texts(axis):
    return [tick.label for tick in axis.ticks]


def test_numbers_stand_by_size_with_ticks_of_their_own():
    axis = axis_of("depth", [20, 8, 14])
    assert (axis.name, texts(axis)) == ("depth", ["8", "14", "20"])
    assert axis.position(14) == pytest.approx(0.5)
    assert 0 < axis.position(8) < axis.position(20) < 1


def test_numbers_that_span_far_stand_by_their_logarithm():
    axis = axis_of("lr", [1e-4, 1e-3, 1e-2])
    assert (axis.name, texts(axis)) == ("lr (log)", ["0.0001", "0.001", "0.01"])
    assert axis.position(1e-3) == pytest.approx(0.5)


def test_many_numbers_have_round_ticks():
    assert texts(axis_of("x", [place / 10 for place in range(11)])) == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert texts(axis_of("x", [10.0**power for power in range(-9, 1)])) == ["1e-09", "1e-07", "1e-05", "0.001", "0.1"]


def test_one_number_stands_in_the_middle():
    assert axis_of("x", [3, 3]).position(3) == 0.5


def test_words_stand_evenly_and_what_is_absent_at_the_bottom():
    axis = axis_of("x", ["b", ABSENT, "a", None])
    assert texts(axis)[0] == "(none)"
    assert {"a", "b", "null"} == set(texts(axis)[1:])
    assert sorted(map(axis.position, ["b", ABSENT, "a", None])) == pytest.approx([0.125, 0.375, 0.625, 0.875])


def test_numbers_beside_what_is_absent_are_in_order():
    assert texts(axis_of("x", [10, ABSENT, 2])) == ["(none)", "2", "10"]


def test_numbers_without_an_end_stand_evenly():
    assert texts(axis_of("x", [math.inf, 1.0, 2.0])) == ["1", "2", "inf"]


def test_a_value_far_from_all_others_does_not_squeeze_them():
    values = [0.5, 0.52, 0.55, 0.6, 0.62, 9e5]
    axis = numeric_axis("val/loss", values, is_robust=True)
    assert texts(axis)[-1] == "> 0.62"
    assert axis.position(9e5) == pytest.approx(1)
    assert axis.position(0.62) - axis.position(0.5) > 0.8
    wide = numeric_axis("seconds", [3.0, 3.01, 3.02, 3.03, 3.04, 3.1, 4e3], is_robust=True, gap=0.17)
    assert texts(wide)[-1] == "> 3.1"
    assert texts(numeric_axis("x", [2.0, 2.0, 2.0, 2.0, 2.0, 5.0], is_robust=True))[-1] == "5"


def test_labels_do_not_cover_each_other():
    assert texts(axis_of("lr", [0.1, 0.1001, 0.2])) == ["0.1", "0.2"]
    words = axis_of("x", [f"choice {place}" for place in range(60)])
    assert min(b.position - a.position for a, b in zip(words.ticks, words.ticks[1:], strict=False)) >= 0.05
    points = [ScatterPoint(str(rank), x, 0.5, 0.5, 0.5, 0, rank) for rank, x in ((1, 0.2), (2, 0.9), (3, 0.25))]
    assert [point.label for point in _labelled(points)] == ["1, 3", "2", ""]


def test_long_labels_keep_their_end():
    assert shortened("regraft.freezing.LPFT", 10) == "regr….LPFT"
    assert shortened("short", 10) == "short"


def test_counts_are_written_out():
    assert texts(axis_of("parameters", [94_762, 129_066])) == ["94,762", "129,066"]
    assert texts(axis_of("parameters", [1e4, 1e6, 1e9])) == ["10,000", "1,000,000", "1e+09"]
