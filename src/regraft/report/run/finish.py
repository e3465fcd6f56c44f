"""What a run that has just ended, however it did, shows of itself; nothing that goes wrong here fails it."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from regraft.report.run.mistakes import quick
from regraft.runs import state as run_state
from regraft.runs.folder import Run

if TYPE_CHECKING:
    from regraft.data.datamodule import ImageDataModule
    from regraft.report.run.writing import Findings

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


def show_so_far(run: Run) -> None:
    """Writes the report of a run that this process left unfinished, if it got as far as the end of an epoch."""
    state = run_state.read(run)
    if state.pid != os.getpid() or state.state not in ("stopped", "failed", "pruned"):
        return  # refused before it began: it is as it was, perhaps another's
    with _warned("no report.html", run):
        from regraft.report.run.writing import findings_of, write_report

        found = findings_of(run)
        if found.record.epochs:
            write_report(
                found, lambda predictions, places: ({}, {"gallery": "regraft report run=... shows the pictures."})
            )


@contextlib.contextmanager
def _warned(lacking: str, run: Run) -> Iterator[None]:
    """Makes whatever goes wrong a warning, because what the run has found or died of is what counts."""
    try:
        yield
    except Exception as error:
        log.warning("There is %s: %s: %s. regraft report run=%s", lacking, type(error).__name__, error, run.path)


def boards_of(loggers: list[Any]) -> list[Any]:
    """Returns the loggers of TensorBoard."""
    from pytorch_lightning.loggers import TensorBoardLogger

    return [logger for logger in loggers if isinstance(logger, TensorBoardLogger)]


def log_confusion(loggers: list[Any], found: "Findings") -> None:
    """Shows TensorBoard the confusion matrix of a run's predictions, shares of each true class, as a picture."""
    predictions, errors = found.record.predictions, found.errors
    if predictions is None or errors is None:
        return
    from regraft.report.run.render import heatmap

    for board in boards_of(loggers):
        name, step = f"{predictions.split}/confusion", found.record.results["num_steps"]
        board.experiment.add_image(name, heatmap(errors.shares), step, dataformats="HWC")
        board.save()
