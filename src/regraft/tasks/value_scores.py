"""How good predicted numbers are: the figures of a split and of each target, with bootstrap intervals.

Pure functions of arrays; no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from regraft.core.errors import listed
from regraft.tasks.bootstrap import resamples
from regraft.tasks.scores import Scores, computed, require_finite


class ValueScores(NamedTuple):
    """The figures of one target.

    Attributes:
        mae: mean absolute error, in the target's unit.
        rmse: root of the mean squared error, in the target's unit.
        r2: coefficient of determination; None where all true values are equal.
        spearman: rank correlation; None where all true or all predicted values are equal.
    """

    name: str
    num_images: int
    mae: float
    rmse: float
    r2: float | None
    spearman: float | None

    def is_defined(self, metric: str) -> bool:
        """Whether a metric is defined."""
        return getattr(self, metric) is not None


@dataclass(frozen=True, eq=False)
class ValueOutputs:
    """A model's values for a split: what the metrics are computed from, each part once.

    Attributes:
        values: (num_images, num_targets), in the targets' units.
        targets: (num_images, num_targets).
    """

    values: np.ndarray
    targets: np.ndarray
    names: Sequence[str]

    @cached_property
    def per_target(self) -> list[ValueScores]:
        """By target."""
        whole = np.ones((1, len(self.values)))
        columns = [self._figures(index, whole) for index in range(len(self.names))]
        return [
            ValueScores(name, len(self.values), **{key: _or_none(value[0]) for key, value in column.items()})  # type: ignore[arg-type]
            for name, column in zip(self.names, columns, strict=True)
        ]

    def mean_of(self, name: str) -> float | None:
        """Returns the mean of a figure over the targets for which it is defined; None if there is none."""
        values = [getattr(row, name) for row in self.per_target if getattr(row, name) is not None]
        return float(np.mean(values)) if values else None

    def interval(self, name: str) -> tuple[float, float]:
        """Returns the ends of a figure's 95 % interval, from resampled images."""
        low, high = np.nanpercentile(self._resampled[name], [2.5, 97.5])
        return float(low), float(high)

    def undefined_text(self, name: str) -> str:
        """Returns which targets have no such figure; an empty text if all have."""
        lacking = [row.name for row in self.per_target if getattr(row, name) is None]
        if not lacking:
            return ""
        if len(lacking) == len(self.names):
            return "undefined: all values are equal, or there is a single sample."
        return f"of the other targets; the values of these are all equal: {listed(lacking)}."

    @cached_property
    def _resampled(self) -> dict[str, np.ndarray]:
        """The mean over the targets of each figure, for each resample, (num_resamples,)."""
        found: dict[str, list[np.ndarray]] = {}
        for counts in resamples(len(self.values)):
            of_targets = [self._figures(index, counts) for index in range(len(self.names))]
            for name in of_targets[0]:
                columns = np.stack([figures[name] for figures in of_targets])
                is_known = ~np.isnan(columns)
                sums = np.where(is_known, columns, 0.0).sum(0)
                found.setdefault(name, []).append(np.where(is_known.any(0), sums / is_known.sum(0).clip(1), np.nan))
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def _figures(self, index: int, counts: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the figures of a target for each resample, (num_resamples,); NaN where undefined.

        Args:
            counts: (num_resamples, num_images), how often each image was drawn.
        """
        true, value = self.targets[:, index].astype(np.float64), self.values[:, index].astype(np.float64)
        errors, num_images = value - true, counts.sum(1)
        squares = counts @ errors**2
        centred = true - true.mean()
        total = counts @ centred**2 - (counts @ centred) ** 2 / num_images
        scale = np.abs(centred).max(initial=0.0) ** 2
        is_varied = total > 1e-12 * scale * num_images
        return {
            "mae": counts @ np.abs(errors) / num_images,
            "rmse": np.sqrt(squares / num_images),
            "r2": np.where(is_varied, 1 - squares / np.where(is_varied, total, 1.0), np.nan),
            "spearman": _correlation(_ranks(true, counts), _ranks(value, counts), counts),
        }


def _ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the rank of each image among those drawn, equal values sharing their mean rank, as `counts`."""
    order = values.argsort(kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf))
    of_group = np.add.reduceat(counts[:, order], starts, axis=1)
    middle = of_group.cumsum(1) - (of_group - 1) / 2
    group = np.empty(len(values), np.int64)
    group[order] = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(values)))
    return middle[:, group]


def _correlation(one: np.ndarray, other: np.ndarray, counts: np.ndarray) -> np.ndarray:
    total = counts.sum(1, keepdims=True)
    one = one - (counts * one).sum(1, keepdims=True) / total
    other = other - (counts * other).sum(1, keepdims=True) / total
    variances = (counts * one**2).sum(1) * (counts * other**2).sum(1)
    is_varied = variances > 1e-9
    products = (counts * one * other).sum(1)
    return np.where(is_varied, products / np.sqrt(np.where(is_varied, variances, 1.0)), np.nan)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def scores(values: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> Scores:
    """Returns the figures of a model on some images; the arguments are those of `ValueOutputs`."""
    require_finite(values)
    outputs = ValueOutputs(values, targets, names)
    metrics, undefined = computed("regression", outputs, len(names))
    return Scores(metrics, undefined, outputs.per_target)
