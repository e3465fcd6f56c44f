"""Where things stand in a leaderboard's plots: pure geometry, in the units of the drawings.

How they look is the page's business.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from regraft.comparing.leaderboard import Leaderboard, Row, is_lower_better
from regraft.comparing.parameters import ABSENT, comparable, text_of
from regraft.comparing.statistics import Figure
from regraft.report.leaderboard_text import name_of_row

_LOG_RATIO = 30
"""From which largest over smallest an axis of positive numbers is logarithmic."""
_NUM_SHADES = 5
_NUM_TICKS = 5
_MARGIN = 0.06
_LABEL_LETTERS = 16


@dataclass(frozen=True)
class Tick:
    """A value on an axis: its place in [0, 1], and its text."""

    place: float
    text: str


@dataclass(frozen=True)
class Axis:
    """An axis: what it shows, and its ticks; `place` gives where a value stands, in [0, 1]."""

    name: str
    ticks: tuple[Tick, ...]
    place: Callable[[Any], float]


@dataclass(frozen=True)
class Line:
    """A configuration in parallel coordinates: its place on each axis, and how good it is, 0 to 4, 4 the best."""

    name: str
    places: tuple[float, ...]
    shade: int
    is_leader: bool


@dataclass(frozen=True)
class Point:
    """A configuration by cost: places in [0, 1], those of a standard deviation below and above, and its rank."""

    name: str
    x: float
    y: float
    low: float
    high: float
    shade: int
    rank: int | None


@dataclass(frozen=True)
class Scatter:
    """The metric against a cost."""

    x: Axis
    y: Axis
    points: tuple[Point, ...]


def parallel(board: Leaderboard) -> tuple[list[Axis], list[Line]]:
    """Returns an axis for each varied parameter and for the metric, and a line for each row that has the metric."""
    rows = [row for row in board.rows if board.metric in row.figures]
    if not rows:
        return [], []
    columns = [[row.values[place] for row in rows] for place in range(len(board.parameters))]
    axes = [axis_of(name, column) for name, column in zip(board.parameters, columns, strict=True)]
    means = [row.figures[board.metric].mean for row in rows]
    axes.append(numeric_axis(board.metric, means, is_upside_down=is_lower_better(board.metric)))
    lines = []
    for row, mean, shade in zip(rows, means, _shades(board, rows), strict=True):
        values = [*row.values, mean]
        places = tuple(axis.place(value) for axis, value in zip(axes, values, strict=True))
        lines.append(Line(name_of_row(board, row), places, shade, row.rank == 1))
    # The best last, so that it lies on top.
    return axes, sorted(lines, key=lambda line: (line.is_leader, line.shade))


def against_cost(board: Leaderboard, name: str, cost: Callable[[Row], Figure | None]) -> Scatter | None:
    """Returns the metric against what rows cost; None unless two rows differ in it.

    Args:
        board: the leaderboard.
        name: of the cost.
        cost: a row's.
    """
    rows = [row for row in board.rows if board.metric in row.figures and cost(row) is not None]
    costs = [found.mean for row in rows if (found := cost(row)) is not None]
    if len(set(costs)) < 2:
        return None
    figures = [row.figures[board.metric] for row in rows]
    ends = [(found.mean - (found.std or 0), found.mean + (found.std or 0)) for found in figures]
    x = numeric_axis(name, costs)
    y = numeric_axis(board.metric, [end for pair in ends for end in pair], is_upside_down=is_lower_better(board.metric))
    shades = _shades(board, rows)
    points = []
    for row, value, found, (low, high), shade in zip(rows, costs, figures, ends, shades, strict=True):
        places = (x.place(value), y.place(found.mean), y.place(low), y.place(high))
        points.append(Point(name_of_row(board, row), *places, shade, row.rank))
    return Scatter(x, y, tuple(reversed(points)))


def axis_of(name: str, values: Sequence[Any]) -> Axis:
    """Returns the axis of a parameter: numbers by size, anything else evenly, what is absent at the bottom."""
    present = [value for value in values if value is not ABSENT]
    is_numeric = present and all(isinstance(value, int | float) and not isinstance(value, bool) for value in present)
    if is_numeric and len(present) == len(values):
        return numeric_axis(name, present, few=True)
    texts: dict[Hashable, str] = {}
    for value in sorted(values, key=lambda value: (value is not ABSENT, _order(value))):
        texts[comparable(value)] = text_of(value) or "(none)"
    places = {key: (place + 0.5) / len(texts) for place, key in enumerate(texts)}
    ticks = tuple(Tick(places[key], shortened(text)) for key, text in texts.items())
    return Axis(name, ticks, lambda value: places[comparable(value)])


def shortened(text: str, limit: int = _LABEL_LETTERS) -> str:
    """Returns a label that fits: of a longer text its end, where paths and dotted names differ."""
    return text if len(text) <= limit else f"…{text[1 - limit :]}"


def _order(value: Any) -> tuple[bool, float, str]:
    is_number = isinstance(value, int | float)
    return (not is_number, float(value) if is_number else 0.0, str(value))


def numeric_axis(name: str, values: Sequence[float], *, is_upside_down: bool = False, few: bool = False) -> Axis:
    """Returns an axis of numbers, logarithmic where they span far; ticks at the values themselves if they are few."""
    low, high = min(values), max(values)
    is_log = low > 0 and high / low >= _LOG_RATIO
    scale: Callable[[float], float] = math.log10 if is_log else float
    start, length = scale(low), scale(high) - scale(low)

    def place(value: float) -> float:
        share = 0.5 if length == 0 else (scale(value) - start) / length
        share = _MARGIN + (1 - 2 * _MARGIN) * share
        return 1 - share if is_upside_down else share

    distinct = sorted(set(values))
    marks = distinct if few and len(distinct) <= _NUM_TICKS + 2 else _marks(low, high, is_log=is_log)
    label = f"{name} (log)" if is_log else name
    return Axis(label, tuple(Tick(place(mark), f"{mark:.4g}") for mark in marks), place)


def _marks(low: float, high: float, *, is_log: bool) -> list[float]:
    """Returns round numbers between two: powers of ten, or multiples of 1, 2 or 5 times one."""
    if low == high:
        return [low]
    if is_log:
        powers = [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
        return powers[:: math.ceil(len(powers) / (_NUM_TICKS + 2))]
    step = (high - low) / _NUM_TICKS
    power = 10.0 ** math.floor(math.log10(step))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * 0.999)
    first = math.ceil(low / step)
    return [round(place * step, 12) for place in range(first, math.floor(high / step) + 1)]


def _shades(board: Leaderboard, rows: Sequence[Row]) -> list[int]:
    """Returns how good each row is among all, in five steps, 4 the best."""
    sign = -1 if is_lower_better(board.metric) else 1
    means = [sign * row.figures[board.metric].mean for row in rows]
    low, high = (min(means), max(means)) if means else (0.0, 0.0)
    span = high - low
    return [_NUM_SHADES - 1 if span == 0 else round((mean - low) / span * (_NUM_SHADES - 1)) for mean in means]
