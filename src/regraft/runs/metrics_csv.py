"""Reads what can be read of a run's metrics.csv, also while it is being written."""

import csv
import io
import math
from typing import Any

from regraft.core.atomic import read_text
from regraft.runs.folder import Run


def rows_of(run: Run) -> list[dict[str, float]]:
    """Returns the finite numbers of each complete row of metrics.csv; empty if it can't be read."""
    try:
        text = read_text(run.path / "metrics.csv", errors="replace")
        return [numbers(row) for row in csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))]
    except (OSError, csv.Error):
        return []


def numbers(fields: Any) -> dict[str, float]:
    """Returns the finite numbers of a mapping; an empty one for anything else."""
    found = {key: number(value) for key, value in fields.items()} if isinstance(fields, dict) else {}
    return {key: value for key, value in found.items() if isinstance(key, str) and value is not None}


def number(value: Any) -> float | None:
    """Returns a value as a finite number; None if it isn't one."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
