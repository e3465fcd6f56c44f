"""What a search optimises: validation metrics and costs, never the test split, on which the winner is measured."""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from regraft.core.errors import ConfigError, UnknownNameError
from regraft.runs import provenance
from regraft.runs.folder import Run
from regraft.tasks.metrics import higher_is_better, logged_names

Direction = Literal["maximize", "minimize"]
Row = Mapping[str, float]
COSTS = ("seconds", "num_trained_parameters", "num_parameters", "num_steps")
"""Keys of a run's results; less is better."""
_DIRECTIONS = ("maximize", "minimize")


def checked_metrics(metrics: Any) -> list[str]:
    """Returns `sweep.metrics` as a list; raises ValueError if a search can't optimise one of them."""
    names = [metrics] if isinstance(metrics, str) else metrics
    if not isinstance(names, list) or not names or len(set(map(str, names))) < len(names):
        raise ConfigError("sweep.metrics", got=metrics, allowed="a list of different metrics, such as [val/acc]")
    validated = [f"val/{name}" for name in logged_names(None)]
    for name in names:
        if str(name).startswith("test/"):
            raise ConfigError(
                "sweep.metrics",
                "a search that sees the test split makes its figure worthless",
                got=name,
                fix=f"Search by val/{name.removeprefix('test/')}; each trial's test figures are in its results.json.",
            )
        if name not in (*validated, *COSTS):
            raise UnknownNameError("sweep.metrics", "metric", str(name), [*validated, *COSTS])
    return names


def checked_directions(directions: Any, metrics: Sequence[str]) -> list[Direction]:
    """Returns the direction of each metric; for None, those in the registry of metrics."""
    if directions is None:
        return ["maximize" if name not in COSTS and higher_is_better(name) else "minimize" for name in metrics]
    given = [directions] if isinstance(directions, str) else directions
    if not isinstance(given, list) or len(given) != len(metrics) or not set(given) <= set(_DIRECTIONS):
        raise ConfigError(
            "sweep.directions",
            got=directions,
            allowed=f"maximize or minimize for each of {', '.join(metrics)}, or null for the direction in which each "
            "gets better",
        )
    return given


def values_of(run: Run, metrics: Sequence[str]) -> list[float]:
    """Returns a finished run's metrics: of a validation metric, the value of the epoch whose weights it kept."""
    return [_value_of(run, name) for name in metrics]


def kept_row(rows: Sequence[Row], config: Mapping[str, Any], results: Mapping[str, Any]) -> Row:
    """Returns the row of metrics.csv of the epoch whose weights a run kept: the last one, if none was best.

    Args:
        results: of the run; empty as long as it hasn't finished, for the best row so far.
    """
    callbacks = config.get("callbacks")
    best = callbacks.get("best") if isinstance(callbacks, Mapping) else None
    monitor, mode = (best.get("monitor"), best.get("mode")) if isinstance(best, Mapping) else (None, None)
    watched = [row for row in rows if math.isfinite(row.get(str(monitor), math.nan))]
    if not watched:
        return rows[-1]
    kept = results.get("kept")
    if isinstance(kept, Mapping) and isinstance(kept.get("step"), int):
        return min(watched, key=lambda row: abs(row.get("step", math.inf) + 1 - kept["step"]))
    sign = 1 if mode == "min" else -1
    # Of equal ones the first is kept, which is what min returns.
    return min(watched, key=lambda row: (sign * row[str(monitor)], row.get("val/loss", math.inf)))


def _value_of(run: Run, name: str) -> float:
    results = run.results
    if name in COSTS:
        earlier = provenance.seconds_before(run) if name == "seconds" else 0
        return float(results[name]) + earlier
    history = run.logged_rows(before_step=sys.maxsize)
    rows = [row for row in history if name in row]
    if not rows:
        logged = sorted({key for row in history for key in row if key.startswith("val/")})
        raise UnknownNameError("sweep.metrics", "metric", name, logged or list(COSTS))
    row = kept_row(rows, run.config, results)
    if not math.isfinite(row[name]):
        raise ConfigError("sweep.metrics", f"{name} is {row[name]}, which a search can't optimise.")
    return float(row[name])
