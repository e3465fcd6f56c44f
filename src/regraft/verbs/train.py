"""`regraft train`: one run, from a composed config to a tested checkpoint."""

import logging
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from regraft import composition, provenance, slurm
from regraft.arguments import in_its_folder
from regraft.faults import FaultsError
from regraft.overrides import reference
from regraft.provenance import Session
from regraft.resuming import continued, reset_parts
from regraft.run_state import Recorder, is_first_process, recorded, require_not_running
from regraft.runs import Run, find_checkpoint, run_of
from regraft.startup import Preempted, keep_freed_memory, quick_imports, stop_looking_for_gpus
from regraft.trust import require_known_targets
from regraft.verbs import devices
from regraft.verbs.outcome import final_metrics, keep_tensors, log_hyperparameters, results_of, saved_before
from regraft.verbs.quiet import interruptible, quiet_lightning
from regraft.verbs.resume import is_done, newest_record, what_to_reset

if TYPE_CHECKING:
    from regraft.build import Checked, FeaturePlan, Parts
    from regraft.checkpoints.reading import Checkpoint
    from regraft.contracts import InputSpec

    GoesOnWith = tuple[dict[str, Any], InputSpec]

Reference = Callable[[], dict[str, Any]]

log = logging.getLogger(__name__)


def train_once(overrides: Sequence[str], config_dir: str | None) -> Run:
    """Composes a config as the command line does and trains it; see `regraft.train`."""
    completed = in_its_folder(list(overrides))
    try:
        composed = composition.compose_once("train", completed, config_dir)
    except ValueError:
        from regraft.verbs.check import require_sound_command

        require_sound_command([*overrides, *([] if config_dir is None else ["--config-dir", config_dir])])
        raise
    with composition.as_current(composed):
        run = Run(Path(composed.hydra.run.dir).resolve())
        config = composition.plain(composed, overrides)
    try:
        return _start(config, overrides, run, partial(reference, composed.hydra))
    except FaultsError:
        run.leave_no_trace()
        raise


def train_job(composed: DictConfig) -> Run:
    """Trains the config that Hydra composed, in the folder that Hydra made; a sweep's job goes on where it stood."""
    hydra = HydraConfig.get()
    run = Run(Path(hydra.runtime.output_dir).resolve())
    overrides = list(hydra.overrides.task)
    config = composition.plain(composed, overrides)
    is_begun = run.last_ckpt.is_file() or run.previous_ckpt.is_file()
    if hydra.mode == RunMode.MULTIRUN and is_begun and config["ckpt_path"] is None:
        config["ckpt_path"] = str(run.path)
    # By its value: a sweep's next job has a config of its own.
    return _start(config, overrides, run, partial(reference, hydra))


def _start(config: dict[str, Any], overrides: Sequence[str], run: Run, choices: Reference) -> Run:
    session = provenance.new_session(overrides)
    config, goes_on_with = settle(config, overrides, run)
    if goes_on_with is not None and run_of(config["ckpt_path"]) == run and is_done(config, run):
        return run
    launch(config, run, session, overrides, goes_on_with, None if goes_on_with else choices)
    return run


def settle(config: dict[str, Any], overrides: Sequence[str], run: Run) -> tuple[dict[str, Any], "GoesOnWith | None"]:
    """Returns the config that a run is really trained with, and what it goes on with: architecture and input spec.

    Raises:
        ValueError: the run's folder is another run's, or the config asks of a resumed run what it can't.
    """
    is_in_place, goes_on_with = False, None
    if config["ckpt_path"] is not None:
        checkpoint = _checkpoint_of(config)
        goes_on_with = checkpoint.architecture, checkpoint.input_spec
        is_in_place = run_of(checkpoint.path) == run
        record = checkpoint.config
        if is_in_place:
            record = newest_record(run, checkpoint.config)
            require_known_targets(record, config["trust"], str(run.path / "config.yaml"))
        config = continued(record, config, overrides) | {"ckpt_path": str(checkpoint.path)}
        if is_in_place:
            config["resume"] = what_to_reset(run, config["resume"], checkpoint.config)
            require_not_running(run)
    elif reset_parts(config):
        raise ValueError("resume.reset: a new run has no state to reset. Leave it out, or go on with a run: run=...")
    if not is_in_place and (run.last_ckpt.exists() or run.has_results):
        raise ValueError(f"{run.path} already holds a run. Go on with it by ckpt_path=..., or name another folder.")
    return config, goes_on_with


