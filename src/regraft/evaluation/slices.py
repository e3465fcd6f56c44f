"""Figures of the images that have a value in a column, such as those of one camera."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regraft.core.errors import ConfigError


@dataclass(frozen=True)
class Slice:
    """The images with a value in a column.

    Attributes:
        figure: None where it is undefined, as R² of a single image.
        low: the lower end of the figure's 95 % interval, if any, as `high` is the upper one.
    """

    column: str
    value: str
    num_images: int
    figure: float | None
    low: float | None
    high: float | None


def require_slices(config: Mapping[str, Any], columns: Sequence[str]) -> None:
    """Raises ConfigError unless the data of a config can have columns to evaluate by."""
    if columns and "slices" not in config["data"]:
        reason = "the run's data has no columns beside its labels"
        raise ConfigError("slices", reason, got=list(columns), fix="data=table and data=hf have them.")


def sliced(
    columns: Mapping[str, np.ndarray], num_images: int, metric: str, evaluate: Callable[[np.ndarray], dict[str, float]]
) -> list[Slice]:
    """Returns the figures of each value of each column, the worst value of a column first, undefined ones last.

    Args:
        columns: by name the value of each image, the first `num_images` of which were evaluated.
        metric: the figure, of which more is better.
        evaluate: gives the metrics of some images, (num_images,), bool.
    """
    found: list[Slice] = []
    for name, values in columns.items():
        values = values[:num_images]
        rows = []
        for value in np.unique(values).tolist():
            is_in = values == value
            metrics = evaluate(is_in)
            ends = (metrics.get(f"{metric}_{end}") for end in ("low", "high"))
            rows.append(Slice(name, value, int(is_in.sum()), metrics.get(metric), *ends))
        found += sorted(rows, key=lambda row: (math.inf if row.figure is None else row.figure, row.value))
    return found
