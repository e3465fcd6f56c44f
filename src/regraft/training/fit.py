"""Trains and tests one planned run in this process, and records its results."""

import logging
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from regraft.config.given import is_given
from regraft.config.trust import require_known_targets
from regraft.core import slurm
from regraft.core.atomic import read_json
from regraft.core.console import ProgressBar, image_progress_bar
from regraft.core.errors import ConfigError
from regraft.core.startup import Preempted, keep_freed_memory, quick_imports, stop_looking_for_gpus
from regraft.runs import provenance
from regraft.runs.folder import PROBE, Run
from regraft.runs.provenance import Session
from regraft.runs.resuming import resume_command
from regraft.runs.state import StateRecorder, is_first_process, recording_state
from regraft.training import multi_process
from regraft.training.lightning import interruptible
from regraft.training.plan import TrainingJob, checked_job, claimed, settled
from regraft.training.results import (
    earlier_checkpoint,
    final_metrics,
    limit_of,
    results_of,
    write_tensors,
)

if TYPE_CHECKING:
    from regraft.runs.checkpoint import Checkpoint
    from regraft.training.assemble import Parts
    from regraft.training.feature_plan import FeaturePlan

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
    multi_process.require_single_task()
    with claimed(job) as mine:
        if mine.is_done:
            return
        if not multi_process.needs_processes(mine.config["trainer"]):
            fit(mine, session, display)
            return
        _require_no_objects(mine.config)
        if mine.checkpoint is not None:
            # The group reads it itself; here it would fill memory as long as this process waits.
            mine.checkpoint.content.clear()
        multi_process.launch(mine.config, mine.run, session)


def _require_no_objects(config: dict[str, Any]) -> None:
    """Raises ConfigError if a part of a run is an object, which its other processes don't have."""
    nodes = config | {
        f"{group}.{name}": node for group in ("callbacks", "logger") for name, node in config[group].items()
    }
    given = [section for section, node in nodes.items() if is_given(node)]
    if given:
        fix = "Use trainer.devices=1, or a config that names what makes it."
        raise ConfigError(given[0], "an object can't be given to several processes", fix=fix)


def fit(job: TrainingJob, session: Session, display: Display) -> None:
    """Trains and tests one run in this process, and records its results."""
    config, run = job.config, job.run
    # The config may come partly from a run's own files, which aren't trusted.
    require_known_targets(config, config["trust"], str(run.path))
    from regraft.training.precision import matmul_precision

    started = time.perf_counter()
    try:
        with recording_state(run, is_locked=job.is_locked) as recorder:
            if not job.is_locked:
                job = settled(job)
            if job.checked is None:
                job = checked_job(config, run)
                job.require_sound()
            assert job.checked is not None, "something is left to train"
            if job.checked.is_provisional:
                from regraft.data.from_config import prepare

                prepare(job.checked.data)  # downloads it
                job = checked_job(config, run)
                job.require_sound()
            with matmul_precision(config):
                _train_and_test(job, session, display, recorder)
    except BaseException as error:
        if is_first_process():
            if isinstance(error, Preempted) and error.signum == signal.SIGUSR1:
                slurm.requeue()
            if config["report"] == "default" and not config["trainer"].get("fast_dev_run"):
                display.show_so_far(run)
        raise
    finally:
        if is_first_process():
            provenance.end_session(run, session, time.perf_counter() - started)


@dataclass(frozen=True)
class _Fitted:
    """A trained job: its parts, the data that its loaders read, and a summary of its stored features."""

    parts: "Parts"
    data: Any
    features: dict[str, Any] | None


