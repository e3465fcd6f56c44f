"""Show or empty the store of features: regraft cache ls|size|clear.

Imports nothing heavy.
"""

from collections.abc import Sequence
from pathlib import Path

from regraft.cli.command import Command
from regraft.core.errors import ConfigError, UnknownNameError
from regraft.features.store import catalog

_ACTIONS = ("ls", "size", "clear")


def run(arguments: Sequence[str]) -> None:
    """Shows or deletes stored features; see the command's help."""
    from regraft.report.tables import cache as cache_table

    words, values = COMMAND.split(arguments)
    if not words:
        raise ConfigError("cache", f"an action is missing: {COMMAND.usage}")
    action, *keys = words
    if action not in _ACTIONS:
        raise UnknownNameError(None, "word", action, _ACTIONS)
    if len(keys) > (action == "clear") or "" in keys:
        raise ConfigError("cache", got=" ".join(words), allowed=COMMAND.usage)
    folder = values.get("features.dir") or values.get("dir")
    store = Path(folder).expanduser().resolve() if folder else catalog.default_dir()
    entries = catalog.entries(store)
    if action == "ls":
        cache_table.show(entries, store)
    elif action == "size":
        cache_table.show_total(entries, store)
    else:
        prefix = keys[0] if keys else ""
        if keys and not any(entry.key.startswith(prefix) for entry in entries):
            raise ConfigError(
                "cache", f"no key in {store} starts with {prefix!r}", fix="`regraft cache ls` lists them."
            )
        cache_table.show_cleared(*catalog.clear(store, prefix), store)


COMMAND = Command(
    name="cache",
    run=run,
    usage="regraft cache ls | size | clear [KEY] [features.dir=PATH]",
    details="KEY is the start of a key as `ls` shows it; `clear` without one deletes everything.",
    keys=("dir", "features.dir"),
    words=lambda: _ACTIONS,
)
