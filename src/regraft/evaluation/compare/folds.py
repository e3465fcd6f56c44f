"""Runs on the folds of cross-validation: their predictions together, and the test of a difference between them."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from regraft.config.nested import ABSENT, at
from regraft.evaluation.compare.entries import RunEntry
from regraft.evaluation.compare.statistics import LEVEL, Difference
from regraft.runs.predictions import read

FOLD = "data.fold"


def folds_of(entry: RunEntry) -> int | None:
    """Returns the number of folds of a run's data; None if it has none."""
    found = at(entry.composed.config, "data.folds")
    return None if found is ABSENT else found


def out_of_fold(entries: Sequence[RunEntry]) -> float | None:
    """Returns the accuracy on all images, each predicted by the run that it was held out from.

    It is the mean over seeds; None if a fold is missing, or its predictions are.

    Args:
        entries: the runs of a configuration.
    """
    by_seeds: dict[object, list[RunEntry]] = {}
    for entry in entries:
        if entry.is_finished:
            by_seeds.setdefault(tuple(pair for pair in entry.seeds if pair[0] != FOLD), []).append(entry)
    figures = []
    for runs in by_seeds.values():
        found = [read(entry.run.path) for entry in runs]
        kept = [predictions for predictions in found if predictions is not None]
        if len(kept) < len(found) or len(kept) != folds_of(runs[0]):
            return None
        indices = np.concatenate([predictions.indices for predictions in kept])
        if len(np.unique(indices)) < len(indices):  # of other data, or other folds
            return None
        figures.append(float(np.concatenate([each.predicted == each.targets for each in kept]).mean()))
    return float(np.mean(figures)) if figures else None


def difference_of_folds(differences: np.ndarray, folds: int) -> Difference:
    """Returns the mean difference over folds with the corrected resampled t test of Nadeau and Bengio (2003).

    The training sets of folds overlap, so their variance is too small: it is multiplied by 1 / n + n_test / n_train in
    place of 1 / n.

    Args:
        differences: of the accuracies on each fold, perhaps of several seeds, (n,), n at least 2.
        folds: their number, which makes n_test / n_train.
    """
    num, value = len(differences), float(differences.mean())
    variance = float(np.var(differences, ddof=1)) * (1 / num + 1 / (folds - 1))
    if variance == 0:
        return Difference(value, value, value, 1.0 if value == 0 else 0.0)
    half = float(stats.t.ppf((1 + LEVEL) / 2, num - 1)) * math.sqrt(variance)
    p = 2 * float(stats.t.sf(abs(value) / math.sqrt(variance), num - 1))
    return Difference(value, max(value - half, -1.0), min(value + half, 1.0), p)
