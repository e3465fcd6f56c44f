"""Shows a run on the terminal and writes its report when it ends; an error here is only a warning."""

import contextlib
import logging
import os
import shlex
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from regraft.report import terminal
from regraft.report.run.mistakes import quick
from regraft.report.tables import heads as heads_table
from regraft.runs import state as run_state
from regraft.runs.folder import CHECKPOINTS, Run
from regraft.runs.resuming import resume_command

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
            terminal.show_start(rows, data.sizes, data.class_names, run, data.task, data.input_spec.nouns)

    def show_end(
        self, run: Run, results: dict[str, Any], data: "DataModule", loggers: list[Any], *, with_report: bool
    ) -> None:
        """Prints the results, writes the report if `with_report`, and gives loggers the confusion matrix and files."""
        if with_report or trackers_of(loggers):
            self._show_findings(run, data, loggers, with_report=with_report)
        if self._is_printed:
            if "heads" in results:
                heads_table.show(results)
            terminal.show_results(results, run)
            if "limit" in results:
                log.warning("The run was ended by %s. To continue it: %s", results["limit"], resume_command(run))

    def _show_findings(self, run: Run, data: "DataModule", loggers: list[Any], *, with_report: bool) -> None:
        incomplete = "something missing in what loggers show"
        with _warned("no report.html" if with_report else incomplete, run):
            from regraft.report.run.writing import findings_of, write_report

            found = findings_of(run, is_ending=True)
            with _warned(incomplete, run):
                log_confusion(loggers, found)
            if with_report:
                write_report(found, quick(data))
        for logger in trackers_of(loggers):
            with _warned(incomplete, run):
                log_files(logger, run)

    def show_so_far(self, run: Run) -> None:
        """Writes the report of a run that this process left unfinished, if it reached the end of an epoch."""
        state = run_state.read(run)
        if state.pid != os.getpid() or state.status not in ("stopped", "failed", "pruned"):
            return  # rejected before it began: its files are those of an earlier process
        with _warned("no report.html", run):
            from regraft.report.run.writing import findings_of, write_report

            found = findings_of(run)
            if found.record.epochs:
                notes = {"gallery": "regraft report run=... shows them."}
                write_report(found, lambda predictions, indices: ({}, notes))


@contextlib.contextmanager
def _warned(lacking: str, run: Run) -> Iterator[None]:
    """Turns any error into a warning, as the run's own results or error matter more."""
    try:
        yield
    except Exception as error:
        again = shlex.join(["regraft", "report", f"run={run.path}"])
        log.warning("There is %s: %s: %s. To try again: %s", lacking, type(error).__name__, error, again)


def trackers_of(loggers: list[Any]) -> list[Any]:
    """Returns the loggers that show more than numbers: TensorBoard, MLflow, W&B."""
    from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

    from regraft.training.loggers import MLflow

    return [logger for logger in loggers if isinstance(logger, TensorBoardLogger | WandbLogger | MLflow)]


def log_confusion(loggers: list[Any], found: "Findings") -> None:
    """Logs the confusion matrix of a run's predictions: an image of fractions of each true class, for W&B a plot."""
    predictions, errors = found.record.predictions, found.errors
    if predictions is None or errors is None:
        return
    from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

    from regraft.report.run.render import heatmap

    name, step = f"{predictions.split}/confusion", found.record.results["num_steps"]
    for logger in trackers_of(loggers):
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, heatmap(errors.shares), step, dataformats="HWC")
            logger.save()
        elif isinstance(logger, WandbLogger):
            _log_confusion_to_wandb(logger, name, step, found)
        else:
            logger.experiment.log_image(logger.run_id, heatmap(errors.shares), artifact_file=f"{name}.png")


def _log_confusion_to_wandb(logger: Any, name: str, step: int, found: "Findings") -> None:
    wandb = import_module("wandb")  # an extra

    from regraft.report.run.render import heatmap

    predictions, errors = found.record.predictions, found.errors
    assert predictions is not None, "there is a confusion matrix"
    assert errors is not None, "there is a confusion matrix"
    names = list(found.record.class_names)
    if len(names) <= len(errors.shown):  # the plot is a table of all pairs of classes
        targets, predicted = predictions.targets.tolist(), predictions.predicted.tolist()
        shown = wandb.plot.confusion_matrix(y_true=targets, preds=predicted, class_names=names, title=name)
    else:
        shown = wandb.Image(heatmap(errors.shares))
    logger.experiment.log({name: shown, "trainer/global_step": step})


def log_files(logger: Any, run: Run) -> None:
    """Gives MLflow and W&B a run's report, predictions and tested checkpoint; W&B the last if `log_model` says so."""
    from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

    from regraft.training.loggers import WandB

    if isinstance(logger, TensorBoardLogger):
        return
    names = ("report.html", "report.md", "predictions.safetensors", "config.yaml", "results.json")
    files = [path for name in names if (path := run.path / name).is_file()]
    checkpoint = next((path for path in (run.best_ckpt, run.last_ckpt) if path.is_file()), None)
    if not isinstance(logger, WandbLogger):
        for path in files:
            logger.experiment.log_artifact(logger.run_id, str(path))
        if checkpoint is not None:
            logger.experiment.log_artifact(logger.run_id, str(checkpoint), CHECKPOINTS)
        return
    wandb = import_module("wandb")
    kinds = {
        "run": files,
        "model": [checkpoint] if checkpoint is not None and isinstance(logger, WandB) and logger.logs_model else [],
    }
    for kind, paths in kinds.items():
        artifact = wandb.Artifact(f"{kind}-{logger.experiment.id}", type=kind)
        for path in paths:
            artifact.add_file(str(path))
        if paths:
            logger.experiment.log_artifact(artifact)
