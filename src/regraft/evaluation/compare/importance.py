"""Importance of each parameter: scikit-learn's permutation importance on held-out runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from regraft.config.nested import ABSENT
from regraft.evaluation.compare.parameters import comparable, is_number

_FEWEST_RUNS = 12
_RUNS_A_PARAMETER = 4
_NUM_FOLDS = 5
_NUM_TREES = 30
_LEAST_R2 = 0.25
"""On held-out runs; below it the forest may have learnt noise."""
_NUM_SHUFFLES = 10


def importance(parameters: Mapping[str, Sequence[Any]], metric: Sequence[float]) -> dict[str, float] | str:
    """Returns each parameter's share of the rise in error when its values are shuffled; or why it can't be computed.

    A random forest predicts the metric from the parameters; each of 5 folds of the runs is held out in turn, and a
    parameter's values are shuffled there (Breiman 2001).
    """
    needed = max(_FEWEST_RUNS, _RUNS_A_PARAMETER * len(parameters))
    if len(parameters) < 2:
        return "two or more varied parameters are needed."
    if len(metric) < needed:
        return f"{needed} finished runs are needed for {len(parameters)} parameters; there are {len(metric)}."
    values = np.asarray(metric, float)
    variance = float(np.var(values))
    if variance == 0:
        return "all runs have the same metric."
    columns = np.column_stack([_encoded(column) for column in parameters.values()])
    rise, error = _on_held_out_runs(columns, values)
    r2 = 1 - error / variance
    if r2 < _LEAST_R2:
        return f"the parameters hardly predict the metric of held-out runs (R² {r2:.2f}); chance may be all there is."
    positive = np.maximum(rise, 0)
    shares = dict(zip(parameters, (positive / positive.sum()).tolist(), strict=True))
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _on_held_out_runs(columns: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the mean squared error of held-out runs, and by how much each column's shuffling raises it."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold

    rise, error = np.zeros(columns.shape[1]), 0.0
    for kept, held_out in KFold(_NUM_FOLDS, shuffle=True, random_state=0).split(columns):
        forest = RandomForestRegressor(_NUM_TREES, random_state=0).fit(columns[kept], values[kept])
        found = permutation_importance(
            forest,
            columns[held_out],
            values[held_out],
            scoring="neg_mean_squared_error",
            n_repeats=_NUM_SHUFFLES,
            random_state=0,
        )
        share = len(held_out) / len(values)
        rise += share * found.importances_mean
        error += share * float(np.mean((forest.predict(columns[held_out]) - values[held_out]) ** 2))
    return rise, error


def _encoded(column: Sequence[Any]) -> np.ndarray:
    """Returns numbers unchanged, absent values as NaN, and others as their ranks in the sorted values."""
    present = [value for value in column if value is not ABSENT]
    if all(map(is_number, present)):
        return np.array([np.nan if value is ABSENT else float(value) for value in column])
    ranks = {key: rank for rank, key in enumerate(sorted({comparable(value) for value in present}, key=str))}
    return np.array([np.nan if value is ABSENT else ranks[comparable(value)] for value in column])
