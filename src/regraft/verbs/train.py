"""`regraft train`: one run, from a composed config to where it is trained.

How it is trained and tested there belongs in `fitting`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from regraft.config import compose
from regraft.config.check import reference
from regraft.config.errors import FaultsError
from regraft.config.trust import require_known_targets
from regraft.core.startup import quick_imports
from regraft.runs import provenance
from regraft.runs.arguments import in_its_folder
from regraft.runs.folder import Run, run_of
from regraft.runs.provenance import Session
from regraft.runs.resume import is_done, newest_record, what_to_reset
from regraft.runs.resuming import continued, reset_parts
from regraft.runs.state import require_not_running
from regraft.verbs import devices
from regraft.verbs.fitting import checkpoint_of, fit
from regraft.verbs.quiet import quiet_lightning

if TYPE_CHECKING:
    from regraft.runs.checkpoint import Checkpoint

Reference = Callable[[], dict[str, Any]]


def train_once(overrides: Sequence[str], config_dir: str | None) -> Run:
    """Composes a config as the command line does and trains it; see `regraft.train`."""
    completed = in_its_folder(list(overrides))
    try:
        composed = compose.compose_once("train", completed, config_dir)
    except ValueError:
        from regraft.verbs.check import require_sound_command

        require_sound_command([*overrides, *([] if config_dir is None else ["--config-dir", config_dir])])
        raise
    with compose.as_current(composed):
        run = Run(Path(composed.hydra.run.dir).resolve())
        config = compose.plain(composed, overrides)
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
    config = compose.plain(composed, overrides)
    if hydra.mode == RunMode.MULTIRUN and run.can_go_on and config["ckpt_path"] is None:
        config["ckpt_path"] = str(run.path)
    # By its value: a sweep's next job has a config of its own.
    return _start(config, overrides, run, partial(reference, hydra))


def _start(config: dict[str, Any], overrides: Sequence[str], run: Run, choices: Reference) -> Run:
    session = provenance.new_session(overrides)
    config, checkpoint = settle(config, overrides, run)
    if checkpoint is not None and run_of(config["ckpt_path"]) == run and is_done(config, run):
        return run
    launch(config, run, session, overrides, checkpoint, choices if checkpoint is None else None)
    return run


def settle(config: dict[str, Any], overrides: Sequence[str], run: Run) -> tuple[dict[str, Any], "Checkpoint | None"]:
    """Returns the config that a run is really trained with, and the checkpoint that it goes on from.

    Raises:
        ValueError: the run's folder is another run's, or the config asks of a resumed run what it can't.
    """
    is_in_place, checkpoint = False, None
    if config["ckpt_path"] is not None:
        checkpoint = checkpoint_of(config)
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
    return config, checkpoint


def launch(
    config: dict[str, Any],
    run: Run,
    session: Session,
    overrides: Sequence[str],
    checkpoint: "Checkpoint | None" = None,
    choices: Reference | None = None,
) -> None:
    """Trains one run in this process, or in a group of its own if it takes several; see `fit`.

    Args:
        config: the resolved config, plain types.
        run: where everything is kept.
        session: where it comes from; see `provenance.new_session`.
        overrides: what was asked for.
        checkpoint: see `settle`.
        choices: gives the config of the same choices without any other override, for what is wrong with this one.

    Raises:
        FaultsError: all that is wrong with the config; nothing has been written then.
    """
    with quick_imports():
        import pytorch_lightning as pl

        from regraft import build

    quiet_lightning()
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    checked = build.require_sound(config, run.path, checkpoint, choices)
    keep_overrides(run, overrides)
    if devices.needs_processes(config["trainer"]):
        if checkpoint is not None:
            # The group reads it itself; here it would fill memory as long as this process waits.
            checkpoint.content.clear()
        devices.launch(config, run, session)
    else:
        fit(config, run, session, checked, checkpoint)


def keep_overrides(run: Run, overrides: Sequence[str]) -> None:
    """Writes what was asked for into a run's folder, if it was asked from Python, where Hydra makes no folder."""
    if not (run.path / ".hydra").exists():
        (run.path / ".hydra").mkdir(parents=True)
        OmegaConf.save(OmegaConf.create(list(overrides)), run.path / ".hydra" / "overrides.yaml")
