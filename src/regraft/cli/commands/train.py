"""Fine-tune a backbone: compose the config, train and test; one run folder keeps everything."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from regraft.cli.command import Command
from regraft.cli.hydra_app import run_app
from regraft.config import compose
from regraft.config.check import reference
from regraft.config.errors import FaultsError
from regraft.report.run.finish import RunDisplay
from regraft.runs import provenance
from regraft.runs.arguments import in_its_folder
from regraft.runs.folder import Run, run_of
from regraft.runs.resuming import is_done
from regraft.training.launch import Reference, launch, settle


def run(arguments: list[str]) -> None:
    """Trains, unless something is wrong with the command."""
    from regraft.cli.commands.check import require_sound_command

    require_sound_command(arguments)
    run_app(COMMAND, in_its_folder(arguments))


def train_once(overrides: Sequence[str], config_dir: str | None) -> Run:
    """Composes a config as the command line does and trains it; see `regraft.train`."""
    completed = in_its_folder(list(overrides))
    try:
        composed = compose.compose_once("train", completed, config_dir)
    except ValueError:
        from regraft.cli.commands.check import require_sound_command

        require_sound_command([*overrides, *([] if config_dir is None else ["--config-dir", config_dir])])
        raise
    with compose.as_current(composed):
        run = Run(Path(composed.hydra.run.dir).resolve())
        config = compose.plain(composed, overrides)
    try:
        return _start(config, overrides, run, partial(reference, composed.hydra))
    except FaultsError:
        run.remove_if_unused()
        raise


def train_job(composed: DictConfig) -> Run:
    """Trains the config that Hydra composed, in the folder that Hydra made; a sweep's job goes on where it stood."""
    hydra = HydraConfig.get()
    run = Run(Path(hydra.runtime.output_dir).resolve())
    overrides = list(hydra.overrides.task)
    config = compose.plain(composed, overrides)
    if hydra.mode == RunMode.MULTIRUN and run.can_resume and config["ckpt_path"] is None:
        config["ckpt_path"] = str(run.path)
    # By its value: a sweep's next job has a config of its own.
    return _start(config, overrides, run, partial(reference, hydra))


def _start(config: dict[str, Any], overrides: Sequence[str], run: Run, choices: Reference) -> Run:
    session = provenance.new_session(overrides)
    config, checkpoint = settle(config, overrides, run)
    if checkpoint is not None and run_of(config["ckpt_path"]) == run and is_done(config, run):
        return run
    launch(config, run, session, overrides, RunDisplay(), checkpoint, choices if checkpoint is None else None)
    return run


COMMAND = Command(
    name="train",
    run=run,
    usage="regraft train [key=value | group=choice]... [-m] [--config-dir FOLDER]",
    config_name="train",
    job=train_job,
)
