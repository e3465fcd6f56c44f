"""A run's report, put together and written into its folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from regraft.core.atomic import write_atomically
from regraft.report.run.errors import Errors, errors_of
from regraft.report.run.record import Record, read_record
from regraft.report.run.render import ShownImage, to_html, to_markdown
from regraft.runs.folder import Run
from regraft.runs.predictions import Predictions

Look = Callable[[Predictions, list[int]], tuple[Mapping[int, ShownImage], Mapping[str, str]]]
"""Gives pictures by their place in the predictions, and why some are missing."""


@dataclass(frozen=True, eq=False)
class Findings:
    """What is known of a run, and what its predictions say; None without predictions."""

    record: Record
    errors: Errors | None


def findings_of(run: Run, *, is_ending: bool = False) -> Findings:
    """Returns what a run's folder says; see `read_record`."""
    record = read_record(run, is_ending=is_ending)
    predictions = record.predictions
    return Findings(record, None if predictions is None else errors_of(predictions, record.class_names))


def write_report(found: Findings, look: Look) -> Path:
    """Writes `report.html` and `report.md` into a run's folder; returns the page.

    Args:
        found: of the run.
        look: gives the pictures of mistakes.

    Raises:
        OSError: they can't be written.
    """
    record, errors = found.record, found.errors
    seen: Mapping[int, ShownImage] = {}
    notes: Mapping[str, str] = {}
    if record.predictions is not None and errors is not None and errors.mistakes:
        seen, notes = look(record.predictions, errors.mistakes)
    folder = record.run.path
    page = folder / "report.html"
    # A name on a disk needn't be text.
    write_atomically(page, to_html(record, errors, seen, notes).encode("utf-8", "backslashreplace"))
    write_atomically(folder / "report.md", to_markdown(record, errors).encode("utf-8", "backslashreplace"))
    return page
