import numpy as np
import pytest

from regraft.evaluation.domain_shift import shift_of_classes
from regraft.tasks.reliability import wilson

NAMES = ("a", "b", "c")


def test_both_domains_are_measured_on_the_classes_that_both_have():
    targets, predicted = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 0, 0, 0])
    found = shift_of_classes(predicted, targets, np.array([0, 1, 1, 2]), np.array([0, 0, 1, 1]), NAMES)
    assert (found.source.value, found.source.num_images) == (0.75, 4)
    assert (found.source.low, found.source.high) == wilson(3, 4)
    assert found.target.value == 0.5
    assert found.drop == 0.25
    assert found.drop_low < 0.25 < found.drop_high
    assert found.lacking == ["c"]
    assert [row.drop for row in found.per_class] == [0.5, 0, None]


def test_the_drops_interval_is_newcombes():
    # Newcombe, "Interval estimation for the difference between independent proportions", 1998, table II, (a).
    predicted, target_predicted = (np.arange(70) >= 56).astype(int), (np.arange(80) >= 48).astype(int)
    found = shift_of_classes(predicted, np.zeros(70, int), target_predicted, np.zeros(80, int), NAMES)
    assert (found.drop_low, found.drop_high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_domains_that_share_no_class_are_refused():
    with pytest.raises(ValueError, match="no class in common"):
        shift_of_classes(np.array([0]), np.array([0]), np.array([1]), np.array([1]), NAMES)
