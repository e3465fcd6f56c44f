"""The user's cache folder, for everything that can be computed again. Imports nothing heavy."""

import os
from pathlib import Path


def cache_dir(name: str) -> Path:
    """Returns the folder `name` in $REGRAFT_CACHE, or else in regraft/ in $XDG_CACHE_HOME or ~/.cache."""
    given = os.environ.get("REGRAFT_CACHE")
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return (Path(given) if given else Path(caches, "regraft")).expanduser() / name
