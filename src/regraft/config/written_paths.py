"""Where files are written: the command line alone says so, never a config file, a checkpoint or a run's folder."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from regraft.config.trust import values
from regraft.core.errors import ConfigError, ConfigErrors

_PLACES = ("output_dir", "output", "features.dir", "sweep.storage")
_NAMES = (
    "dirpath",
    "save_dir",
    "root_dir",
    "default_root_dir",
    "log_dir",
    "sub_dir",
    "tracking_uri",
    "artifact_location",
)
_SECTIONS = ("callbacks", "logger", "trainer")
_HOLDERS = ("features", "sweep")
_NO_PATHS = ("_target_", "monitor", "project", "entity", "group", "notes")


def require_no_path(place: str, value: Any, path: str) -> None:
    """Raises ConfigError if a key of a config file says where to write.

    Args:
        place: the dotted key.
        path: of the file.
    """
    # An interpolation for a whole section could name another place.
    is_hidden = isinstance(value, str) and "${" in value and place in _HOLDERS
    if value is not None and (place in _PLACES or is_hidden or place.rpartition(".")[2] in _NAMES):
        reason = "where files are written is chosen on the command line only"
        raise ConfigError(f"{path}: {place}", reason, fix=f"Leave it out, and give {place}=... there.")


def require_typed_paths(config: Mapping[str, Any], keys: Collection[str]) -> None:
    """Raises ConfigErrors if callbacks, loggers or the trainer are given paths that the command line doesn't have.

    Args:
        config: resolved.
        keys: of the command line. Paths in the folder of all runs may also be given elsewhere.
    """
    # logger=NAME chooses a file, which may be somebody else's.
    typed = set(keys) - set(_SECTIONS)
    folder = os.path.realpath(str(config["output_dir"]))
    errors = []
    for section in _SECTIONS:
        for place, value in values(config.get(section) or {}, section):
            if leads_out(place, value, folder) and not any(f"{place}.".startswith(f"{key}.") for key in typed):
                fix = f"If you want it, add ++{place}=... to the command."
                errors.append(
                    ConfigError(place, "a path to write to is given on the command line only", got=value, fix=fix)
                )
    if errors:
        raise ConfigErrors(errors)


def leads_out(place: str, value: Any, folder: str) -> bool:
    """Whether a value of callbacks, loggers or the trainer is a path outside of a folder, or may become one."""
    section, _, key = place.partition(".")
    if section not in _SECTIONS or not isinstance(value, str) or key.rpartition(".")[2] in _NO_PATHS:
        return False
    return "${" in value or not _is_inside(value, os.path.realpath(folder))


def _is_inside(value: str, folder: str) -> bool:
    """Whether a text isn't a path, or is one in a folder."""
    if not {"/", os.sep}.intersection(value) and ".." not in Path(value).parts:
        return True
    if value.startswith(("http://", "https://")):
        return True
    path = value.removeprefix("sqlite:///").removeprefix("file://")
    return Path(os.path.realpath(path)).is_relative_to(folder)
