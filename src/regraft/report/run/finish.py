"""Shows a run on the terminal and writes its report when it ends; an error here is only a warning."""

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from regraft.report import heads_table, terminal
from regraft.report.run.mistakes import quick
from regraft.runs import state as run_state
from regraft.runs.folder import Run

if TYPE_CHECKING:
    from regraft.data.datamodule import DataModule
    from regraft.report.run.writing import Findings
    from regraft.training.stage_table import StageRow

log = logging.getLogger(__name__)


class RunDisplay:
    """Shows a run on the terminal if it `is_printed`, and writes its report."""

    def __init__(self, *, is_printed: bool = True) -> None:
        self._is_printed = is_printed

    def show_start(self, run: Run, rows: "Sequence[StageRow]", data: "DataModule") -> None:
        """Prints the stages and when they train, the data, and the run's folder."""
        if self._is_printed:
            terminal.show_start(rows, data.sizes, data.class_names, run, data.task)

    def show_end(
        self, run: Run, results: dict[str, Any], data: "DataModule", loggers: list[Any], *, with_report: bool
    ) -> None:
        """Prints the results, logs the confusion matrix to TensorBoard, and writes the report if `with_report`."""
        if with_report or boards_of(loggers):
            self._show_findings(run, data, loggers, with_report=with_report)
        if self._is_printed:
            if "heads" in results:
                heads_table.show(results)
            terminal.show_results(results, run)

    def _show_findings(self, run: Run, data: "DataModule", loggers: list[Any], *, with_report: bool) -> None:
        no_board = "no confusion matrix in TensorBoard"
        with _warned("no report.html" if with_report else no_board, run):
            from regraft.report.run.writing import findings_of, write_report

            found = findings_of(run, is_ending=True)
            with _warned(no_board, run):
                log_confusion(loggers, found)
            if with_report:
                write_report(found, quick(data))

    def show_so_far(self, run: Run) -> None:
        """Writes the report of a run that this process left unfinished, if it reached the end of an epoch."""
        state = run_state.read(run)
        if state.pid != os.getpid() or state.status not in ("stopped", "failed", "pruned"):
            return  # rejected before it began: its files are those of an earlier process
        with _warned("no report.html", run):
            from regraft.report.run.writing import findings_of, write_report

            found = findings_of(run)
            if found.record.epochs:
                notes = {"gallery": "regraft report run=... shows the images."}
                write_report(found, lambda predictions, indices: ({}, notes))


@contextlib.contextmanager
def _warned(lacking: str, run: Run) -> Iterator[None]:
    """Turns any error into a warning, as the run's own results or error matter more."""
    try:
        yield
    except Exception as error:
        log.warning("There is %s: %s: %s. regraft report run=%s", lacking, type(error).__name__, error, run.path)


def boards_of(loggers: list[Any]) -> list[Any]:
    """Returns the TensorBoard loggers."""
    from pytorch_lightning.loggers import TensorBoardLogger

    return [logger for logger in loggers if isinstance(logger, TensorBoardLogger)]


def log_confusion(loggers: list[Any], found: "Findings") -> None:
    """Logs the confusion matrix of a run's predictions to TensorBoard, as an image of each true class's fractions."""
    predictions, errors = found.record.predictions, found.errors
    if predictions is None or errors is None:
        return
    from regraft.report.run.render import heatmap

    for board in boards_of(loggers):
        name, step = f"{predictions.split}/confusion", found.record.results["num_steps"]
        board.experiment.add_image(name, heatmap(errors.shares), step, dataformats="HWC")
        board.save()
