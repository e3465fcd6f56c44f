"""The plan of one run: its resolved config, checked, with what has been built for it.

`regraft check` reports it, `regraft train` trains it.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from regraft.config.fitting import was_fitted_in_closed_form
from regraft.config.trust import require_known_targets
from regraft.config.written_paths import require_typed_paths
from regraft.core.errors import ConfigError, ConfigErrors
from regraft.core.startup import quick_imports
from regraft.runs.folder import STATE, Run, find_checkpoint, run_of
from regraft.runs.resuming import continued, is_done, newest_record, pending_reset, require_length, reset_parts
from regraft.runs.state import locked, require_not_running
from regraft.training.fit.group import Group
from regraft.training.fit.multi_process import num_processes
from regraft.training.lightning import quiet_lightning

if TYPE_CHECKING:
    from regraft.models.from_config import LastBackbone
    from regraft.runs.checkpoint import Checkpoint
    from regraft.training.preflight.check import Preflight

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingJob:
    """What a run trains.

    Attributes:
        checked: what checking the config has built; None if `is_done`, and for a run that another process has checked.
        is_done: whether the run has finished and nothing is left to train.
        is_locked: whether this process, or the one that started it, holds the lock of the run's folder.
        replan: plans the job again; None if it was planned from what never changes.
        planned_for: the run's files as they were when the job was planned, see `_files_of`.
        group: the processes that torchrun or srun has started for it; None if there are none.
    """

    config: dict[str, Any]
    run: Run
    checkpoint: "Checkpoint | None" = None
    checked: "Preflight | None" = None
    is_done: bool = False
    is_locked: bool = False
    replan: "Callable[[], TrainingJob] | None" = None
    planned_for: tuple[int | None, ...] = ()
    group: Group | None = None

    @property
    def errors(self) -> list[ConfigError]:
        """What is wrong with the config."""
        return [] if self.checked is None else self.checked.errors

    def data_errors(self) -> list[ConfigError]:
        """Returns what is wrong with the data, unless that must be downloaded first; no image is decoded."""
        from regraft.training.preflight.data_checks import data_errors

        return [] if self.checked is None else data_errors(self.checked)

    def require_sound(self) -> None:
        """Raises the errors of the config and of its data, if any."""
        errors = [*self.errors, *self.data_errors()]
        if errors:
            raise ConfigErrors(errors)


def plan(
    config: dict[str, Any],
    run: Run,
    keys: Sequence[str],
    *,
    reference: Callable[[], dict[str, Any]] | None = None,
    blocked: Collection[str] = (),
    backbones: "LastBackbone | None" = None,
) -> TrainingJob:
    """Returns the job of a composed config; what is wrong with it is in its `errors`.

    Raises:
        ConfigError: the folder is another run's, or the command changes what a resumed run keeps.
    """
    replan, planned_for = partial(plan, config, run, keys, reference=reference), _files_of(run)
    config, checkpoint = resolve_resume(config, keys, run)
    if checkpoint is not None and run_of(checkpoint.path) == run and is_done(config, run):
        return TrainingJob(config, run, checkpoint, is_done=True)
    if checkpoint is None:
        config = _with_source_head(config, keys)
        _warn_of_unused_fraction(config, keys)
    else:
        from regraft.training.fit.refit import require_same_length

        require_length(config, checkpoint.content)
        require_same_length(config, checkpoint)
    reference = reference if checkpoint is None else None
    job = checked_job(config, run, checkpoint, reference, blocked=blocked, backbones=backbones)
    return replace(job, replan=replan, planned_for=planned_for)


@contextmanager
def claimed(job: TrainingJob) -> Iterator[TrainingJob]:
    """Holds the lock of a job's folder inside the block, and yields the job as it is with the lock.

    It is planned again if another process has used the folder since it was planned. The folder is made here; if the
    block raises an error before the run has begun, it is removed again.
    """
    if job.is_locked or job.is_done:
        yield job
        return
    folder = job.run.path
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        try:
            yield settled(job)
        except (ValueError, OSError):
            if folder in made:
                job.run.remove_if_unused(made[1:])
            raise


def settled(job: TrainingJob) -> TrainingJob:
    """Returns a job whose folder is locked, planned again if another process has used the folder since."""
    if job.replan is not None and _files_of(job.run) != job.planned_for:
        job = job.replan()
        job.require_sound()
    elif job.config["ckpt_path"] is None:
        _require_unused(job.run)
    return replace(job, is_locked=True)


def _require_unused(run: Run) -> None:
    if run.last_ckpt.exists() or run.has_results:
        raise ConfigError(
            None, f"{run.path} already holds a run", fix="Resume it with ckpt_path=..., or name another folder."
        )


def _files_of(run: Run) -> tuple[int | None, ...]:
    """Returns when the files that decide about a run's resume were written, Unix time in ns; None if they aren't."""
    paths = (run.path / STATE, run.path / "config.yaml", run.path / "results.json", run.last_ckpt)
    return tuple(path.stat().st_mtime_ns if path.is_file() else None for path in paths)


def _warn_of_unused_fraction(config: dict[str, Any], keys: Sequence[str]) -> None:
    """Warns of a validation fraction on the command line that holds no images out."""
    fraction = config["data"].get("val_fraction")
    if "data.val_fraction" in keys and fraction and config["data"].get("refit") and was_fitted_in_closed_form(config):
        log.warning(
            "data.val_fraction=%s holds nothing out, because the head is fitted on all samples and its val/ figures "
            "are cross-validated; data.refit=false holds them out.",
            fraction,
        )


def _with_source_head(config: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Returns a config whose head is that of the run in `head_from`, unless the command chooses one."""
    if not isinstance(config.get("head_from"), str) or any(key.partition(".")[0] == "head" for key in keys):
        return config
    with quick_imports():
        from regraft.models.from_config import head_source

    try:
        source = head_source(config)
        assert source is not None, "head_from is given"
    except (OSError, ValueError):
        return config  # which is reported where the run is checked
    return config | {"head": source.config["head"]}


