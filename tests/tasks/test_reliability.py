import numpy as np
import pytest

from regraft.tasks.reliability import reliability, wilson


def test_the_bins_hold_every_image_and_both_ends():
    bins = reliability(np.array([1e-9, 0.5, 0.5, 1.0]), np.array([False, True, False, True]), num_bins=2)
    assert bins.counts.tolist() == [3, 1]
    assert bins.accuracy.tolist() == pytest.approx([1 / 3, 1])
    assert bins.ece == pytest.approx(0, abs=1e-9)


def test_the_interval_is_wilsons():
    assert wilson(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson(0, 1)[0] == 0 < wilson(0, 1)[1] < 1
