"""Runs on the folds of cross-validation: their predictions together, and the test of a difference between them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from regraft.config.nested import ABSENT, at
from regraft.evaluation.compare.entries import RunEntry
from regraft.evaluation.compare.statistics import LEVEL, Difference
from regraft.runs import outputs, predictions
from regraft.runs.folder import Run
from regraft.tasks import TASKS, Task

FOLD = "data.fold"


def folds_of(entry: RunEntry) -> int | None:
    """Returns the number of folds of a run's data; None if it has none."""
    found = at(entry.composed.config, "data.folds")
    return None if found is ABSENT else found


class OutOfFold(NamedTuple):
    """The headline metric on all images, each predicted by the run that it was held out from; the mean over seeds."""

    metric: str
    value: float


def out_of_fold(entries: Sequence[RunEntry]) -> OutOfFold | None:
    """Returns the figure of the runs of a configuration; None if a fold is missing, or its predictions are."""
    by_seeds: dict[object, list[RunEntry]] = {}
    for entry in entries:
        if entry.is_finished:
            by_seeds.setdefault(tuple(pair for pair in entry.seeds if pair[0] != FOLD), []).append(entry)
    figures = []
    for runs in by_seeds.values():
        found = [_held_out(entry.run) for entry in runs]
        kept = [each for each in found if each is not None]
        is_same = len({(each.task.name, each.decisions.shape[1:]) for each in kept}) == 1
        if not is_same or len(kept) < len(found) or len(kept) != folds_of(runs[0]):
            return None
        indices = np.concatenate([each.indices for each in kept])
        if len(np.unique(indices)) < len(indices):  # of other data, or other folds
            return None
        task = kept[0].task
        decisions, targets = (
            np.concatenate([getattr(each, name) for each in kept]) for name in ("decisions", "targets")
        )
        error = task.error(decisions, targets, [str(number) for number in range(decisions[0].size)])
        if error is None:
            return None
        figures.append(1 - error)
    return OutOfFold(task.headline, float(np.mean(figures))) if figures else None


class _HeldOut(NamedTuple):
    """What a run has predicted for images that it wasn't trained on, see `Task.decisions`."""

    task: Task
    indices: np.ndarray
    targets: np.ndarray
    decisions: np.ndarray


def _held_out(run: Run) -> _HeldOut | None:
    if (found := outputs.read(run.path)) is not None:
        return _HeldOut(TASKS[found.task], found.indices, found.targets, found.outputs)
    if (classes := predictions.read(run.path)) is not None:
        return _HeldOut(TASKS["classification"], classes.indices, classes.targets, classes.predicted)
    return None


def difference_of_folds(differences: np.ndarray, folds: int, largest: float = 1.0) -> Difference:
    """Returns the mean difference over folds with the corrected resampled t test of Nadeau and Bengio (2003).

    The training sets of folds overlap, so their variance is too small: it is multiplied by 1 / n + n_test / n_train in
    place of 1 / n.

    Args:
        differences: of the accuracies on each fold, perhaps of several seeds, (n,), n at least 2.
        folds: their number, which makes n_test / n_train.
        largest: that a difference can be.
    """
    num, value = len(differences), float(differences.mean())
    variance = float(np.var(differences, ddof=1)) * (1 / num + 1 / (folds - 1))
    if variance == 0:
        return Difference(value, value, value, 1.0 if value == 0 else 0.0)
    half = float(stats.t.ppf((1 + LEVEL) / 2, num - 1)) * math.sqrt(variance)
    p = 2 * float(stats.t.sf(abs(value) / math.sqrt(variance), num - 1))
    return Difference(value, max(value - half, -largest), min(value + half, largest), p)
