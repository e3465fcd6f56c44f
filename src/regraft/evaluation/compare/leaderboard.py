"""Configurations ranked by a metric: seeds grouped, varied parameters as columns, with the cost of each."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from regraft.config.nested import ABSENT
from regraft.core.errors import UnknownNameError
from regraft.core.table import Table
from regraft.evaluation.compare.entries import RunEntry, only_planned, planned_value
from regraft.evaluation.compare.folds import OutOfFold, folds_of, out_of_fold
from regraft.evaluation.compare.importance import importance
from regraft.evaluation.compare.paired import Comparison, compare_to_leader
from regraft.evaluation.compare.parameters import varied
from regraft.evaluation.compare.statistics import MeanStd, mean_std
from regraft.tasks import HEADLINES
from regraft.tasks.metrics import higher_is_better, known

_DEFAULT = "val/acc"
"""What runs are ranked by as long as none has logged a headline metric."""
_STATES = ("finished", "pruned", "running", "stopped", "failed", "waiting", "damaged")


@dataclass(frozen=True)
class LeaderboardRow:
    """A configuration.

    Attributes:
        rank: from 1; None if no run of it has finished with the metric.
        values: of the varied parameters, in the leaderboard's order; ABSENT for those that it doesn't have.
        metrics: by name, over its finished runs; if no run has finished, over all.
        seconds: of its finished runs.
        num_trained: number of trained parameters of its finished runs.
        entries: its runs, by seed and fold.
        out_of_fold: the headline metric, each image held out from the run that predicted it; None without all folds.
        comparison: with the leader; None for the leader itself, and if no run has finished.
    """

    rank: int | None
    values: tuple[Any, ...]
    metrics: dict[str, MeanStd]
    seconds: MeanStd | None
    num_trained: MeanStd | None
    entries: tuple[RunEntry, ...]
    out_of_fold: OutOfFold | None = None
    comparison: Comparison | None = None

    @property
    def state(self) -> str:
        """The states of its runs, with the first reason of each: `2 finished, 1 failed: disk full`."""
        reasons = {entry.state: f": {entry.reason}" for entry in reversed(self.entries) if entry.reason}
        return self._states(reasons)

    @property
    def short_state(self) -> str:
        """The states of its runs, without reasons: `2 finished, 1 failed`."""
        return self._states({})

    def _states(self, reasons: Mapping[str, str]) -> str:
        counts = Counter(entry.state for entry in self.entries)
        assert counts.keys() <= set(_STATES), "an unknown state would be left out"
        numbers = {state: f"{counts[state]} " if len(self.entries) > 1 else "" for state in _STATES}
        return ", ".join(f"{numbers[state]}{state}{reasons.get(state, '')}" for state in _STATES if counts[state])


@dataclass(frozen=True)
class Leaderboard:
    """Configurations, the best first.

    Attributes:
        metrics: the shown metrics, `metric` first.
        parameters: names of the varied parameters.
        importance: of each parameter, or why it can't be computed.
        num_repeated: number of runs left out, because a newer one has their configuration and seeds.
    """

    metric: str
    metrics: tuple[str, ...]
    parameters: tuple[str, ...]
    rows: tuple[LeaderboardRow, ...]
    importance: dict[str, float] | str
    num_repeated: int

    def table(self) -> Table:
        """Returns a row for each configuration; of metrics the mean over its runs, and the number of these."""
        columns: dict[str, list[Any]] = {"rank": [row.rank for row in self.rows]}
        for place, name in enumerate(self.parameters):
            columns[name] = [None if row.values[place] is ABSENT else row.values[place] for row in self.rows]
        for name in self.metrics:
            columns[name] = [row.metrics[name].mean if name in row.metrics else None for row in self.rows]
        columns["n"] = [len(row.entries) for row in self.rows]
        columns["seconds"] = [None if row.seconds is None else row.seconds.mean for row in self.rows]
        columns["state"] = [row.short_state for row in self.rows]
        columns["run"] = [str(row.entries[0].run.path) for row in self.rows]
        return Table(columns)

    def to_frame(self) -> Any:
        """Returns `table()` as a `pandas.DataFrame`; ModuleNotFoundError if pandas isn't installed."""
        return self.table().to_frame()

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def make_leaderboard(entries: Sequence[RunEntry], metric: str | None) -> Leaderboard:
    """Returns the leaderboard of at least one run, by `metric`; None for test/acc, else val/acc."""
    metric = _metric(entries, metric)
    kept = _without_repetitions(entries)
    split, _, name = metric.partition("/")
    other = f"{'val' if split == 'test' else 'test'}/{name}"
    metrics = (metric, other) if any(other in entry.metrics for entry in kept) else (metric,)
    composed = [entry for entry in kept if entry.composed.config]
    columns = varied([entry.composed for entry in composed]) if composed else {}
    planned = only_planned(kept, columns)
    indices = {id(entry): index for index, entry in enumerate(composed)}
    rows = []
    for group in _by_configuration(kept):
        index = next((indices[id(entry)] for entry in group if id(entry) in indices), None)
        values = [planned_value(name, group[0]) if index is None else column[index] for name, column in columns.items()]
        rows.append(_row([*values, *(planned_value(name, group[0]) for name in planned)], group, metrics))
    rows = _ranked(rows, metric)
    ranked = [row for row in rows if row.rank is not None]
    compared = iter(compare_to_leader([row.entries for row in ranked]) if ranked else [])
    rows = [replace(row, comparison=next(compared)) if row.rank is not None and row.rank > 1 else row for row in rows]
    finished = [index for index, entry in enumerate(composed) if entry.is_finished and metric in entry.metrics]
    parameters = {name: [column[index] for index in finished] for name, column in columns.items()}
    weights = importance(parameters, [composed[index].metrics[metric] for index in finished])
    return Leaderboard(metric, metrics, (*columns, *planned), tuple(rows), weights, len(entries) - len(kept))