def checked_job(
    config: dict[str, Any],
    run: Run,
    checkpoint: "Checkpoint | None" = None,
    reference: Callable[[], dict[str, Any]] | None = None,
    *,
    refit: dict[str, Any] | None = None,
    blocked: Collection[str] = (),
    backbones: "LastBackbone | None" = None,
) -> TrainingJob:
    """Returns the job of a resolved config.

    Args:
        checkpoint: what it resumes from; without it, that of the config's `ckpt_path` is read, unless it is a refit.
        refit: what the first fit of the run has chosen, for the job of the second one.
    """
    with quick_imports():
        import pytorch_lightning as pl

        from regraft.training.fit.refit import StopAfter, config_of_fit, refit_errors, refit_of
        from regraft.training.preflight.check import preflight
        from regraft.training.preflight.run_length import open_keys

    quiet_lightning()
    if checkpoint is None and config["ckpt_path"] is not None and refit is None:
        checkpoint = checkpoint_of(config)
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    refit = refit_of(checkpoint) if refit is None else refit
    check = partial(preflight, checkpoint=checkpoint, reference=reference, blocked=blocked, backbones=backbones)
    if _may_fit_twice(config):
        checked = check(config_of_fit(config, refit), run)
        checked.errors += refit_errors(config)
        checked.refit = refit
        if refit is not None and checked.trainer is not None:
            checked.trainer.callbacks.insert(1, StopAfter(refit["num_epochs"]))
    else:
        checked = check(config, run)
    if not checked.is_provisional:
        # The run's own config has the numbers, so that it is resumed with them.
        for section, key in open_keys(config):
            config = config | {section: config[section] | {key: checked.config[section][key]}}
    if config["data"].get("refit"):
        checked.recorded = config
    return TrainingJob(config, run, checkpoint, checked)


def _may_fit_twice(config: dict[str, Any]) -> bool:
    from regraft.training.fit.refit import fits_twice

    try:
        return fits_twice(config)
    except ValueError:
        return False  # which is reported where the optimizer is built


def resolve_resume(config: dict[str, Any], keys: Sequence[str], run: Run) -> tuple[dict[str, Any], "Checkpoint | None"]:
    """Returns the config that a run is trained with, and the checkpoint that it resumes from."""
    is_in_place, checkpoint = False, None
    if config["ckpt_path"] is not None:
        checkpoint = checkpoint_of(config)
        is_in_place = run_of(checkpoint.path) == run
        record = checkpoint.config
        if is_in_place:
            record = newest_record(run, checkpoint.config)
            require_known_targets(record, config["trust"], str(run.path / "config.yaml"))
        config = continued(record, config, keys)
        config = _in_same_batches(config, checkpoint)
        config["ckpt_path"] = str(checkpoint.path)
        require_typed_paths(config, keys)
        if is_in_place:
            config["resume"] = pending_reset(run, config["resume"], checkpoint.config)
            require_not_running(run)
    elif reset_parts(config):
        raise ConfigError("resume.reset", "a new run has no state to reset. Leave it out, or resume a run: run=...")
    if not is_in_place:
        _require_unused(run)
        require_not_running(run)
    return config, checkpoint


def _in_same_batches(config: dict[str, Any], checkpoint: "Checkpoint") -> dict[str, Any]:
    """Returns a resumed run's config with a batch size with which its processes train on the same batches as before."""
    size, before = checkpoint.config["data"].get("batch_size"), checkpoint.num_processes
    number, own = num_processes(config["trainer"]), config["data"].get("batch_size")
    if not (isinstance(size, int) and isinstance(own, int)) or size * before == number * own:
        return config
    if size * before % number:
        possible = [str(each) for each in range(1, size * before + 1) if size * before % each == 0]
        reason = f"the run's batches of {size * before} samples can't be divided equally among {number} processes"
        raise ConfigError("trainer.devices", reason, fix=f"Use as many processes as one of {', '.join(possible)}.")
    size = size * before // number
    log.info("data.batch_size=%d (was %d): %d processes train on the same batches as before.", size, own, number)
    return config | {"data": config["data"] | {"batch_size": size}}


def checkpoint_of(config: dict[str, Any]) -> "Checkpoint":
    """Returns what a run resumes from; raises ConfigError if that isn't a checkpoint of Regraft."""
    with quick_imports():
        from regraft.runs.checkpoint import read

    return read(find_checkpoint(config["ckpt_path"], prefer="last"), config["trust"])
