"""The space of a search: its axes, in Hydra's sweep syntax, on the command line or under `sweep.space`."""

import json
import math
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import FloatRange, IntervalSweep, Override, RangeSweep

from regraft.config.quoting import _ALLOWED, listed_values
from regraft.core.errors import ConfigError

_SHOWN_DIGITS = 4
"""Digits of a drawn number; more of them wouldn't make a difference."""


@dataclass(frozen=True)
class Choices:
    """An axis of listed values, in the syntax of overrides."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Numbers:
    """An axis of numbers, both ends included.

    Attributes:
        step: the distance of neighbours; None for all real numbers.
        is_log: whether draws are uniform in the logarithm.
        is_whole: whether only integers are drawn.
    """

    low: float
    high: float
    step: float | None
    is_log: bool
    is_whole: bool


Axis = Choices | Numbers


@dataclass(frozen=True)
class Space:
    """The overrides of a search's jobs: those that all have, and the axes by key."""

    fixed: tuple[str, ...]
    axes: dict[str, Axis]

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Returns the overrides of the job with these values, by key."""
        return [*self.fixed, *(f"{key}={values[key]}" for key in self.axes)]


def space_of(overrides: Sequence[Override]) -> Space:
    """Returns the search space of parsed overrides; raises ValueError if there is no axis, or one is empty."""
    fixed, axes = [], {}
    for override in overrides:
        key = override.get_key_element()
        if override.is_sweep_override():
            axes[key] = _axis(key, override)
        else:
            fixed.append(f"{key}={override.get_value_element_as_str()}")
    if not axes:
        raise ConfigError(
            "sweep.space",
            f"there is nothing to search. Give at least one key's values, on the command line or under "
            f"sweep.space: optimizer.lr={_ALLOWED}.",
        )
    return Space(tuple(fixed), axes)


def with_configured(overrides: Sequence[Override], space: Mapping[str, Any], parser: OverridesParser) -> list[Override]:
    """Returns the overrides with those of `sweep.space` before them."""
    lines = configured_lines(space, [override.key_or_group for override in overrides])
    return [*parser.parse_overrides(lines), *overrides]


def configured_lines(space: Mapping[str, Any], given: Collection[str]) -> list[str]:
    """Returns the axes of `sweep.space`, nested or dotted, as overrides, except for keys given on the command line."""
    if not isinstance(space, Mapping):
        raise ConfigError("sweep.space", got=space, allowed="axes by key, such as {optimizer.lr: [1e-3, 1e-2]}")
    lines = [f"{key}={_spelt(key, value)}" for key, value in _flat(space) if key not in given]
    for override in OverridesParser.create().parse_overrides(lines):
        if not override.is_sweep_override():
            raise ConfigError(
                f"sweep.space.{override.key_or_group}",
                got=override.value(),
                allowed=f"{_ALLOWED}, or a list",
                fix="A fixed value belongs on the command line.",
            )
    return lines


def step_values(axis: Numbers) -> list[float]:
    """Returns the numbers of an axis that has a step."""
    assert axis.step is not None, "only an axis of steps has them"
    count = math.floor((axis.high - axis.low) / axis.step + 1e-9) + 1
    values = [axis.low + index * axis.step for index in range(count)]
    return [round(value) for value in values] if axis.is_whole else [float(f"{value:.12g}") for value in values]


def some_values(space: Space) -> list[dict[str, Any]]:
    """Returns combinations in which each choice, and each end of an interval, occurs at least once."""
    ends = {
        key: list(axis.values) if isinstance(axis, Choices) else [axis.low, axis.high]
        for key, axis in space.axes.items()
    }
    first = {key: values[0] for key, values in ends.items()}
    return [first | {key: value} for key, values in ends.items() for value in values]


def draw(axis: Axis, generator: random.Random) -> Any:
    """Returns a random value of an axis."""
    if isinstance(axis, Choices):
        return generator.choice(axis.values)
    if axis.step is not None and not axis.is_log:
        return generator.choice(step_values(axis))
    if axis.is_log:
        value = math.exp(generator.uniform(math.log(axis.low), math.log(axis.high)))
    else:
        value = generator.uniform(axis.low, axis.high)
    if axis.is_whole:
        return min(max(round(value), int(axis.low)), int(axis.high))
    return min(max(float(f"{value:.{_SHOWN_DIGITS}g}"), axis.low), axis.high)


def _axis(key: str, override: Override) -> Axis:
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        assert sweep.start is not None, "Hydra's grammar requires both ends"
        assert sweep.end is not None, "Hydra's grammar requires both ends"
        is_whole = isinstance(sweep.start, int) and isinstance(sweep.end, int) and not isinstance(sweep.start, bool)
        axis = Numbers(sweep.start, sweep.end, 1 if is_whole else None, "log" in sweep.tags, is_whole)
        return _checked(key, axis)
    if isinstance(sweep, RangeSweep):
        numbers = list(sweep.range())
        if numbers and "log" in sweep.tags and abs(sweep.step) != 1:
            raise ConfigError(key, "a range with the tag log has steps of 1", got=sweep.step)
        if numbers:
            is_whole = not isinstance(sweep.range(), FloatRange)
            low, high = min(numbers), max(numbers)
            return _checked(key, Numbers(low, high, abs(sweep.step), "log" in sweep.tags, is_whole))
    return Choices(listed_values(override))


def _checked(key: str, axis: Numbers) -> Numbers:
    if not (math.isfinite(axis.low) and math.isfinite(axis.high)) or axis.low > axis.high:
        raise ConfigError(key, f"got an interval from {axis.low} to {axis.high}; its start must be below its end.")
    if axis.is_log and axis.low <= 0:
        raise ConfigError(key, f"got an interval from {axis.low} with the tag log; its start must be above 0.")
    return axis


def _flat(space: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in space.items():
        pairs += _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else [(f"{above}{key}", value)]
    return pairs


def _spelt(key: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(each is None or isinstance(each, str | int | float) for each in value):
        spelt = ",".join(each if isinstance(each, str) else json.dumps(each) for each in value)
        return spelt if len(value) > 1 else f"choice({spelt})"
    raise ConfigError(f"sweep.space.{key}", got=value, allowed=f"{_ALLOWED}, or a list")
