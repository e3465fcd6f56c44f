"""The user's cache folder, for everything that can be computed again. Imports nothing heavy."""

import os
from pathlib import Path

from regraft.core.errors import ConfigError


def cache_dir(name: str) -> Path:
    """Returns the folder `name` in $REGRAFT_CACHE, or else in regraft/ in $XDG_CACHE_HOME or ~/.cache.

    Raises:
        ConfigError: there is no home folder, as for a user in a container whom the system doesn't know.
    """
    given = os.environ.get("REGRAFT_CACHE")
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = os.path.expanduser(given or os.path.join(caches, "regraft"))  # noqa: PTH111, PTH118 (leaves ~ without a home)
    if folder.startswith("~"):
        reason = "there is no home folder for it: HOME isn't set, and the system doesn't know this user"
        raise ConfigError("REGRAFT_CACHE", reason, fix="Set REGRAFT_CACHE=FOLDER or HOME=FOLDER in the environment.")
    return Path(folder, name)
