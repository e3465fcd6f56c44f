"""What a run that has just ended shows of its predictions; nothing that goes wrong here fails it."""

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from regraft.runs import Run
from regraft.verbs.mistakes import quick
from regraft.verbs.outcome import boards_of, log_confusion

if TYPE_CHECKING:
    from regraft.data.datamodule import ImageDataModule

log = logging.getLogger(__name__)


def show_findings(run: Run, data: "ImageDataModule", loggers: list[Any], *, with_report: bool) -> None:
    """Shows TensorBoard, if it is among the loggers, the confusion matrix, and writes the report if that is wanted."""
    if not with_report and not boards_of(loggers):
        return
    no_board = "no confusion matrix in TensorBoard"
    with _warned("no report.html" if with_report else no_board, run):
        from regraft.report.run.writing import findings_of, write_report

        found = findings_of(run, is_ending=True)
        with _warned(no_board, run):
            log_confusion(loggers, found)
        if with_report:
            write_report(found, quick(data))


@contextlib.contextmanager
def _warned(lacking: str, run: Run) -> Iterator[None]:
    """Makes whatever goes wrong a warning, because the run went well and its results are written."""
    try:
        yield
    except Exception as error:
        log.warning("There is %s: %s: %s. regraft report run=%s", lacking, type(error).__name__, error, run.path)
