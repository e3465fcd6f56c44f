"""A run's report, put together and written into its folder."""

from collections.abc import Callable, Mapping
from pathlib import Path

from regraft.atomic import write_atomically
from regraft.predictions.files import Predictions
from regraft.report.run.errors import Errors, errors_of
from regraft.report.run.markdown import to_markdown
from regraft.report.run.page import to_html
from regraft.report.run.pictures import Seen
from regraft.report.run.record import Record, read_record
from regraft.runs import Run

Look = Callable[[Predictions, list[int]], tuple[Mapping[int, Seen], Mapping[str, str]]]
"""Gives pictures by their place in the predictions, and why some are missing."""


def write_report(run: Run, look: Look, *, is_ending: bool = False) -> tuple[Path, Record, Errors | None]:
    """Writes `report.html` and `report.md` into a run's folder; returns the page and what it was made of.

    Args:
        run: the run.
        look: gives the pictures of mistakes.
        is_ending: see `read_record`.

    Raises:
        OSError: they can't be written.
    """
    record = read_record(run, is_ending=is_ending)
    predictions = record.predictions
    errors = None if predictions is None else errors_of(predictions, record.class_names)
    seen: Mapping[int, Seen] = {}
    notes: Mapping[str, str] = {}
    if predictions is not None and errors is not None and errors.mistakes:
        seen, notes = look(predictions, errors.mistakes)
    page = run.path / "report.html"
    # A name on a disk needn't be text.
    write_atomically(page, to_html(record, errors, seen, notes).encode("utf-8", "backslashreplace"))
    write_atomically(run.path / "report.md", to_markdown(record, errors).encode("utf-8", "backslashreplace"))
    return page, record, errors
