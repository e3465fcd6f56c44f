"""The coordinates of a leaderboard's plots, from 0 to 1."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from regraft.config.nested import ABSENT
from regraft.evaluation.compare.leaderboard import Leaderboard, LeaderboardRow
from regraft.evaluation.compare.parameters import comparable, is_number, text_of
from regraft.evaluation.compare.statistics import MeanStd
from regraft.report.axes import Axis, Tick, numeric_axis, shortened, spaced
from regraft.report.leaderboard.text import name_of_row
from regraft.tasks.metrics import higher_is_better

_NUM_SHADES = 5
_MAX_LABELS = 5
_WIDE_GAP = 0.17
"""Least distance of two numbers beside each other, as a share of a chart's width."""
_NEAR = 0.06
"""Least distance of two lines of text, as a share of its height."""


@dataclass(frozen=True)
class Line:
    """A configuration in parallel coordinates: its position on each axis, and its shade from 0 to 4, the best's."""

    name: str
    positions: tuple[float, ...]
    shade: int
    is_leader: bool


@dataclass(frozen=True)
class ScatterPoint:
    """A configuration by cost: its position, the ends of one standard deviation, its rank, and the label beside it."""

    name: str
    x: float
    y: float
    low: float
    high: float
    shade: int
    rank: int | None
    label: str = ""


@dataclass(frozen=True)
class Scatter:
    """The metric against a cost."""

    x: Axis
    y: Axis
    points: tuple[ScatterPoint, ...]


def parallel(board: Leaderboard) -> tuple[list[Axis], list[Line]]:
    """Returns an axis for each varied parameter and the metric, and a line for each row with the metric."""
    rows = [row for row in board.rows if board.metric in row.metrics]
    if not rows:
        return [], []
    columns = zip(*(row.values for row in rows), strict=True)
    axes = [axis_of(name, column) for name, column in zip(board.parameters, columns, strict=True)]
    means = [row.metrics[board.metric].mean for row in rows]
    is_upside_down = not higher_is_better(board.metric)
    axes.append(numeric_axis(board.metric, means, is_upside_down=is_upside_down, is_robust=True))
    lines = []
    for row, mean, shade in zip(rows, means, _shades(board, rows), strict=True):
        values = [*row.values, mean]
        positions = tuple(axis.position(value) for axis, value in zip(axes, values, strict=True))
        lines.append(Line(name_of_row(board, row), positions, shade, row.rank == 1))
    # The best last, so that it is drawn on top.
    return axes, sorted(lines, key=lambda line: (line.is_leader, line.shade))


def against_cost(board: Leaderboard, name: str, cost: Callable[[LeaderboardRow], MeanStd | None]) -> Scatter | None:
    """Returns a scatter plot of the metric against a cost of a row; None unless two rows differ in it."""
    rows = [row for row in board.rows if board.metric in row.metrics and cost(row) is not None]
    costs = [found.mean for row in rows if (found := cost(row)) is not None]
    if len(set(costs)) < 2:
        return None
    metrics = [row.metrics[board.metric] for row in rows]
    ends = [(found.mean - (found.std or 0), found.mean + (found.std or 0)) for found in metrics]
    x = numeric_axis(name, costs, is_robust=True, gap=_WIDE_GAP)
    is_upside_down = not higher_is_better(board.metric)
    y = numeric_axis(
        board.metric, [end for pair in ends for end in pair], is_upside_down=is_upside_down, is_robust=True
    )
    shades = _shades(board, rows)
    points = []
    for row, value, found, (low, high), shade in zip(rows, costs, metrics, ends, shades, strict=True):
        positions = (x.position(value), y.position(found.mean), y.position(low), y.position(high))
        points.append(ScatterPoint(name_of_row(board, row), *positions, shade, row.rank))
    return Scatter(x, y, tuple(reversed(_labelled(points))))


def _labelled(points: Sequence[ScatterPoint]) -> list[ScatterPoint]:
    """Returns points, in the order of their ranks, with the ranks of the first few; neighbours share one label."""
    ranks: dict[int, list[int]] = {}
    for index, point in enumerate(points):
        if point.rank is None or point.rank > _MAX_LABELS:
            continue
        near = (each for each in ranks if _are_near(points[each], point))
        ranks.setdefault(next(near, index), []).append(point.rank)
    labels = {index: ", ".join(map(str, found)) for index, found in ranks.items()}
    return [replace(point, label=labels.get(index, "")) for index, point in enumerate(points)]


def _are_near(one: ScatterPoint, other: ScatterPoint) -> bool:
    return abs(one.x - other.x) < _WIDE_GAP and abs(one.y - other.y) < _NEAR


def axis_of(name: str, values: Sequence[Any]) -> Axis:
    """Returns the axis of a parameter: numeric, or with evenly spaced values, absent ones at the bottom."""
    if all(map(is_number, values)):
        return numeric_axis(name, values, few=True)
    texts: dict[Hashable, str] = {}
    for value in sorted(values, key=lambda value: (value is not ABSENT, _order(value))):
        texts[comparable(value)] = text_of(value) or "(none)"
    positions = {key: (index + 0.5) / len(texts) for index, key in enumerate(texts)}
    ticks = [Tick(positions[key], shortened(text)) for key, text in texts.items()]
    return Axis(name, spaced(ticks), lambda value: positions[comparable(value)])


def _order(value: Any) -> tuple[bool, float, str]:
    return (not is_number(value), float(value) if is_number(value) else 0.0, str(value))


def _shades(board: Leaderboard, rows: Sequence[LeaderboardRow]) -> list[int]:
    """Returns the shade of each row by its metric, from 0 to 4, 4 for the best."""
    sign = 1 if higher_is_better(board.metric) else -1
    means = [sign * row.metrics[board.metric].mean for row in rows]
    low, high = (min(means), max(means)) if means else (0.0, 0.0)
    span = high - low
    return [_NUM_SHADES - 1 if span == 0 else round((mean - low) / span * (_NUM_SHADES - 1)) for mean in means]
