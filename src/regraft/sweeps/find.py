"""Finds sweeps, and gives the command that resumes one."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from regraft.config import safe_yaml
from regraft.config.quoting import key_of, quoted
from regraft.config.recorded import require_harmless_command
from regraft.config.shipped import conf_dir
from regraft.core.errors import ConfigError
from regraft.runs.arguments import folder_meant, without_reference
from regraft.runs.folder import CHECKPOINTS
from regraft.sweeps.manifest import COMMAND, MANIFEST

log = logging.getLogger(__name__)

_MAX_DEPTH = 3
_RUNS_ONLY = ("last", "best")
REPLACED = ("hydra.mode", "hydra.sweep.dir", "hydra.run.dir", "output_dir")
"""Keys of a sweep's command that resuming it sets itself."""


@dataclass(frozen=True)
class SweepCommand:
    """The command that resumes a sweep: name, further arguments, and the directory that relative paths are based on."""

    command: str
    arguments: list[str]
    directory: Path


def is_sweep(path: Path) -> bool:
    """Whether a folder is a sweep's."""
    return (path / MANIFEST).is_file() or (path / COMMAND).is_file()


def find_sweep(reference: str, folder: str | Path) -> Path | None:
    """Returns the sweep that a reference such as the value of `run=` refers to; None if there is none.

    Args:
        reference: the sweep's folder, or a unique part of its folder's name; `last` and `best` mean runs.
    """
    path = Path(reference).expanduser()
    if is_sweep(path):
        return path.resolve()
    if reference in _RUNS_ONLY or path.exists():
        return None
    sweeps = _sweeps(Path(folder).expanduser().resolve())
    named = [sweep for sweep in sweeps if reference.strip("/") in "/".join(sweep.parts[-2:])]
    return named[0] if len(named) == 1 else None


def to_resume_sweep(arguments: Sequence[str]) -> SweepCommand | None:
    """Returns the command that resumes the sweep of `run=`, plus the other arguments; None if that isn't a sweep.

    Raises:
        ValueError: the sweep's command can't be read or holds what only a command line may, the reference matches a
            run too, or `run=` is given twice.
    """
    sweep = folder_meant(arguments, find_sweep, "a sweep")
    if sweep is None:
        return None
    given = without_reference(arguments)
    command, flags = _command_of(sweep)
    if not command.directory.is_dir():
        current = Path.cwd()
        gone = "%s, where the sweep was started, is gone; paths are relative to %s now."
        log.warning(gone, command.directory, current)
        command = replace(command, directory=current)
    keys = {key for argument in given if (key := key_of(argument)) is not None}
    kept = [argument for argument in command.arguments if key_of(argument) not in {*keys, *REPLACED}]
    if "output_dir" in map(key_of, command.arguments) and "output_dir" not in keys:
        # The sweep may have been moved, and a stranger's command may name any folder.
        above = sweep.parent.parent if sweep.name.startswith("sweep-") else sweep.parent
        given = [f"output_dir={quoted(above)}", *given]
    require_harmless_command(kept, given, sweep / COMMAND)
    return replace(command, arguments=["--multirun", *flags, *kept, *given, f"hydra.sweep.dir={quoted(sweep)}"])


def _command_of(sweep: Path) -> tuple[SweepCommand, list[str]]:
    """Returns the command in a sweep's folder with its overrides, and its flags."""
    try:
        hydra = safe_yaml.load(sweep / COMMAND)["hydra"]
        overrides = [*hydra["overrides"]["hydra"], *hydra["overrides"]["task"]]
        sources = hydra["runtime"]["config_sources"]
        folders = [source["path"] for source in sources if source["provider"] == "command-line"]
        flags = [word for folder in folders for word in ("--config-dir", folder)]
        command = hydra["job"]["config_name"]
        if not (conf_dir() / f"{command}.yaml").is_file():
            raise ValueError(f"there is no config {command!r}")
        directory = Path(hydra["runtime"]["cwd"])
        return SweepCommand(command, [*map(str, overrides)], directory), flags
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            "run",
            f"{sweep / COMMAND}, which holds the sweep's command, is damaged or missing. Give the sweep's "
            f"command again, with hydra.sweep.dir={sweep}.",
        ) from error


def _sweeps(folder: Path, depth: int = 0) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            inner = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for path in inner:
        if is_sweep(path):
            yield path
        elif depth < _MAX_DEPTH and path.name != CHECKPOINTS and not path.name.startswith("."):
            yield from _sweeps(path, depth + 1)
