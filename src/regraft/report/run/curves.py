"""The curves of a run's metrics, and the epochs in which its stages trained, in coordinates from 0 to 1."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from regraft.report.axes import Tick, numeric_axis
from regraft.report.run.record import MetricsRow
from regraft.tasks import TASKS
from regraft.tasks.metrics import find

_MAX_POINTS = 400
_MAX_NAMES = 3
_TITLES = {
    "lr": "Learning rate",
    "grad_norm": "Gradient norm",
    "update_ratio": "Update to weight ratio",
    "distance": "Distance from the weights at the start",
}
_CHARTED = dict.fromkeys(["loss", *(name for task in TASKS.values() for name in (task.headline, task.train_metric))])
"""Metrics that have a chart of their own, where they were logged."""
_UNITS = {"update_ratio": "ratio", "distance": "relative distance"}
"""Names of vertical axes that differ from the chart's title."""


@dataclass(frozen=True)
class Curve:
    """A line of a chart: its name, (x, y) of each point in [0, 1], and its last value."""

    name: str
    points: tuple[tuple[float, float], ...]
    last: float


@dataclass(frozen=True)
class Chart:
    """Curves over the epochs.

    Attributes:
        unit: the name of the vertical axis.
        x, y: the ticks of the axes.
        phases: (position in [0, 1], epoch) of each start of a phase.
    """

    title: str
    unit: str
    curves: tuple[Curve, ...]
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    phases: tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class StageSpan:
    """Epochs, the last one included, in which a stage trained or was frozen, and their positions in [0, 1]."""

    first: int
    last: int
    start: float
    stop: float
    trains: bool


def stages_of(epochs: Sequence[MetricsRow], order: Sequence[str]) -> list[str]:
    """Returns the stages with a logged learning rate, in the given order, which may be empty if it isn't known."""
    logged = {name.removeprefix("lr/") for row in epochs for name in row if name.startswith("lr/")}
    known = [stage for stage in order if stage in logged]
    return [*known, *sorted(logged - set(known), key=lambda stage: (stage == "head", stage != "stem", stage))]


def training_map(epochs: Sequence[MetricsRow], stages: Sequence[str]) -> dict[str, list[StageSpan]]:
    """Returns the epochs in which each stage trained: those with a learning rate above 0."""
    num = len(epochs)
    found: dict[str, list[StageSpan]] = {}
    for stage in stages:
        trains = [row.get(f"lr/{stage}", 0.0) > 0 for row in epochs]
        starts = [index for index in range(num) if index == 0 or trains[index] != trains[index - 1]]
        found[stage] = [
            StageSpan(
                int(epochs[start]["epoch"]), int(epochs[stop - 1]["epoch"]), start / num, stop / num, trains[start]
            )
            for start, stop in zip(starts, [*starts[1:], num], strict=True)
        ]
    return found


def phase_starts(epochs: Sequence[MetricsRow], stages: Sequence[str]) -> list[int]:
    """Returns the epochs, without the first one, from which other stages train than before."""
    trains = [[row.get(f"lr/{stage}", 0.0) > 0 for stage in stages] for row in epochs]
    return [int(epochs[index]["epoch"]) for index in range(1, len(epochs)) if trains[index] != trains[index - 1]]


def charts(epochs: Sequence[MetricsRow], stages: Sequence[str]) -> list[Chart]:
    """Returns charts of loss, accuracy, learning rates, and other metrics logged by stage."""
    if not epochs:
        return []
    found = [
        _chart(metric.title, None, epochs, {split: f"{split}/{metric.name}" for split in ("train", "val")}, stages)
        for metric in map(find, _CHARTED)
        if metric is not None
    ]
    for family, title in _TITLES.items():
        names = [stage for stage in stages if any(row.get(f"{family}/{stage}") for row in epochs)]
        found.append(_chart(title, _UNITS.get(family), epochs, _grouped(epochs, family, names), stages))
    return [chart for chart in found if chart is not None]


def _grouped(epochs: Sequence[MetricsRow], family: str, stages: Sequence[str]) -> dict[str, str]:
    """Returns columns by the names of all stages that have this curve."""
    same: dict[tuple[float | None, ...], list[str]] = {}
    for stage in stages:
        same.setdefault(tuple(row.get(f"{family}/{stage}") for row in epochs), []).append(stage)
    return {_name(names): f"{family}/{names[0]}" for names in same.values()}


def _name(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _MAX_NAMES else f"{names[0]} … {names[-1]} ({len(names)})"


def _chart(
    title: str, unit: str | None, epochs: Sequence[MetricsRow], columns: dict[str, str], stages: Sequence[str]
) -> Chart | None:
    series = {
        name: [(int(row["epoch"]), row[column]) for row in epochs if math.isfinite(row.get(column, math.nan))]
        for name, column in columns.items()
    }
    series = {name: _thinned(points) for name, points in series.items() if points}
    if not series:
        return None
    x = numeric_axis("epoch", sorted({int(row["epoch"]) for row in epochs}), few=True, is_linear=True)
    y = numeric_axis(unit or title.lower(), [value for points in series.values() for _, value in points])
    curves = tuple(
        Curve(name, tuple((x.position(epoch), y.position(value)) for epoch, value in points), points[-1][1])
        for name, points in series.items()
    )
    ticks = tuple(tick for tick in x.ticks if "." not in tick.label)
    phases = tuple((x.position(epoch - 0.5), epoch) for epoch in phase_starts(epochs, stages))
    return Chart(title, y.name, curves, ticks, y.ticks, phases)


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    stride = math.ceil(len(points) / _MAX_POINTS)
    return points if stride == 1 else [*points[:-1:stride], points[-1]]