def launch(
    config: dict[str, Any],
    run: Run,
    session: Session,
    overrides: Sequence[str],
    goes_on_with: "GoesOnWith | None" = None,
    choices: Reference | None = None,
) -> None:
    """Trains one run in this process, or in a group of its own if it takes several; see `fit`.

    Args:
        config: the resolved config, plain types.
        run: where everything is kept.
        session: where it comes from; see `provenance.new_session`.
        overrides: what was asked for.
        goes_on_with: see `settle`.
        choices: gives the config of the same choices without any other override, for what is wrong with this one.

    Raises:
        FaultsError: all that is wrong with the config; nothing has been written then.
    """
    with quick_imports():
        import pytorch_lightning as pl

        from regraft import build

    quiet_lightning()
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    checked = build.require_sound(config, run.path, goes_on_with, choices)
    keep_overrides(run, overrides)
    if devices.needs_processes(config["trainer"]):
        devices.launch(config, run, session)
    else:
        fit(config, run, session, checked)


def keep_overrides(run: Run, overrides: Sequence[str]) -> None:
    """Writes what was asked for into a run's folder, if it was asked from Python, where Hydra makes no folder."""
    if not (run.path / ".hydra").exists():
        (run.path / ".hydra").mkdir(parents=True)
        OmegaConf.save(OmegaConf.create(list(overrides)), run.path / ".hydra" / "overrides.yaml")


def fit(config: dict[str, Any], run: Run, session: Session, checked: "Checked | None" = None) -> None:
    """Trains and tests one run in this process, and keeps what became of it.

    Args:
        config: the resolved config, plain types.
        run: where everything is kept.
        session: where it comes from; see `provenance.new_session`.
        checked: what checking the config has made, if it has been checked in this process.
    """
    # A resumed or reproduced run's own files had a say in it.
    require_known_targets(config, config.get("trust", []), str(run.path))
    started = time.perf_counter()
    try:
        with recorded(run) as recorder:
            _fit(config, run, session, recorder, checked)
    except Preempted as notice:
        if notice.signum == signal.SIGUSR1 and is_first_process():
            slurm.requeue()
        raise
    finally:
        if is_first_process():
            provenance.end_session(run, session, time.perf_counter() - started)


def _fit(config: dict[str, Any], run: Run, session: Session, recorder: Recorder, checked: "Checked | None") -> None:
    started = time.perf_counter()
    with quick_imports():
        import pytorch_lightning as pl
        import torch

        from regraft import build
        from regraft.report import terminal

    quiet_lightning()
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    checkpoint = _checkpoint_of(config) if config["ckpt_path"] is not None else None
    parts = build.assemble(
        config,
        checkpoint,
        None if checked is None else checked.made,
        lambda data, body: build.require_fitting_data(config, data, body, checked),
    )
    provenance.require_same_data(session, config["data"], parts.data.fingerprint)
    loggers = build.loggers(config, run)
    trainer = build.trainer(
        config,
        has_val=parts.data.has_val,
        callbacks=build.callbacks(config, run, parts, recorder.note),
        logger=loggers,
        default_root_dir=run.path,
    )
    plan = _feature_plan(config, parts, trainer, checkpoint)
    if not torch.cuda.is_available():
        stop_looking_for_gpus()
    if trainer.strategy.root_device.type == "cpu" and keep_freed_memory():
        log.info("Freed memory is kept for the next batch (glibc's mallopt; REGRAFT_MALLOC=default turns it off).")
    if trainer.is_global_zero:
        # Not before now: what is refused above must leave a run that it would have gone on with as it was.
        recorder.follow(lambda: (trainer.global_step, trainer.current_epoch))
        recorder.start()
        run.write_config(config)
        provenance.add_session(run, session, config["data"], parts.data.fingerprint, config["seed"])
        if parts.data.skipped:
            run.write_skipped(parts.data.skipped)
        terminal.show_start(parts.rows, parts.data.sizes, parts.data.class_names, run)
        if checkpoint is not None:
            log.info("Going on from %s.", checkpoint.path)
            _keep_history(loggers, run, checkpoint)
    progress = _image_progress(config, trainer, "Images")
    build.store_pixels(config, parts.data, plan, _start_epoch(checkpoint), progress)
    stored = None if plan is None else build.store(plan)
    data, summary = (parts.data, None) if stored is None else stored
    parts.module.hparams["features"] = {"precision": None} if stored is None or plan is None else plan.record
    _run_fit(trainer, parts.module, data, config["ckpt_path"], run)
    metrics = final_metrics(trainer, parts, data, run)
    if trainer.is_global_zero:
        results = results_of(trainer, parts) | {"metrics": metrics, "seconds": time.perf_counter() - started}
        if summary is not None:
            results["features"] = summary
        if parts.data.skipped:
            results["num_skipped_images"] = len(parts.data.skipped)
        if not trainer.fast_dev_run:
            keep_tensors(parts.module, run)
        run.write_results(results)
        log_hyperparameters(loggers, config, metrics)
        terminal.show_results(results, run)


