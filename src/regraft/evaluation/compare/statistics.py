"""The statistics of a comparison, by pure functions of arrays."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np
from scipy import stats

from regraft.tasks.bootstrap import resamples

NUM_RESAMPLES = 9999
LEVEL = 0.95
"""Confidence level of the intervals; differences are significant at 1 minus this level."""


@dataclass(frozen=True)
class Difference:
    """A difference of two accuracies, in [-1, 1], with its confidence interval and its two-sided p value."""

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class MeanStd:
    """A metric over n runs that differ only in seeds or folds; `std` has n - 1 in the denominator, None for one run."""

    mean: float
    std: float | None
    n: int


def mean_std(values: Sequence[float]) -> MeanStd:
    """Returns mean, standard deviation and number of at least one value."""
    return MeanStd(mean(values), stdev(values) if len(values) > 1 else None, len(values))


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the two-sided p value of the exact McNemar test, of whether two models are right, (num_images,), bool."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second).pvalue)


def paired_interval(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Returns the interval of the difference in accuracy by Bonett and Price (2012), on paired images.

    It keeps its level if the two disagree on few images only, as they do near the top of a leaderboard, and it seldom
    contradicts McNemar's test then. The percentile bootstrap does neither: at 4 to 0 of 359 images it excludes 0, while
    the test gives p = 0.125.
    """
    num_images = len(first) + 2
    only_first, only_second = ((found.sum() + 1) / num_images for found in (first & ~second, second & ~first))
    middle = float(only_first - only_second)
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * math.sqrt((only_first + only_second - middle**2) / num_images)
    return max(middle - half, -1.0), min(middle + half, 1.0)


def difference_of_two(first: np.ndarray, second: np.ndarray) -> Difference:
    """Returns the difference of two models from whether they are right, (num_images,), bool.

    The test is McNemar's exact one, the interval that of Bonett and Price.
    """
    low, high = paired_interval(first, second)
    return Difference(float(first.mean() - second.mean()), low, high, mcnemar(first, second))


def difference_of_qualities(first: np.ndarray, second: np.ndarray) -> Difference:
    """Returns the mean difference of two models from how well each predicts an image, (num_images,).

    The test permutes which model is which, image by image; the interval is the percentile bootstrap over images.
    """
    differences = first.astype(np.float64) - second.astype(np.float64)
    value = float(differences.mean())
    if not differences.any():
        return Difference(0.0, 0.0, 0.0, 1.0)
    options: dict[str, Any] = {"n_resamples": NUM_RESAMPLES, "rng": np.random.default_rng(0), "batch": 100}
    test = stats.permutation_test((differences,), np.mean, permutation_type="samples", **options)
    drawn = np.concatenate([counts @ differences / len(differences) for counts in resamples(len(differences))])
    low, high = np.percentile(drawn, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Difference(value, float(low), float(high), float(test.pvalue))


def difference_of_seeds(first: np.ndarray, second: np.ndarray, *, is_paired: bool, largest: float = 1.0) -> Difference:
    """Returns the difference of the mean accuracies of models of several seeds, by a t test and its interval.

    The variance is that over images, of differences averaged over the seeds, plus that over seeds: of the differences
    of paired seeds, or else the sum of both (Welch), where a single seed takes the other side's. Degrees of freedom are
    those of Welch and Satterthwaite. The interaction of images and seeds counts in both, which is conservative.

    Args:
        first: whether each of the first models is right, (num_seeds, num_images), bool.
        second: the same for the second models.
        is_paired: whether the rows of both have the same seeds.
        largest: a difference can have.
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
    # Two seeds that differ a lot give an interval beyond what accuracies can have.
    return Difference(value, max(value - half, -largest), min(value + half, largest), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p values adjusted for multiple comparisons (Holm 1979), in their order."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted


def _seed_terms(first: np.ndarray, second: np.ndarray, *, is_paired: bool) -> list[tuple[float, int]]:
    """Returns the terms of seeds in the variance of a difference of means, each with its degrees of freedom."""
    if is_paired:
        return [(float(np.var(first - second, ddof=1)) / len(first), len(first) - 1)]
    several = [group for group in (first, second) if len(group) > 1]
    if len(several) == 1:
        spread, degrees = float(np.var(several[0], ddof=1)), len(several[0]) - 1
        return [(spread * (1 / len(first) + 1 / len(second)), degrees)]
    return [(float(np.var(group, ddof=1)) / len(group), len(group) - 1) for group in several]
