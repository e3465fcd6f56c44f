"""Trains and tests one planned run in this process, and records its results."""

import logging
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from regraft.config.given import sections_given
from regraft.config.trust import require_known_targets
from regraft.core import launcher, slurm
from regraft.core.atomic import read_json
from regraft.core.errors import ConfigError
from regraft.core.startup import Interrupted, Preempted
from regraft.runs import provenance
from regraft.runs.folder import PROBE, Run
from regraft.runs.provenance import Session
from regraft.runs.resuming import resume_command
from regraft.runs.state import StateRecorder, is_first_process, recording_state
from regraft.training.fit import multi_process
from regraft.training.fit.group import naming_the_lost
from regraft.training.fit.results import (
    final_metrics,
    limit_of,
    results_of,
    write_tensors,
)
from regraft.training.fit.single import Laps, fit_once
from regraft.training.plan import TrainingJob, checked_job, claimed, settled

if TYPE_CHECKING:
    from regraft.training.fit.assemble import Parts

log = logging.getLogger(__name__)


class Display(Protocol):
    """Shows a run while this process trains it."""

    def show_start(self, run: Run, rows: Sequence[Any], data: Any) -> None:
        """Shows what trains from which epoch on (a `StageRow` per stage), and on which data."""

    def show_end(self, run: Run, results: dict[str, Any], data: Any, loggers: list[Any], *, with_report: bool) -> None:
        """Shows a run's results, also to the loggers, and writes its report."""

    def show_so_far(self, run: Run) -> None:
        """Writes the report of a run that ends early."""


def train(job: TrainingJob, session: Session, display: Display) -> None:
    """Trains a run in this process, or in a process group of its own if it takes several; see `fit`."""
    if job.group is None:
        launcher.require_alone()
    with claimed(job) as mine:
        if mine.is_done:
            return
        if mine.group is not None or not multi_process.needs_processes(mine.config["trainer"]):
            fit(mine, session, display)
            return
        _require_no_objects(mine.config)
        if mine.checkpoint is not None:
            # The group reads it itself; here it would fill memory as long as this process waits.
            mine.checkpoint.content.clear()
        multi_process.launch(mine.config, mine.run, session)


def _require_no_objects(config: dict[str, Any]) -> None:
    """Raises ConfigError if a part of a run is an object, which its other processes don't have."""
    if given := sections_given(config):
        fix = "Use trainer.devices=1, or a config that names what makes it."
        raise ConfigError(given[0], "an object can't be given to several processes", fix=fix)


def fit(job: TrainingJob, session: Session, display: Display) -> None:
    """Trains and tests one run in this process, and records its results."""
    config, run = job.config, job.run
    # The config may come partly from a run's own files, which aren't trusted.
    require_known_targets(config, config["trust"], str(run.path))
    from regraft.training.hardware.precision import matmul_precision

    started = time.perf_counter()
    try:
        with recording_state(run, is_locked=job.is_locked) as recorder:
            if not job.is_locked:
                job = settled(job)
            with nullcontext() if job.group is None else job.group.in_turn("downloads"):
                job = _ready(job)
            # Of processes that torchrun or srun has started, their group knows more.
            waiting = multi_process.explaining_silence(config["trainer"]) if job.group is None else nullcontext()
            with matmul_precision(config), naming_the_lost(job.group, run), waiting:
                _train_and_test(job, session, display, recorder)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | Preempted) and is_first_process():
            _say_how_to_go_on(run, error)
        if isinstance(error, Preempted) and error.signum == signal.SIGUSR1:
            if job.group is not None:
                job.group.requeue()
            elif is_first_process():
                slurm.requeue()
        if is_first_process() and config["report"] == "default" and not config["trainer"].get("fast_dev_run"):
            display.show_so_far(run)
        raise
    finally:
        if is_first_process():
            provenance.end_session(run, session, time.perf_counter() - started)


def _say_how_to_go_on(run: Run, error: KeyboardInterrupt | Preempted) -> None:
    """Says so of a run that was stopped before or after its steps; one that was stopped at a step has said it."""
    if isinstance(error, Interrupted) or (isinstance(error, Preempted) and error.is_reported):
        return
    log.info(
        "Stopped by %s. %s",
        signal.Signals(error.signum if isinstance(error, Preempted) else signal.SIGINT).name,
        f"To resume: {resume_command(run)}"
        if run.can_resume
        else "No step has been saved: the same command starts again, and reads the features that have been stored.",
    )


