"""The statistics of a comparison: pure functions of arrays.

Which runs are compared, and on which images, belongs in `paired`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np
from scipy import stats

LEVEL = 0.95
"""Confidence of the intervals; a difference counts from a p of 1 less this."""


@dataclass(frozen=True)
class Difference:
    """A difference of two accuracies, first minus second.

    Attributes:
        value: in [-1, 1].
        low: the lower end of its confidence interval.
        high: the upper end.
        p: two-sided, of there being none.
    """

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Figure:
    """A metric over runs that differ in their seeds alone.

    Attributes:
        mean: of the runs.
        std: with n - 1 in the denominator; None of a single run.
        n: how many runs.
    """

    mean: float
    std: float | None
    n: int


def figure(values: Sequence[float]) -> Figure:
    """Returns mean, standard deviation and number of at least one value."""
    assert values, "a figure is one of some runs"
    return Figure(mean(values), stdev(values) if len(values) > 1 else None, len(values))


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the two-sided p of the exact McNemar test: the binomial one on the images that only one gets right.

    Args:
        first: (num_images,), bool, whether the first model is right.
        second: (num_images,), bool, the second one's, of the same images.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second).pvalue)


def paired_interval(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Returns the interval of the difference in accuracy by Bonett and Price (2012), on paired images.

    It holds its level where the two disagree on a few images only, as near the top of a leaderboard they do, and seldom
    contradicts McNemar's test there. The percentile bootstrap does neither: at 4 to 0 of 359 it excludes 0, of which
    the test says p = 0.125.

    Args:
        first: (num_images,), bool, whether the first model is right.
        second: (num_images,), bool, the second one's, of the same images.
    """
    num_images = len(first) + 2
    only_first, only_second = ((found.sum() + 1) / num_images for found in (first & ~second, second & ~first))
    middle = float(only_first - only_second)
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * math.sqrt((only_first + only_second - middle**2) / num_images)
    return max(middle - half, -1.0), min(middle + half, 1.0)


def difference_of_two(first: np.ndarray, second: np.ndarray) -> Difference:
    """Returns the difference of two single models: exact McNemar test, interval by Bonett and Price.

    Args:
        first: (num_images,), bool, whether the first model is right.
        second: (num_images,), bool, the second one's, of the same images.
    """
    low, high = paired_interval(first, second)
    return Difference(float(first.mean() - second.mean()), low, high, mcnemar(first, second))


def difference_of_seeds(first: np.ndarray, second: np.ndarray, *, is_paired: bool) -> Difference:
    """Returns the difference of two mean accuracies, of models of several seeds: a t test and its interval.

    The variance is that over the images, of differences averaged over the seeds, plus that over the seeds (of paired
    seeds' differences; else each one's own, as Welch adds them, where a single seed takes the other one's). Degrees of
    freedom are Welch's and Satterthwaite's. What images and seeds have in common is counted in both, which errs towards
    no difference.

    Args:
        first: (num_seeds, num_images), bool, whether each of the first models is right.
        second: (num_seeds, num_images), bool, the second ones', of the same images.
        is_paired: whether row by row both have the same seed.
    """
    assert max(len(first), len(second)) > 1, "of single models see `difference_of_two`"
    differences = first.mean(0) - second.mean(0)
    num_images = len(differences)
    terms = [(float(np.var(differences, ddof=1)) / num_images, num_images - 1)] if num_images > 1 else []
    terms += _seed_terms(first.mean(1), second.mean(1), is_paired=is_paired)
    value, variance = float(differences.mean()), sum(term for term, _ in terms)
    if variance == 0:
        return Difference(value, value, value, 1.0 if value == 0 else 0.0)
    freedom = variance**2 / sum(term**2 / degrees for term, degrees in terms)
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(variance)
    p = 2 * float(stats.t.sf(abs(value) / math.sqrt(variance), freedom))
    # Two seeds that differ much give an interval that no two accuracies can.
    return Difference(value, max(value - half, -1.0), min(value + half, 1.0), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p values adjusted for being several (Holm 1979), in their order."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - place)))
        adjusted[index] = largest
    return adjusted


def _seed_terms(first: np.ndarray, second: np.ndarray, *, is_paired: bool) -> list[tuple[float, int]]:
    """Returns what seeds add to the variance of a difference of means, each term with its degrees of freedom."""
    if is_paired:
        return [(float(np.var(first - second, ddof=1)) / len(first), len(first) - 1)]
    several = [group for group in (first, second) if len(group) > 1]
    if len(several) == 1:
        spread, degrees = float(np.var(several[0], ddof=1)), len(several[0]) - 1
        return [(spread * (1 / len(first) + 1 / len(second)), degrees)]
    return [(float(np.var(group, ddof=1)) / len(group), len(group) - 1) for group in several]
