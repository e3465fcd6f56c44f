"""Writes a run's report into its folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from regraft.core.atomic import write_atomically
from regraft.report.run.errors import Errors, errors_of
from regraft.report.run.record import Record, read_record
from regraft.report.run.render import Shown, to_html, to_markdown
from regraft.runs.folder import Run
from regraft.runs.predictions import Predictions

Look = Callable[[Predictions, list[int]], tuple[Mapping[int, Shown], Mapping[str, str]]]
"""Gives inputs by their index in the predictions, and notes on missing ones."""


@dataclass(frozen=True, eq=False)
class Findings:
    """The record of a run, and the errors in its predictions; None without predictions."""

    record: Record
    errors: Errors | None


def findings_of(run: Run, *, is_ending: bool = False) -> Findings:
    """Returns the findings from a run's folder; `is_ending` as in `read_record`."""
    record = read_record(run, is_ending=is_ending)
    predictions = record.predictions
    return Findings(record, None if predictions is None else errors_of(predictions, record.class_names))


def write_report(found: Findings, look: Look) -> Path:
    """Writes `report.html` and `report.md` into a run's folder; returns the page's path."""
    record, errors = found.record, found.errors
    seen: Mapping[int, Shown] = {}
    notes: Mapping[str, str] = {}
    if record.predictions is not None and errors is not None and errors.mistakes:
        seen, notes = look(record.predictions, errors.mistakes)
    folder = record.run.path
    page = folder / "report.html"
    # File names may contain bytes that aren't UTF-8.
    write_atomically(page, to_html(record, errors, seen, notes).encode("utf-8", "backslashreplace"))
    write_atomically(folder / "report.md", to_markdown(record, errors).encode("utf-8", "backslashreplace"))
    return page
