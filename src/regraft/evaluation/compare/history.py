"""What metrics.csv says of a run, also of one that is being written or is damaged."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from regraft.runs.folder import Run
from regraft.sweeps.objectives import kept_row

_VALIDATION = "val/"


def kept_validation(config: Mapping[str, Any], rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns validation's figures of the epoch whose weights are kept; none, if there was no validation yet."""
    seen = [row for row in rows if any(name.startswith(_VALIDATION) for name in row)]
    found = kept_row(seen, config) if seen else {}
    return {name: value for name, value in found.items() if name.startswith(_VALIDATION)}


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
