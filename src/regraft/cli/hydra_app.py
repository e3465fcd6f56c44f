"""The Hydra app of a command."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from regraft.cli.command import Command
from regraft.config import sources
from regraft.config.compose import register_resolvers
from regraft.config.hydra_internals import run_in_its_folder
from regraft.config.hydra_messages import MISTAKES
from regraft.config.meant import keys_meant
from regraft.config.quoting import value_of
from regraft.config.shipped import conf_dir
from regraft.config.top_level import chdir_error
from regraft.config.trust import look_beside, named_in
from regraft.core.errors import ConfigError, ConfigErrors
from regraft.core.startup import Preempted
from regraft.runs import state as run_state
from regraft.runs.folder import Run, is_run

_TRACEBACK = "traceback.txt"
_FLAGS = (
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m", "--info", "-i"),
    *("--shell-completion", "-sc", "--experimental-rerun"),
)
_FLAGS_WITH_VALUE = (
    *("--cfg", "-c", "--config-dir", "-cd", "--config-name", "-cn"),
    *("--config-path", "-cp", "--package", "-p"),
)


def run_app(command: Command, arguments: list[str], job: Callable[[DictConfig], Any] | None = None) -> None:
    """Composes the config of a command and calls its job, or `job`, with it; in a sweep, for each config.

    The traceback of a failed job is kept in its folder. The error of a single job is raised unchanged.
    """
    job = job or command.job
    errors: list[Exception] = []
    refused: list[Run] = []

    def held(config: DictConfig) -> Any:
        from regraft.sweeps.job import run_sweep_job

        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return run_sweep_job(config, lambda: tried(config))
        try:
            return tried(config)
        except Exception as error:
            errors.append(error)
            return error

    def tried(config: DictConfig) -> Any:
        run = Run(Path(HydraConfig.get().runtime.output_dir))
        try:
            assert job is not None, "a command with an app has a job"
            if error := chdir_error(HydraConfig.get()):
                raise ConfigErrors([error])
            with keeping_traceback(run, is_job=HydraConfig.get().mode == RunMode.MULTIRUN):
                return job(config)
        except (ValueError, OSError):
            if HydraConfig.get().mode == RunMode.RUN:
                refused.append(run)
            raise

    require_known_flags(arguments)
    folder = value_of("hydra.run.dir", arguments)
    # Hydra writes into it before anything is checked; a training is locked and checked first.
    if folder is not None and command.name != "train" and is_run(Path(folder)):
        raise ConfigError("hydra.run.dir", "it is a run's folder", got=folder, fix="Name another one.")
    look_beside(named_in(arguments))
    register_resolvers()
    sys.argv = [sys.argv[0], *_flags_first(arguments)]
    with sources.checked(arguments):
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=command.config_name)(held)()
    for run in refused:
        run.remove_if_unused([run.path.parent])
    if errors:
        raise errors[0]


def require_known_flags(arguments: Sequence[str]) -> None:
    """Raises ConfigError for a flag such as `--lr 0.1`, with the key to set instead."""
    for index, argument in enumerate(arguments):
        flag, is_pair, value = argument.partition("=")
        if not flag.startswith("-") or flag in (*_FLAGS, *_FLAGS_WITH_VALUE):
            continue
        following = arguments[index + 1] if index + 1 < len(arguments) else ""
        if not is_pair and not following.startswith("-") and "=" not in following:
            value = following
        meant = keys_meant(flag.strip("-"))
        written = [f"{key}={value or 'VALUE'}" if "=" not in key else key for key in meant]
        fix = f"Write {' or '.join(written)}." if written else "`regraft train --help` lists the keys."
        raise ConfigError(flag, "options are written KEY=VALUE, without dashes", fix=fix)


def bare_words(arguments: Sequence[str]) -> list[str]:
    """Returns the words that are neither flags nor their values nor overrides."""
    after_flags = {index + 1 for index, argument in enumerate(arguments) if argument in _FLAGS_WITH_VALUE}
    words = [argument for index, argument in enumerate(arguments) if index not in after_flags]
    return [word for word in words if "=" not in word and not word.startswith(("-", "~"))]


def run_composed(node: DictConfig, arguments: Sequence[str], job: Callable[[], Any]) -> None:
    """Runs a job as Hydra's run mode does, in a folder with `.hydra/` and a log; what `arguments` name is trusted."""
    errors: list[Exception] = []

    def held(_config: DictConfig) -> None:
        try:
            with keeping_traceback(Run(Path(HydraConfig.get().runtime.output_dir))):
                job()
        except Exception as error:
            errors.append(error)

    with sources.checked(arguments):
        run_in_its_folder(node, held)
    if errors:
        raise errors[0]


@contextmanager
def keeping_traceback(run: Run, *, is_job: bool = False) -> Iterator[None]:
    """Writes the traceback of an error inside the block into the run's folder.

    A mistake of the user's that is found before this process has begun the run leaves nothing there.

    Args:
        is_job: whether the run is a job of a sweep, which keeps the traceback of a mistake, too.
    """
    try:
        yield
    except Preempted:
        raise
    except (Exception, SystemExit) as error:
        if is_job or not isinstance(error, MISTAKES) or _has_begun(run):
            with suppress(OSError):  # the first error counts
                run.path.mkdir(parents=True, exist_ok=True)
                (run.path / _TRACEBACK).write_text(traceback.format_exc(), encoding="utf-8")
        raise
    else:
        (run.path / _TRACEBACK).unlink(missing_ok=True)  # of an earlier try in the same folder


def _has_begun(run: Run) -> bool:
    """Whether this process has begun a run."""
    return (run.path / "config.yaml").exists() and run_state.read(run).pid == os.getpid()


def _flags_first(arguments: list[str]) -> list[str]:
    """Returns the arguments with flags before overrides, as Hydra's parser needs all overrides together."""
    flags: list[str] = []
    overrides: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        flags.append(argument)
        if argument in _FLAGS_WITH_VALUE:
            flags += [value for value in [next(rest, None)] if value is not None]
    return [*flags, *overrides]
