"""Comparisons of models of several labels or of numbers."""

import numpy as np
import pytest
from scipy import stats

from regraft.evaluation.compare.statistics import difference_of_qualities
from regraft.tasks import TASKS


def test_the_paired_test_is_near_the_t_test_for_many_images():
    generator = np.random.default_rng(0)
    first = generator.normal(size=300)
    second = first - 0.1 + generator.normal(0, 0.8, size=300)
    found, expected = difference_of_qualities(first, second), stats.ttest_rel(first, second)
    assert found.value == pytest.approx(np.mean(first - second))
    assert found.p == pytest.approx(expected.pvalue, abs=0.02)
    interval = expected.confidence_interval()
    assert [found.low, found.high] == pytest.approx([interval.low, interval.high], abs=0.02)


def test_equal_models_dont_differ():
    assert difference_of_qualities(np.ones(5), np.ones(5)).p == 1


def test_qualities_grow_with_what_is_right():
    targets = np.array([[0, 1], [1, 1], [0, 0]], np.float32)
    probabilities = np.array([[0.1, 0.2], [0.7, 0.9], [0.6, 0.7]])
    assert TASKS["multilabel"].qualities(probabilities, targets).tolist() == [0.5, 1, 0]
    numbers = np.array([[1.0, 5.0], [3.0, 5.0]])
    assert TASKS["regression"].qualities(numbers + np.array([0.5, 0.2]), numbers) == pytest.approx([-0.35, -0.35])