class _Laps:
    """Seconds of the parts of a run, one after the other, by name."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @property
    def total(self) -> float:
        return time.perf_counter() - self._started

    def end(self, name: str) -> None:
        passed = self.total - sum(self.seconds.values())
        self.seconds[name] = self.seconds.get(name, 0.0) + passed


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
    from regraft.training.refit import REFIT, chosen, fits_twice, keep_as_best, refit_of, results_of_refit

    config, run, laps = job.config, job.run, _Laps()

    def begin(parts: "Parts") -> None:
        loggers.extend(parts.trainer.loggers)
        _begin(config, run, session, recorder, parts, parts.trainer)
        tracking.begin(loggers, config, run, session)
        display.show_start(run, parts.rows, parts.data)

    fitted = _fitted(job, session, recorder, laps, begin)
    recorder.limit = limit_of(fitted.parts.trainer, config)
    is_whole = recorder.limit is None and not fitted.parts.trainer.fast_dev_run
    if is_whole and fits_twice(config) and refit_of(job.checkpoint) is None and fitted.parts.data.has_val:
        found, features = chosen(fitted.parts.trainer), fitted.parts.module.hparams["features"]
        del fitted  # so that no two backbones are in memory at once
        job = checked_job(config, run, refit=found)
        job.require_sound()
        fitted = _fitted(job, session, recorder, laps, lambda _: None, features)
    parts, trainer = fitted.parts, fitted.parts.trainer
    recorder.limit = limit_of(trainer, config)
    refit = parts.module.hparams.get(REFIT) if recorder.limit is None else None
    if refit is not None:
        keep_as_best(run)
    metrics = final_metrics(trainer, parts, fitted.data, run)
    laps.end("final test")
    if trainer.is_global_zero:
        results = results_of(trainer, parts) | ({} if refit is None else results_of_refit(refit))
        results |= {"metrics": metrics, "seconds": laps.total, "seconds_of": laps.seconds}
        if recorder.limit is not None:
            results["limit"] = recorder.limit
            log.warning("The run was ended by %s. To continue it: %s", recorder.limit, resume_command(run))
        if fitted.features is not None:
            results["features"] = fitted.features
        _end(run, results, parts, trainer)
        tracking.log_results(loggers, config, run, results)
        with_report = config["report"] == "default" and not trainer.fast_dev_run
        display.show_end(run, results, parts.data, [] if trainer.fast_dev_run else loggers, with_report=with_report)


def _fitted(
    job: TrainingJob,
    session: Session,
    recorder: StateRecorder,
    laps: _Laps,
    begin: Callable[["Parts"], None],
    features: dict[str, Any] | None = None,
) -> _Fitted:
    """Trains a job to its end.

    Args:
        begin: called by the first process once nothing can be refused any more: until then, the run that is resumed
            must be left unchanged.
        features: how the first fit of the run stored features, for the second one; see `FeaturePlan.record`.
    """
    config, run, checkpoint, checked = job.config, job.run, job.checkpoint, job.checked
    assert checked is not None, "something is left to train"
    with quick_imports():
        import pytorch_lightning as pl

        from regraft.training.assemble import assemble
        from regraft.training.callbacks.checkpoint import LastCheckpoint
        from regraft.training.callbacks.resume import continue_history
        from regraft.training.compiling import compile_stages, is_compiled
        from regraft.training.data_checks import left_out
        from regraft.training.feature_plan import store_features
        from regraft.training.image_cache import store_pixels
        from regraft.training.initial_head import is_found_in_closed_form, start_from_closed_form
        from regraft.training.memory_format import settled_format
        from regraft.training.precision import emulation_note

    pl.seed_everything(config["seed"], workers=True, verbose=False)
    parts = assemble(checked, checkpoint)
    provenance.require_same_data(session, config["data"], parts.data.fingerprint)
    trainer = parts.trainer
    for callback in trainer.callbacks:
        if isinstance(callback, LastCheckpoint):
            callback.on_saved = recorder.update
    recorder.progress = lambda: (trainer.global_step, trainer.current_epoch)
    is_shown = config["trainer"]["enable_progress_bar"] and trainer.is_global_zero
    start_epoch = 0 if checkpoint is None else int(checkpoint.content["epoch"])
    earlier = features if checkpoint is None else checkpoint.features
    plan = _feature_plan(config, parts, checkpoint, start_epoch, earlier, image_progress_bar(is_shown=is_shown))
    _settle_process(trainer)
    memory_format, trial = settled_format(config, parts, plan)
    has_compiled_stages = is_compiled(config, parts.module, trial)
    if trainer.is_global_zero:
        begin(parts)
        if note := emulation_note(config, trainer.strategy.root_device):
            log.warning("%s", note)
        note = left_out(config, parts.data.sizes["train"])
        if note and checked.refit is None:
            log.info("%s", note)
        if checkpoint is not None:
            log.info("Resuming from %s.", checkpoint.path)
            continue_history(trainer.loggers, run, checkpoint.content)
    if checked.refit is not None:
        trainer.loggers = []  # metrics.csv and the like show the first fit, which has been validated
    laps.end("start")
    store_pixels(config, parts.data, plan, start_epoch, image_progress_bar(is_shown=is_shown, title="Images"))
    if is_found_in_closed_form(config, parts.strategy):
        record = None if checkpoint is None else checkpoint.content["hyper_parameters"]
        start_from_closed_form(config, parts.module, parts.data, trainer.strategy.root_device, record)
    stored = None if plan is None else store_features(plan)
    data, summary = (parts.data, None) if stored is None else stored
    laps.end("images and features")
    parts.module.hparams["features"] = {"precision": None} if stored is None or plan is None else plan.record
    parts.module.use_memory_format(memory_format)
    if has_compiled_stages:
        compile_stages(parts.module.backbone)
    _run_lightning(trainer, parts.module, data, None if checkpoint is None else str(checkpoint.path), run)
    laps.end("training")
    return _Fitted(parts, data, summary)


def _settle_process(trainer: Any) -> None:
    import torch

    if not torch.cuda.is_available():
        stop_looking_for_gpus()
    if trainer.strategy.root_device.type == "cpu" and keep_freed_memory():
        log.info("Freed memory is kept for the next batch (glibc's mallopt; REGRAFT_MALLOC=default turns it off).")


def _begin(
    config: dict[str, Any], run: Run, session: Session, recorder: StateRecorder, parts: "Parts", trainer: Any
) -> None:
    """Records what the run is, and that it is under way."""
    recorder.start()
    run.write_config(config)
    provenance.add_session(run, session, config["data"], parts.data.fingerprint, config["seed"])
    if parts.data.skipped:
        run.write_skipped(parts.data.skipped)


def _end(run: Run, results: dict[str, Any], parts: "Parts", trainer: Any) -> None:
    if heads := read_json(run.path / PROBE):
        results["heads"] = heads
    if parts.data.skipped:
        results["num_skipped_images"] = len(parts.data.skipped)
    if not trainer.fast_dev_run:
        write_tensors(parts.module, run)
    run.write_results(results)


def _feature_plan(
    config: dict[str, Any],
    parts: "Parts",
    checkpoint: "Checkpoint | None",
    start_epoch: int,
    earlier: Mapping[str, Any] | None,
    progress: ProgressBar,
) -> "FeaturePlan | None":
    """Returns what is stored of the run; Lightning reloads the loaders at each epoch if phases have different cuts."""
    from regraft.training.feature_plan import feature_plan

    if checkpoint is not None:
        # Before Lightning restores it all: what is stored depends on the weights.
        parts.module.load_state_dict(checkpoint.content["state_dict"])
    plan = feature_plan(
        config,
        parts.module.backbone,
        parts.data,
        parts.strategy,
        parts.trainer.strategy.root_device,
        start_epoch=start_epoch,
        progress=progress,
        earlier=earlier,
        may_leave_out_train=True,
    )
    if plan is not None and len({phase.depth for phase in plan.cuts}) > 1:
        parts.trainer.reload_dataloaders_every_n_epochs = 1
    return plan


def _run_lightning(trainer: Any, module: Any, data: Any, ckpt_path: str | None, run: Run) -> None:
    """Fits; a signal ends this as an interrupt or an exit."""
    from regraft.core.lightning_internals import complete_stopped_epoch
    from regraft.training.callbacks.signals import StoppedBySignal
    from regraft.training.divergence import DivergedError

    try:
        with interruptible(trainer):
            trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        complete_stopped_epoch(trainer)
    except DivergedError as error:
        raise ValueError(f"{error} {earlier_checkpoint(run, error.step)}") from error
    except StoppedBySignal as stopped:
        saved = "saved" if stopped.is_saved else "not saved; last.ckpt is older"
        log.info(
            "Stopped by %s in epoch %d at step %d (%s). To resume: %s",
            *(stopped, trainer.current_epoch, trainer.global_step, saved, resume_command(run)),
        )
        if not trainer.is_global_zero:
            # Lightning kills the first process as soon as another one fails, though it may not have ended yet.
            raise SystemExit(0) from None
        if stopped.exit_code == 130:
            raise KeyboardInterrupt from None
        raise Preempted(stopped.signum) from None
    finally:
        module.teardown("fit")  # which Lightning leaves out where training failed
