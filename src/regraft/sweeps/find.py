"""A sweep as a handle: how it is found, and the command that goes on with it."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from regraft.config.quoting import key_of, quoted, value_of
from regraft.core.errors import ConfigError
from regraft.runs.arguments import handle_in, output_dir, without_handle
from regraft.runs.find import all_runs, name_of
from regraft.runs.folder import CHECKPOINTS
from regraft.sweeps.manifest import COMMAND, MANIFEST

log = logging.getLogger(__name__)

_MAX_DEPTH = 3
_RUNS_ONLY = ("last", "best")
_VERBS = ("train", "probe", "eval")
"""Each composes the config of its name."""
_OF_ONE_COMMAND = ("hydra.mode", "hydra.sweep.dir", "hydra.run.dir")
"""Hydra's own keys that another command sets for itself."""


@dataclass(frozen=True)
class SweepCommand:
    """What goes on with a sweep.

    Attributes:
        verb: of the command line.
        arguments: of that.
        directory: where the sweep was started, which relative paths in its command are relative to; if that folder is
            gone, where this process is.
    """

    verb: str
    arguments: list[str]
    directory: Path


def is_sweep(path: Path) -> bool:
    """Whether a folder is a sweep's."""
    return (path / MANIFEST).is_file() or (path / COMMAND).is_file()


def find_sweep(handle: str, folder: str | Path) -> Path | None:
    """Returns the sweep that `run=` means: its folder, or a part of its folder's name that no other one has.

    Args:
        handle: what was given; that of a run, `last` or `best`, finds nothing here.
        folder: where runs are looked for.
    """
    path = Path(handle).expanduser()
    if is_sweep(path):
        return path.resolve()
    if handle in _RUNS_ONLY or path.exists():
        return None
    sweeps = _sweeps(Path(folder).expanduser().resolve())
    named = [sweep for sweep in sweeps if handle.strip("/") in "/".join(sweep.parts[-2:])]
    return named[0] if len(named) == 1 else None


def to_resume_sweep(arguments: Sequence[str]) -> SweepCommand | None:
    """Returns the command that goes on with a sweep; None if `run=` names none.

    What else the arguments say takes the place of what the sweep's own command said of the same key.

    Raises:
        ValueError: what the sweep was made from can't be read, a run may be meant as well, or `run=` is given twice.
    """
    if value_of("run", arguments) is None:
        return None
    handle = handle_in(arguments)
    sweep = find_sweep(handle, output_dir(arguments))
    if sweep is None:
        return None
    _require_no_run(handle, sweep, output_dir(arguments))
    given = without_handle(arguments)
    command = _command_of(sweep)
    if not command.directory.is_dir():
        here = Path.cwd()
        log.warning(
            "%s, where the sweep was started, is gone; relative paths are taken from %s.", command.directory, here
        )
        command = replace(command, directory=here)
    keys = {key for argument in given if (key := key_of(argument)) is not None}
    kept = [argument for argument in command.arguments if key_of(argument) not in {*keys, *_OF_ONE_COMMAND}]
    return replace(command, arguments=["--multirun", *kept, *given, f"hydra.sweep.dir={quoted(sweep)}"])


def _require_no_run(handle: str, sweep: Path, folder: str) -> None:
    """Checks that a handle that is a part of a sweep's name isn't a part of other runs' names too."""
    if is_sweep(Path(handle).expanduser()):
        return
    names = [name_of(run, folder) for run in all_runs(folder) if not run.path.is_relative_to(sweep)]
    meant = [name for name in names if handle.strip("/") in name]
    if meant:
        raise ConfigError(
            "run",
            f"{handle!r} is a part of the names of a sweep, {sweep}, and of runs, such as {meant[0]}. Give more "
            f"of one of them.",
        )


def _command_of(sweep: Path) -> SweepCommand:
    """Returns the command that a sweep was made by: the config folders that it named, and its overrides."""
    try:
        hydra = yaml.safe_load((sweep / COMMAND).read_text(encoding="utf-8"))["hydra"]
        overrides = [*hydra["overrides"]["hydra"], *hydra["overrides"]["task"]]
        sources = hydra["runtime"]["config_sources"]
        folders = [source["path"] for source in sources if source["provider"] == "command-line"]
        flags = [word for folder in folders for word in ("--config-dir", folder)]
        verb = hydra["job"]["config_name"]
        if verb not in _VERBS:
            raise ValueError(f"got {verb!r}; allowed: {', '.join(_VERBS)}.")
        directory = Path(hydra["runtime"]["cwd"])
        return SweepCommand(verb, [*flags, *map(str, overrides)], directory)
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(
            "run",
            f"{sweep / COMMAND} is damaged or gone, which says what the sweep was made from. Give the sweep's "
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