def _ready(job: TrainingJob) -> TrainingJob:
    """Returns a job that has been checked, after the download of data that it depends on."""
    config, run, group = job.config, job.run, job.group
    if job.checked is None:
        job = checked_job(config, run)
        job.require_sound()
    assert job.checked is not None, "something is left to train"
    is_download = group is not None and job.checked.data is not None and not job.checked.data.is_here
    if job.checked.is_provisional or is_download:
        from regraft.data.from_config import prepare

        prepare(job.checked.data)  # downloads it
    if job.checked.is_provisional:
        job = checked_job(config, run)
        job.require_sound()
    return replace(job, group=group)


def _train_and_test(job: TrainingJob, session: Session, display: Display, recorder: StateRecorder) -> None:
    from regraft.training.loggers import close

    loggers: list[Any] = []
    try:
        _train_and_test_with(loggers, job, session, display, recorder)
    except BaseException:
        close(loggers, "failed")
        raise
    close(loggers, "success")


def _train_and_test_with(
    loggers: list[Any], job: TrainingJob, session: Session, display: Display, recorder: StateRecorder
) -> None:
    """Trains and tests; adds the loggers of the run to `loggers`, which are to be closed."""
    from regraft.training import loggers as tracking
    from regraft.training.fit.refit import REFIT, chosen, fits_twice, keep_as_best, refit_of, results_of_refit

    config, run, laps = job.config, job.run, Laps()

    def begin(parts: "Parts") -> None:
        loggers.extend(parts.trainer.loggers)
        _begin(config, run, session, recorder, parts, parts.trainer)
        tracking.begin(loggers, config, run, session)
        display.show_start(run, parts.rows, parts.data)

    fitted = fit_once(job, session, recorder, laps, begin)
    recorder.limit = limit_of(fitted.parts.trainer, config)
    is_whole = recorder.limit is None and not fitted.parts.trainer.fast_dev_run
    if is_whole and fits_twice(config) and refit_of(job.checkpoint) is None and fitted.parts.data.has_val:
        found, features = chosen(fitted.parts.trainer), fitted.parts.module.hparams["features"]
        del fitted  # so that no two backbones are in memory at once
        job = replace(checked_job(config, run, refit=found), group=job.group)
        job.require_sound()
        fitted = fit_once(job, session, recorder, laps, lambda _: None, features)
    parts, trainer = fitted.parts, fitted.parts.trainer
    recorder.limit = limit_of(trainer, config)
    refit = parts.module.hparams.get(REFIT) if recorder.limit is None else None
    if refit is not None:
        keep_as_best(run)
    metrics = final_metrics(trainer, parts, fitted.data, run)
    laps.end("final test")
    weights = trainer.strategy.lightning_module_state_dict()  # by all processes, as each may hold a part
    if trainer.is_global_zero:
        results = results_of(trainer, parts) | ({} if refit is None else results_of_refit(refit))
        results |= {"metrics": metrics, "seconds": laps.total, "seconds_of": laps.seconds}
        if recorder.limit is not None:
            results["limit"] = recorder.limit
        if fitted.features is not None:
            results["features"] = fitted.features
        _end(run, results, parts, trainer, weights)
        tracking.log_results(loggers, config, run, results)
        with_report = config["report"] == "default" and not trainer.fast_dev_run
        display.show_end(run, results, parts.data, [] if trainer.fast_dev_run else loggers, with_report=with_report)


def _begin(
    config: dict[str, Any], run: Run, session: Session, recorder: StateRecorder, parts: "Parts", trainer: Any
) -> None:
    """Records what the run is, and that it is under way."""
    recorder.start()
    run.write_config(config)
    provenance.add_session(run, session, config["data"], parts.data.fingerprint, config["seed"])
    if parts.data.skipped:
        run.write_skipped(parts.data.skipped)


def _end(run: Run, results: dict[str, Any], parts: "Parts", trainer: Any, weights: Mapping[str, Any]) -> None:
    if heads := read_json(run.path / PROBE):
        results["heads"] = heads
    if parts.data.skipped:
        results["num_skipped"] = len(parts.data.skipped)
    if not trainer.fast_dev_run:
        write_tensors(parts.module, weights, run)
    run.write_results(results)
