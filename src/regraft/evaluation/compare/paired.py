"""The leader against each other configuration, image by image, where both were tested on the same images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from regraft.evaluation.compare.entries import RunEntry
from regraft.evaluation.compare.folds import difference_of_folds, folds_of
from regraft.evaluation.compare.statistics import (
    LEVEL,
    Difference,
    difference_of_qualities,
    difference_of_seeds,
    difference_of_two,
    holm,
)
from regraft.runs import outputs
from regraft.runs.folder import Run
from regraft.runs.predictions import read
from regraft.tasks import TASKS
from regraft.tasks.classification import Classification

_FEWEST_PAIRS = 3
"""Of seeds; the variance of two differences is too uncertain."""
_FEWEST_FOLDS = 2
PERMUTED = "paired permutation test, bootstrap interval over samples"
SINGLE = "exact McNemar test, interval by Bonett and Price"
SEVERAL = "t test and interval over samples and seeds"
PAIRED = "t test and interval over samples and paired seeds"
FOLDS = "corrected resampled t test over folds (Nadeau and Bengio, 2003)"


class Outcome(StrEnum):
    """The result of a comparison with the leader, as it is shown."""

    WORSE = "worse"
    BETTER = "better"
    TIED = "not significantly different"
    NOT_COMPARED = "not compared"


@dataclass(frozen=True)
class Comparison:
    """A configuration against the leader.

    Attributes:
        difference: its accuracy, or what else is compared, minus the leader's, on the images that both were tested on.
        quality: what is compared, see `Task.quality`.
        p: of the difference, adjusted for the number of comparisons.
        method: test and interval.
        problem: why there is no difference.
    """

    difference: Difference | None = None
    p: float | None = None
    split: str = ""
    method: str = ""
    problem: str = ""
    quality: tuple[str, float] = Classification.quality

    @property
    def outcome(self) -> Outcome:
        """Whether the configuration is significantly worse or better than the leader."""
        if self.difference is None or self.p is None:
            return Outcome.NOT_COMPARED
        if self.p >= 1 - LEVEL:
            return Outcome.TIED
        return Outcome.WORSE if self.difference.value < 0 else Outcome.BETTER

    @property
    def verdict(self) -> str:
        """The outcome in words."""
        return f"{self.outcome}: {self.problem}" if self.problem else self.outcome


@dataclass(frozen=True)
class _Test:
    """How well a run predicts each image, (num_images,), and what the images are."""

    split: str
    indices: np.ndarray
    targets: np.ndarray
    qualities: np.ndarray
    quality: tuple[str, float]


def _test_of(run: Run) -> _Test | None:
    """Returns a run's test from the predictions in its folder; None if there are none."""
    found = read(run.path)
    if found is not None:
        is_right = found.predicted == found.targets
        return _Test(found.split, found.indices, found.targets, is_right, Classification.quality)
    other = outputs.read(run.path)
    if other is None:
        return None
    task = TASKS[other.task]
    return _Test(other.split, other.indices, other.targets, task.qualities(other.outputs, other.targets), task.quality)


@dataclass(frozen=True)
class _Folds:
    """The tests of a configuration's runs on folds, by their seeds and fold."""

    tests: dict[object, _Test]
    num: int
    fingerprint: str


@dataclass(frozen=True)
class _Tested:
    """The tests of a configuration's runs; `qualities` are (num_runs, num_images), bool where they are accuracies."""

    qualities: np.ndarray
    images: _Test
    fingerprint: str
    seeds: tuple[object, ...]


def compare_to_leader(groups: Sequence[Sequence[RunEntry]]) -> list[Comparison]:
    """Returns how each configuration, given by its runs, compares with the first one."""
    tested = [_tested(group) for group in groups]
    found = [_compared(other, tested[0]) for other in tested[1:]]
    p_values = [each.difference.p for each in found if each.difference is not None]
    adjusted = iter(holm(p_values))
    return [each if each.difference is None else replace(each, p=next(adjusted)) for each in found]


def _tested(entries: Sequence[RunEntry]) -> _Tested | _Folds | str:
    """Returns the tests of a configuration's finished runs, or why they can't be compared."""
    finished = [entry for entry in entries if entry.is_finished]
    found = [_test_of(entry.run) for entry in finished]
    kept = [test for test in found if test is not None]
    if len(kept) < len(finished):
        return "predictions weren't kept, or are damaged"
    if finished[0].fingerprint is None or len({entry.fingerprint for entry in finished}) > 1:
        return "its runs had different data"
    folds = folds_of(finished[0])
    if folds is not None:
        tests: dict[object, _Test] = {entry.seeds: test for entry, test in zip(finished, kept, strict=True)}
        return _Folds(tests, folds, str(finished[0].fingerprint))
    if any(not _has_same_images(kept[0], other) for other in kept):
        return "its seeds were tested on different samples"
    qualities = np.stack([each.qualities for each in kept])
    return _Tested(qualities, kept[0], str(finished[0].fingerprint), tuple(entry.seeds for entry in finished))


def _compared(other: _Tested | _Folds | str, leader: _Tested | _Folds | str) -> Comparison:
    if isinstance(other, str):
        return Comparison(problem=other)
    if isinstance(leader, str):
        return Comparison(problem=f"of the leader, {leader}")
    if other.fingerprint != leader.fingerprint:
        return Comparison(problem="other data than the leader's")
    if isinstance(other, _Folds) and isinstance(leader, _Folds):
        return _compared_by_fold(other, leader)
    if isinstance(other, _Folds) or isinstance(leader, _Folds):
        return Comparison(problem="only one of it and the leader has folds")
    if not _has_same_images(other.images, leader.images):
        return Comparison(problem="tested on other samples than the leader")
    split, quality = other.images.split, other.images.quality
    are_shares = quality == Classification.quality
    if len(other.qualities) == len(leader.qualities) == 1:
        one, two = other.qualities[0], leader.qualities[0]
        difference = difference_of_two(one, two) if are_shares else difference_of_qualities(one, two)
        return Comparison(difference, None, split, SINGLE if are_shares else PERMUTED, quality=quality)
    is_paired = other.seeds == leader.seeds and len(other.seeds) >= _FEWEST_PAIRS
    difference = difference_of_seeds(
        other.qualities, leader.qualities, is_paired=is_paired, largest=1.0 if are_shares else math.inf
    )
    return Comparison(difference, None, split, PAIRED if is_paired else SEVERAL, quality=quality)


def _compared_by_fold(other: _Folds, leader: _Folds) -> Comparison:
    shared = [key for key in other.tests if key in leader.tests]
    pairs = [(other.tests[key], leader.tests[key]) for key in shared]
    if len(pairs) < _FEWEST_FOLDS:
        return Comparison(problem=f"fewer than {_FEWEST_FOLDS} folds that the leader was tested on")
    if other.num != leader.num or any(not _has_same_images(*pair) for pair in pairs):
        return Comparison(problem="tested on other folds than the leader")
    differences = np.array([mine.qualities.mean() - theirs.qualities.mean() for mine, theirs in pairs])
    first = pairs[0][0]
    largest = 1.0 if first.quality == Classification.quality else math.inf
    found = difference_of_folds(differences, other.num, largest)
    return Comparison(found, None, first.split, FOLDS, quality=first.quality)


def _has_same_images(first: _Test, second: _Test) -> bool:
    is_same = np.array_equal(first.indices, second.indices) and np.array_equal(first.targets, second.targets)
    return is_same and first.split == second.split
