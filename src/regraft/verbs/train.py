"""`regraft train`: one run, from a composed config to a tested checkpoint."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from regraft import composition, provenance
from regraft.arguments import in_its_folder
from regraft.provenance import Session
from regraft.resuming import continued, reset_parts
from regraft.run_state import Recorder, recorded, require_not_running
from regraft.runs import Run, find_checkpoint, run_of
from regraft.startup import keep_freed_memory, quick_imports, stop_looking_for_gpus
from regraft.verbs import devices
from regraft.verbs.outcome import final_metrics, keep_tensors, log_hyperparameters, results_of
from regraft.verbs.quiet import interruptible, quiet_lightning
from regraft.verbs.resume import is_done, with_its_length

if TYPE_CHECKING:
    from regraft.build import FeaturePlan, Parts
    from regraft.checkpoints.reading import Checkpoint

log = logging.getLogger(__name__)


def train_once(overrides: Sequence[str], config_dir: str | None) -> Run:
    """Composes a config as the command line does and trains it; see `regraft.train`."""
    completed = in_its_folder(list(overrides))
    composed = composition.compose_once("train", completed, config_dir)
    with composition.as_current(composed):
        run = Run(Path(composed.hydra.run.dir).resolve())
        config = composition.plain(composed)
    return _start(config, overrides, run)


def train_job(composed: DictConfig) -> Run:
    """Trains the config that Hydra composed, in the folder that Hydra made; a sweep's job goes on where it stood."""
    hydra = HydraConfig.get()
    run = Run(Path(hydra.runtime.output_dir).resolve())
    config = composition.plain(composed)
    is_begun = run.last_ckpt.is_file() or run.previous_ckpt.is_file()
    if hydra.mode == RunMode.MULTIRUN and is_begun and config["ckpt_path"] is None:
        config["ckpt_path"] = str(run.path)
    return _start(config, list(hydra.overrides.task), run)


def _start(config: dict[str, Any], overrides: Sequence[str], run: Run) -> Run:
    is_in_place = False
    session = provenance.new_session(overrides)
    if config["ckpt_path"] is not None:
        checkpoint = _checkpoint_of(config)
        config = continued(checkpoint.config, config, overrides) | {"ckpt_path": str(checkpoint.path)}
        is_in_place = run_of(checkpoint.path) == run
        if is_in_place:
            config = with_its_length(config, run, overrides)
            require_not_running(run)
            if is_done(config, run):
                return run
    elif reset_parts(config):
        raise ValueError("resume.reset: a new run has no state to reset. Leave it out, or go on with a run: run=...")
    if not is_in_place and (run.last_ckpt.exists() or run.has_results):
        raise ValueError(f"{run.path} already holds a run. Go on with it by ckpt_path=..., or name another folder.")
    keep_overrides(run, overrides)
    launch(config, run, session)
    return run


def launch(config: dict[str, Any], run: Run, session: Session) -> None:
    """Trains one run in this process, or in a group of its own if it takes several; see `fit`."""
    if devices.needs_processes(config["trainer"]):
        devices.launch(config, run, session)
    else:
        fit(config, run, session)


def keep_overrides(run: Run, overrides: Sequence[str]) -> None:
    """Writes what was asked for into a run's folder, if it was asked from Python, where Hydra makes no folder."""
    if not (run.path / ".hydra").exists():
        (run.path / ".hydra").mkdir(parents=True)
        OmegaConf.save(OmegaConf.create(list(overrides)), run.path / ".hydra" / "overrides.yaml")


def fit(config: dict[str, Any], run: Run, session: Session) -> None:
    """Trains and tests one run in this process, and keeps what became of it.

    Args:
        config: the resolved config, plain types.
        run: where everything is kept.
        session: where it comes from; see `provenance.new_session`.
    """
    with recorded(run) as recorder:
        _fit(config, run, session, recorder)


def _fit(config: dict[str, Any], run: Run, session: Session, recorder: Recorder) -> None:
    started = time.perf_counter()
    with quick_imports():
        import pytorch_lightning as pl
        import torch

        from regraft import build
        from regraft.report import terminal

    quiet_lightning()
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    checkpoint = _checkpoint_of(config) if config["ckpt_path"] is not None else None
    parts = build.assemble(config, checkpoint)
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
        terminal.show_start(parts.rows, parts.data.sizes, parts.data.class_names, run)
        if checkpoint is not None:
            log.info("Going on from %s.", checkpoint.path)
            _keep_history(loggers, run, checkpoint)
    stored = None if plan is None else build.store(plan)
    data, summary = (parts.data, None) if stored is None else stored
    parts.module.hparams["features"] = {"precision": None} if stored is None or plan is None else plan.record
    _run_fit(trainer, parts.module, data, config["ckpt_path"], run)
    metrics = final_metrics(trainer, parts, data, run)
    if trainer.is_global_zero:
        results = results_of(trainer, parts) | {"metrics": metrics, "seconds": time.perf_counter() - started}
        if summary is not None:
            results["features"] = summary
        if not trainer.fast_dev_run:
            keep_tensors(parts.module, run)
        run.write_results(results)
        provenance.end_session(run, results["seconds"])
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
    from regraft.report.progress import image_progress

    if checkpoint is not None:
        # Before Lightning restores it all: what is stored hangs on the weights.
        parts.module.load_state_dict(checkpoint.content["state_dict"])
    plan = build.feature_plan(
        config,
        parts.module.backbone,
        parts.data,
        parts.strategy,
        trainer.strategy.root_device,
        start_epoch=0 if checkpoint is None else checkpoint.content["epoch"],
        progress=image_progress(is_shown=config["trainer"]["enable_progress_bar"] and trainer.is_global_zero),
        earlier=None if checkpoint is None else checkpoint.features,
    )
    if plan is not None and len({stretch.depth for stretch in plan.stretches}) > 1:
        trainer.reload_dataloaders_every_n_epochs = 1
    return plan


def _run_fit(trainer: Any, module: Any, data: Any, ckpt_path: str | None, run: Run) -> None:
    """Fits; what a signal ends leaves as the interrupt or the exit that it is."""
    from regraft.interrupts import StoppedBySignal

    try:
        with interruptible(trainer):
            trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
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
        raise SystemExit(stopped.exit_code) from None
    finally:
        module.teardown("fit")  # which Lightning leaves out where training failed


def _keep_history(loggers: list[Any], run: Run, checkpoint: "Checkpoint") -> None:
    """Has metrics.csv go on from the rows before the checkpoint."""
    from regraft.checkpoints.restoring import history_of, take_up_history

    rows = history_of(checkpoint.content)
    take_up_history(loggers, run.history(checkpoint.content["global_step"]) if rows is None else rows)
