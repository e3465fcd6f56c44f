"""One fit of a run: assembled, its features stored, trained by Lightning to its end."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from regraft.core.console import ProgressBar, image_progress_bar
from regraft.core.startup import Interrupted, Preempted, keep_freed_memory, quick_imports, stop_looking_for_gpus
from regraft.features.share import Share
from regraft.runs import provenance
from regraft.runs.folder import Run
from regraft.runs.provenance import Session
from regraft.runs.resuming import resume_command
from regraft.runs.state import StateRecorder
from regraft.training.fit.group import Group
from regraft.training.fit.multi_process import is_sharded
from regraft.training.fit.results import earlier_checkpoint
from regraft.training.fit.shared_disk import sharing
from regraft.training.lightning import interruptible
from regraft.training.plan import TrainingJob

if TYPE_CHECKING:
    from regraft.runs.checkpoint import Checkpoint
    from regraft.training.caching.feature_plan import FeaturePlan
    from regraft.training.fit.assemble import Parts

log = logging.getLogger(__name__)

_NOT_STORED: dict[str, Any] = {"precision": None}
"""`FeaturePlan.record` of a run that stores nothing."""


@dataclass(frozen=True)
class Fitted:
    """A trained job: its parts, the data that its loaders read, and a summary of its stored features."""

    parts: "Parts"
    data: Any
    features: dict[str, Any] | None


class Laps:
    """Seconds of the parts of a run, one after the other, by name."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @property
    def total(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started

    def end(self, name: str) -> None:
        """Adds the seconds since the end of the part before."""
        passed = self.total - sum(self.seconds.values())
        self.seconds[name] = self.seconds.get(name, 0.0) + passed


def fit_once(
    job: TrainingJob,
    session: Session,
    recorder: StateRecorder,
    laps: Laps,
    begin: Callable[["Parts"], None],
    features: dict[str, Any] | None = None,
) -> Fitted:
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

        from regraft.core.fast_linear import use_fast_linear
        from regraft.training.caching.image_cache import store_pixels
        from regraft.training.callbacks.checkpoint import LastCheckpoint
        from regraft.training.callbacks.resume import continue_history
        from regraft.training.fit.assemble import assemble
        from regraft.training.hardware.compiling import compile_stages, is_compiled
        from regraft.training.hardware.depthwise import use_fast_gradients
        from regraft.training.hardware.memory_format import settle_as_before, settled_format
        from regraft.training.hardware.precision import bfloat16_note, emulation_note, is_autocast_by_stage
        from regraft.training.initial_head import is_found_in_closed_form, start_from_closed_form
        from regraft.training.preflight.data_checks import left_out

    pl.seed_everything(config["seed"], workers=True, verbose=False)
    parts = assemble(checked, checkpoint)
    provenance.require_same_data(session, config["data"], parts.data.fingerprint)
    group, again = job.group, "" if checked.refit is None else "again/"
    if group is not None:
        group.require_same(f"{again}data set", {f"{provenance.name_of_data(config['data'])}": parts.data.fingerprint})
    trainer = parts.trainer
    for callback in trainer.callbacks:
        if isinstance(callback, LastCheckpoint):
            callback.on_saved = recorder.update
    recorder.progress = lambda: (trainer.global_step, trainer.current_epoch)
    is_shown = config["trainer"]["enable_progress_bar"] and trainer.is_global_zero
    start_epoch = 0 if checkpoint is None else int(checkpoint.content["epoch"])
    earlier = features if checkpoint is None else checkpoint.features
    progress = image_progress_bar(is_shown=is_shown, nouns=parts.data.input_spec.nouns)
    make_plan = partial(_feature_plan, config, parts, checkpoint, start_epoch, progress)
    plan = make_plan(earlier) if group is None else _shared_plan(group, f"{again}plan", make_plan, earlier)
    _settle_process(trainer)
    has_begun = checkpoint is not None or checked.refit is not None
    if not has_begun:
        settle_as_before(config, parts.module, _config_before(group, run, session))
    if trainer.strategy.root_device.type == "cpu":
        use_fast_gradients(parts.module.backbone)
        use_fast_linear(parts.module.backbone, with_frozen=False)
    parts.module.backbone.trains_in_bfloat16 = is_autocast_by_stage(config["trainer"])
    memory_format, trial = settled_format(config, parts, plan, has_begun=has_begun)
    has_compiled_stages = is_compiled(config, parts.module, trial)
    if trainer.is_global_zero:
        begin(parts)
        if note := emulation_note(config, trainer.strategy.root_device):
            log.warning("%s", note)
        # The steps of a run that has had a trial take long; above a cut they gain little.
        if trial is not None and plan is None and (note := bfloat16_note(config, trainer.strategy.root_device)):
            log.info("%s", note)
        note = left_out(config, parts.data.sizes["train"], parts.data.input_spec.kind)
        if note and checked.refit is None:
            log.info("%s", note)
        if checkpoint is not None:
            log.info("Resuming from %s.", checkpoint.path)
            continue_history(trainer.loggers, run, checkpoint.content)
    if checked.refit is not None:
        trainer.loggers = []  # metrics.csv and the like show the first fit, which has been validated
    laps.end("start")
    with nullcontext() if group is None else group.in_turn(f"{again}pixels"):
        store_pixels(config, parts.data, plan, start_epoch, image_progress_bar(is_shown=is_shown, title="Images"))
    if is_found_in_closed_form(config, parts.strategy):
        record = None if checkpoint is None else checkpoint.content["hyper_parameters"]
        start_from_closed_form(config, parts.module, parts.data, trainer.strategy.root_device, record)
    stored = None if plan is None else _stored(group, f"{again}features", plan)
    data, summary = (parts.data, None) if stored is None else stored
    laps.end(f"{parts.data.input_spec.nouns} and features")
    parts.module.hparams["features"] = _NOT_STORED if stored is None or plan is None else plan.record
    parts.module.use_memory_format(memory_format)
    if has_compiled_stages:
        compile_stages(parts.module.backbone, is_sharded=is_sharded(config["trainer"]))
    if group is not None:
        group.make_process_group(trainer.strategy.root_device, config["trainer"].get("process_timeout"))
    ckpt_path = None if checkpoint is None else str(checkpoint.path)
    # Lightning does this after it has restored a checkpoint, whose float64 weights would be rounded to float32 then.
    trainer.strategy.precision_plugin.convert_module(parts.module)
    _run_lightning(trainer, parts.module, data, ckpt_path, run, is_ended_by_first=group is None)
    laps.end("training")
    return Fitted(parts, data, summary)


def _config_before(group: Group | None, run: Run, session: Session) -> dict[str, Any]:
    """Returns `provenance.config_before`, as the first process finds it: it has the session, and adds it soon."""
    if group is not None and not group.is_first:
        return dict(group.take("config before"))
    found = provenance.config_before(run, session)
    if group is not None:
        group.give("config before", found)
    return found


def _shared_plan(
    group: Group,
    name: str,
    make: "Callable[[Mapping[str, Any] | None], FeaturePlan | None]",
    earlier: Mapping[str, Any] | None,
) -> "FeaturePlan | None":
    """Returns what is stored of the run, as the first process decides: stores and their contents may differ."""
    if not group.is_first:
        return make(group.take(name))
    plan = make(earlier)
    group.give(name, _NOT_STORED if plan is None else plan.record)
    return plan


def _stored(group: Group | None, name: str, plan: "FeaturePlan") -> "tuple[Any, dict[str, Any]] | None":
    """Returns the data that reads stored features, and a summary; None if a process of the run can't store them."""
    from regraft.features.extract import ExtractionStats
    from regraft.training.caching.stored_features import store_features, store_share

    if group is None:
        return store_features(plan)
    ranks = sharing(group, f"{name}/store", plan.frozen.store.folder)
    share = Share(ranks.index(group.place.rank), len(ranks))
    computed = group.gather(f"{name}/computed", list(store_share(plan, share)))
    in_shares = ExtractionStats(0, sum(computed[rank][0] for rank in ranks), max(computed[rank][1] for rank in ranks))
    with group.in_turn(name):
        stored = store_features(plan, in_shares, is_logged=group.is_first)
    return stored if all(group.gather(f"{name}/stored", stored is not None)) else None


def _settle_process(trainer: Any) -> None:
    import torch

    if not torch.cuda.is_available():
        stop_looking_for_gpus()
    if trainer.strategy.root_device.type == "cpu" and keep_freed_memory():
        log.debug("Freed memory is kept for the next batch (glibc's mallopt; REGRAFT_MALLOC=default turns it off).")


def _feature_plan(
    config: dict[str, Any],
    parts: "Parts",
    checkpoint: "Checkpoint | None",
    start_epoch: int,
    progress: ProgressBar,
    earlier: Mapping[str, Any] | None,
) -> "FeaturePlan | None":
    """Returns what is stored of the run; Lightning reloads the loaders at each epoch if phases have different cuts."""
    from regraft.training.caching.feature_plan import feature_plan

    if checkpoint is not None:
        # Before Lightning restores it all: what is stored depends on weights. Where these are averaged, `state_dict`
        # has the mean, in which frozen ones are rounded.
        content = checkpoint.content
        parts.module.load_state_dict(content.get("current_model_state", content["state_dict"]))
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


def _run_lightning(
    trainer: Any, module: Any, data: Any, ckpt_path: str | None, run: Run, *, is_ended_by_first: bool
) -> None:
    """Fits; a signal ends this as an interrupt or an exit.

    Args:
        is_ended_by_first: whether the first process has started the others, and reports the end for all.
    """
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
        # Counted from 1, as the bar does; a signal may come after the last one.
        epoch = trainer.current_epoch + (trainer.current_epoch != trainer.max_epochs)
        log.info(
            "Stopped by %s in epoch %d, after %d steps (%s). To resume: %s",
            *(stopped, epoch, trainer.global_step, saved, resume_command(run)),
        )
        if not trainer.is_global_zero and is_ended_by_first:
            # Lightning kills the first process as soon as another one fails, though it may not have ended yet.
            raise SystemExit(0) from None
        if stopped.exit_code == 130:
            raise Interrupted from None
        raise Preempted(stopped.signum, is_reported=True) from None
    finally:
        module.teardown("fit")  # which Lightning leaves out where training failed
