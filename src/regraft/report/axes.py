"""Axes of plots: the positions of values from 0 to 1, and the ticks."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_LOG_RATIO = 30
"""Ratio of largest to smallest positive number from which an axis is logarithmic."""
_NUM_TICKS = 5
_MARGIN = 0.06
_GAP = 0.06
"""Least distance of two ticks, as a share of the axis."""
_LEAST_TO_BOUND = 5
_FENCE = 3.0
"""Interquartile ranges beyond the quartiles from which a value is an outlier, Tukey's "far out"."""
_LABEL_LETTERS = 16
_LEAST_LONG, _LEAST_HUGE = 1e4, 1e8
"""Integers between them are written with thousands separators; beyond, powers of ten are shorter."""


@dataclass(frozen=True)
class Tick:
    """A tick of an axis, at a position in [0, 1]."""

    position: float
    label: str


@dataclass(frozen=True)
class Axis:
    """An axis with its name and ticks; `position` is a function of a value, in [0, 1]."""

    name: str
    ticks: tuple[Tick, ...]
    position: Callable[[Any], float]


def numeric_axis(
    name: str,
    values: Sequence[float],
    *,
    is_upside_down: bool = False,
    few: bool = False,
    is_linear: bool = False,
    is_robust: bool = False,
    gap: float = _GAP,
) -> Axis:
    """Returns an axis of numbers, logarithmic if they span orders of magnitude.

    Args:
        values: at least one.
        is_upside_down: whether the lowest is at the top.
        few: whether to put ticks at the values themselves if there are few of them.
        is_linear: whether the axis is never logarithmic.
        is_robust: whether values that are far from all others are put at the ends, which the ticks there say.
        gap: least distance of two ticks.
    """
    low, high = min(values), max(values)
    is_log = not is_linear and _spans_orders(low, high)
    if is_robust:
        low, high = _without_outliers(values, math.log10 if is_log else float)
        is_log = is_log and _spans_orders(low, high)
    scale: Callable[[float], float] = math.log10 if is_log else float
    start, length = scale(low), scale(high) - scale(low)

    def position(value: float) -> float:
        share = 0.5 if length == 0 else (scale(min(max(value, low), high)) - start) / length
        beyond = _MARGIN * ((value > high) - (value < low))
        share = _MARGIN + (1 - 2 * _MARGIN) * share + beyond
        return 1 - share if is_upside_down else share

    distinct = sorted(set(values))
    marks = distinct if few and len(distinct) <= _NUM_TICKS + 2 else _marks(low, high, is_log=is_log)
    label = f"{name} (log)" if is_log else name
    ticks = [Tick(position(mark), _text(mark)) for mark in marks if low <= mark <= high]
    ends = [Tick(position(min(values)), f"< {_text(low)}")] if min(values) < low else []
    ends += [Tick(position(max(values)), f"> {_text(high)}")] if max(values) > high else []
    ticks = [tick for tick in ticks if all(abs(tick.position - end.position) >= gap for end in ends)] + ends
    return Axis(label, spaced(ticks, gap), position)


def _spans_orders(low: float, high: float) -> bool:
    return low > 0 and high / low >= _LOG_RATIO


def _without_outliers(values: Sequence[float], scale: Callable[[float], float]) -> tuple[float, float]:
    """Returns the lowest and the highest value that isn't far from all others on a scale; with few values, of all."""
    if len(values) >= _LEAST_TO_BOUND:
        first, _, third = statistics.quantiles(map(scale, values), n=4, method="inclusive")
        reach = _FENCE * (third - first)
        inside = [value for value in values if first - reach <= scale(value) <= third + reach]
        if reach > 0:
            return min(inside), max(inside)
    return min(values), max(values)


def spaced(ticks: Sequence[Tick], gap: float = _GAP) -> tuple[Tick, ...]:
    """Returns ticks without those that are nearer than `gap` to the one before, so that no label covers another."""
    kept: list[Tick] = []
    for tick in sorted(ticks, key=lambda tick: tick.position):
        if not kept or tick.position - kept[-1].position >= gap:
            kept.append(tick)
    return tuple(kept)


def _text(mark: float) -> str:
    is_long = _LEAST_LONG <= abs(mark) < _LEAST_HUGE and float(mark).is_integer()
    return f"{mark:,.0f}" if is_long else f"{mark:.4g}"


def _marks(low: float, high: float, *, is_log: bool) -> list[float]:
    """Returns round numbers between two: powers of ten, or multiples of 1, 2 or 5 times a power of ten."""
    if low == high:
        return [low]
    if is_log:
        powers = [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
        return powers[:: math.ceil(len(powers) / (_NUM_TICKS + 2))]
    step = (high - low) / _NUM_TICKS
    power = 10.0 ** math.floor(math.log10(step))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * 0.999)
    first = math.ceil(low / step)
    return [round(multiple * step, 12) for multiple in range(first, math.floor(high / step) + 1)]


def shortened(text: str, limit: int = _LABEL_LETTERS) -> str:
    """Returns a label that fits; of a longer text the middle is left out, as names of classes differ anywhere."""
    head = (limit - 1) // 2
    return text if len(text) <= limit else f"{text[:head]}…{text[head + 1 - limit :]}"