def _checkpoint_of(config: dict[str, Any]) -> "Checkpoint":
    with quick_imports():
        from regraft.checkpoints.reading import read

    return read(find_checkpoint(config["ckpt_path"], prefer="last"), config["trust"])


def _feature_plan(
    config: dict[str, Any], parts: "Parts", trainer: Any, checkpoint: "Checkpoint | None"
) -> "FeaturePlan | None":
    """Returns what is stored of the run; reloads loaders at each epoch if its phases differ in it."""
    from regraft import build

    if checkpoint is not None:
        # Before Lightning restores it all: what is stored hangs on the weights.
        parts.module.load_state_dict(checkpoint.content["state_dict"])
    plan = build.feature_plan(
        config,
        parts.module.backbone,
        parts.data,
        parts.strategy,
        trainer.strategy.root_device,
        start_epoch=_start_epoch(checkpoint),
        progress=_image_progress(config, trainer, "Features"),
        earlier=None if checkpoint is None else checkpoint.features,
    )
    if plan is not None and len({stretch.depth for stretch in plan.stretches}) > 1:
        trainer.reload_dataloaders_every_n_epochs = 1
    return plan


def _start_epoch(checkpoint: "Checkpoint | None") -> int:
    return 0 if checkpoint is None else int(checkpoint.content["epoch"])


def _image_progress(config: dict[str, Any], trainer: Any, title: str) -> Any:
    from regraft.report.progress import image_progress

    return image_progress(is_shown=config["trainer"]["enable_progress_bar"] and trainer.is_global_zero, title=title)


def _run_fit(trainer: Any, module: Any, data: Any, ckpt_path: str | None, run: Run) -> None:
    """Fits; what a signal ends leaves as the interrupt or the exit that it is."""
    from regraft.divergence import DivergedError
    from regraft.interrupts import StoppedBySignal

    try:
        with interruptible(trainer):
            trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    except DivergedError as error:
        raise ValueError(f"{error} {saved_before(run, error.step)}") from error
    except StoppedBySignal as stopped:
        saved = "saved" if stopped.is_saved else "not saved; last.ckpt is older"
        log.info(
            "Stopped by %s in epoch %d at step %d (%s). To go on: regraft resume run=%s",
            *(stopped, trainer.current_epoch, trainer.global_step, saved, run.path),
        )
        if not trainer.is_global_zero:
            # Lightning kills the first process as soon as another one fails, though it may not have ended yet.
            raise SystemExit(0) from None
        if stopped.exit_code == 130:
            raise KeyboardInterrupt from None
        raise Preempted(stopped.signum) from None
    finally:
        module.teardown("fit")  # which Lightning leaves out where training failed


def _keep_history(loggers: list[Any], run: Run, checkpoint: "Checkpoint") -> None:
    """Has metrics.csv go on from the rows before the checkpoint."""
    from regraft.checkpoints.restoring import history_of, take_up_history

    rows = history_of(checkpoint.content)
    take_up_history(loggers, run.history(checkpoint.content["global_step"]) if rows is None else rows)
