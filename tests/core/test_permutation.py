import numpy as np
import pytest

from regraft.core.permutation import permuted


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 100, 1000, 1023, 1024, 1025, 4097])
def test_each_number_stands_at_one_position(size):
    for seed in range(5):
        assert np.array_equal(np.sort(permuted(seed, np.arange(size), size)), np.arange(size))


def test_what_stands_at_a_position_depends_on_it_and_the_seed_alone():
    whole = permuted(3, np.arange(1000), 1000)
    positions = np.array([[999, 0], [17, 500]])
    assert np.array_equal(permuted(3, positions, 1000), whole[positions])
    assert not np.array_equal(permuted(4, np.arange(1000), 1000), whole)


def test_a_few_positions_of_many_are_quick():
    size = 10**12
    found = permuted(0, np.arange(10_000), size)
    assert (found >= 0).all()
    assert (found < size).all()
    assert len(np.unique(found)) == 10_000
    assert abs(found.mean() / size - 0.5) < 0.02
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.04


def test_every_order_of_a_few_is_about_equally_likely():
    orders, counts = np.unique([permuted(seed, np.arange(4), 4) for seed in range(4800)], axis=0, return_counts=True)
    assert len(orders) == 24
    assert ((counts - 200) ** 2 / 200).sum() < 60  # 23 degrees of freedom: 49.7 is exceeded once in a thousand


def test_no_position_prefers_a_number():
    first = np.array([permuted(seed, np.array([0, 5]), 10) for seed in range(5000)])
    for column in first.T:
        counts = np.bincount(column, minlength=10)
        assert ((counts - 500) ** 2 / 500).sum() < 30  # 9 degrees of freedom
