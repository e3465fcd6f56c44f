"""Finds the folders of searches by `regraft auto`: the best run in one, and its command. Imports no torch."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regraft.config.quoting import key_of, quoted
from regraft.config.recorded import require_harmless_command
from regraft.core.atomic import read_json
from regraft.core.errors import ConfigError, MissingFileError
from regraft.runs.folder import Run

RECORD = "auto.json"
_RUNS_ONLY = ("last", "best")
_LIMITS = ("time", "trials")
_STORE = "features.dir"
_MAY_CHANGE = (*_LIMITS, "trust", _STORE)


@dataclass(frozen=True)
class SearchCommand:
    """The command of a search; relative paths in it are based on `directory`."""

    overrides: list[str]
    config_dir: str | None
    directory: str

    def with_overrides(self, given: Sequence[str]) -> "SearchCommand":
        """Returns the command with further overrides, which replace those of the same keys, and one limit the other."""
        keys = set(map(key_of, given))
        keys |= set(_LIMITS) if keys.intersection(_LIMITS) else set()
        kept = [each for each in self.overrides if key_of(each) not in keys]
        return SearchCommand([*kept, *given], self.config_dir, self.directory)


def is_search(path: Path) -> bool:
    """Whether a folder is a search's."""
    return (path / RECORD).is_file()


def find_search(reference: str, folder: str | Path) -> Path | None:
    """Returns the search that a reference such as the value of `run=` refers to; None if there is none.

    Args:
        reference: the search's folder, or a part of the name of a single one; `last` and `best` mean runs.
        folder: of all runs.
    """
    path = Path(reference).expanduser()
    if reference in ("", *_RUNS_ONLY):
        return None
    if path.exists():
        return path.resolve() if is_search(path) else None
    wanted, root = reference.strip("/"), Path(folder).expanduser().resolve()
    named = [each.parent for each in root.glob(f"*/{RECORD}") if wanted in each.parent.name]
    return named[0] if len(named) == 1 else None


def winner_of(folder: Path) -> Run:
    """Returns the best run of a search so far; raises MissingFileError if it has none."""
    name = read_json(folder / RECORD).get("winner")
    if not isinstance(name, str) or not (folder / name).is_dir():
        raise MissingFileError("run", f"{folder} has no run yet. To continue the search: {resume_search(folder)}")
    return Run(folder / name)


def resume_search(folder: Path) -> str:
    """Returns the command that continues a search, with the folder of its store, which only a command line may say."""
    command = read_json(folder / RECORD).get("command")
    overrides = command.get("overrides") if isinstance(command, dict) else None
    kept = [each for each in map(str, overrides if isinstance(overrides, list) else ()) if key_of(each) == _STORE]
    return shlex.join(["regraft", "resume", f"run={folder}", *kept])


def command_of_search(folder: Path, given: Sequence[str] = (), config_dir: str | None = None) -> SearchCommand:
    """Returns the command that started or continued a search last, in the folder where it is now.

    Args:
        given: overrides that are typed now, which replace the command's.
        config_dir: the folder of the user's own configs now; None for the command's.

    Raises:
        ConfigError: the record is damaged, or holds what only a command line may, or `given` would change the search.
    """
    command: Any = read_json(folder / RECORD).get("command")
    try:
        found = SearchCommand([*map(str, command["overrides"])], command["config_dir"], str(command["directory"]))
    except (KeyError, TypeError) as error:
        raise ConfigError("run", f"{folder / RECORD} is damaged. Give the command of the search again.") from error
    changes = [each for each in given if key_of(each) not in _MAY_CHANGE and each not in found.overrides]
    if changes:
        reason = "a search is continued with its own options"
        fix = "Leave it out; for another search, give all options to regraft auto."
        raise ConfigError(key_of(changes[0]) or "resume", reason, got=changes[0], allowed=_MAY_CHANGE, fix=fix)
    if config_dir is not None:
        found = replace(found, config_dir=str(Path(config_dir).resolve()))
    here = [*given, f"output_dir={quoted(folder.parent)}"]
    completed = found.with_overrides(here)
    require_harmless_command(completed.overrides[: -len(here)], given, folder / RECORD)
    return completed
