"""Where what can be computed again is kept: the user's own cache folder. Nothing heavy: the command line reads this."""

import os
from pathlib import Path


def cache_dir(name: str) -> Path:
    """Returns the folder of one kind: below $REGRAFT_CACHE, or below regraft in $XDG_CACHE_HOME or in ~/.cache."""
    given = os.environ.get("REGRAFT_CACHE")
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return (Path(given) if given else Path(caches, "regraft")).expanduser() / name