def _metric(entries: Sequence[RunEntry], wanted: str | None) -> str:
    names = known(sorted({name for entry in entries for name in entry.metrics}))
    if wanted is None:
        return next((name for name in HEADLINES if name in names), _DEFAULT)
    if wanted not in names:
        raise UnknownNameError("metric", "metric", wanted, names)
    return wanted


def _without_repetitions(entries: Sequence[RunEntry]) -> list[RunEntry]:
    """Returns the entries without those that a newer one repeats: the same configuration and seeds."""
    newest: dict[Any, RunEntry] = {}
    for entry in sorted(entries, key=lambda entry: (entry.is_finished, entry.started)):
        newest[(entry.configuration, entry.seeds) if entry.composed.config else entry.name] = entry
    kept = {id(entry) for entry in newest.values()}
    return [entry for entry in entries if id(entry) in kept]


def _by_configuration(entries: Sequence[RunEntry]) -> list[list[RunEntry]]:
    groups: dict[Any, list[RunEntry]] = {}
    for entry in entries:
        groups.setdefault(entry.configuration, []).append(entry)
    return [sorted(group, key=lambda entry: str(entry.seeds)) for group in groups.values()]


def _row(values: Sequence[Any], entries: Sequence[RunEntry], metrics: Sequence[str]) -> LeaderboardRow:
    finished = [entry for entry in entries if entry.is_finished]
    shown = {}
    for metric in metrics:
        found = [entry.metrics[metric] for entry in finished or entries if metric in entry.metrics]
        if found:
            shown[metric] = mean_std(found)
    return LeaderboardRow(
        rank=None,
        values=tuple(values),
        metrics=shown,
        seconds=_cost([entry.seconds for entry in finished]),
        num_trained=_cost([entry.num_trained for entry in finished]),
        entries=tuple(entries),
        out_of_fold=out_of_fold(finished) if finished and folds_of(finished[0]) is not None else None,
    )


def _cost(values: Sequence[float | None]) -> MeanStd | None:
    known = [value for value in values if value is not None]
    return mean_std(known) if known else None


def _ranked(rows: Sequence[LeaderboardRow], metric: str) -> list[LeaderboardRow]:
    sign = -1 if higher_is_better(metric) else 1

    def order(row: LeaderboardRow) -> tuple[bool, bool, float]:
        found = row.metrics.get(metric)
        has_finished = any(entry.is_finished for entry in row.entries)
        return found is None or not has_finished, found is None, sign * found.mean if found else 0.0

    ordered = sorted(rows, key=order)
    return [replace(row, rank=None if order(row)[0] else rank) for rank, row in enumerate(ordered, 1)]
