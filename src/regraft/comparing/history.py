"""What metrics.csv says of a run, also of one that is being written or is damaged."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from regraft.runs import Run

_MONITOR = ("val/acc", "max")


def best_validation(config: Mapping[str, Any], rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns validation's figures at the epoch that the best checkpoint is of."""
    callbacks = config.get("callbacks")
    best = callbacks.get("best") if isinstance(callbacks, dict) else None
    monitor, mode = (best.get("monitor"), best.get("mode")) if isinstance(best, dict) else _MONITOR
    if not isinstance(monitor, str) or not monitor.startswith("val/"):
        monitor, mode = _MONITOR
    seen = [row for row in rows if monitor in row]
    if not seen:
        return {}
    row = (min if mode == "min" else max)(seen, key=lambda row: row[monitor])
    return {name: value for name, value in row.items() if name.startswith("val/")}


def rows_of(run: Run) -> list[dict[str, float]]:
    """Returns the rows of metrics.csv, numbers only; what can't be read, such as half a row, is left out."""
    try:
        text = (run.path / "metrics.csv").read_text(encoding="utf-8", errors="replace")
        whole = text[: text.rfind("\n") + 1]
        return [numbers(row) for row in csv.DictReader(io.StringIO(whole))]
    except (OSError, csv.Error):
        return []


def numbers(fields: Any) -> dict[str, float]:
    """Returns the finite numbers of a mapping; none of anything else."""
    found = {key: number(value) for key, value in fields.items()} if isinstance(fields, dict) else {}
    return {key: value for key, value in found.items() if isinstance(key, str) and value is not None}


def number(value: Any) -> float | None:
    """Returns a value as a finite number; None if it isn't one."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
