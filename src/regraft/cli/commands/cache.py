"""Show or empty the store of features: regraft cache ls|size|clear.

It imports nothing heavy.
"""

from collections.abc import Sequence
from pathlib import Path

from regraft.cli.command import Command
from regraft.core.errors import ConfigError, UnknownNameError
from regraft.features.store import catalog

_ACTIONS = ("ls", "size", "clear")


def run(arguments: Sequence[str]) -> None:
    """Does what the arguments say.

    Args:
        arguments: `ls`, `size` or `clear`; of the last, the start of a pool's key, to delete that one alone; anywhere
            `features.dir=PATH` or `dir=PATH`, the store's folder.

    Raises:
        ValueError: something else.
    """
    from regraft.report import cache_table

    words = [argument for argument in arguments if "=" not in argument]
    if not words:
        raise ConfigError("cache", f"an action is missing: {COMMAND.usage}")
    action, *keys = words
    if action not in _ACTIONS:
        raise UnknownNameError(None, "word", action, _ACTIONS)
    if len(keys) > (action == "clear") or "" in keys:
        raise ConfigError("cache", got=" ".join(words), allowed=COMMAND.usage)
    store = _store(arguments)
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
        num_pools, num_bytes = catalog.clear(store, prefix)
        cache_table.show_cleared(num_pools, num_bytes, store)


def _store(arguments: Sequence[str]) -> Path:
    store = catalog.default_dir()
    for key, is_given, value in (argument.partition("=") for argument in arguments):
        if is_given and key.removeprefix("features.") != "dir":
            raise UnknownNameError("cache", "key", key, ["dir", "features.dir"])
        if is_given and not value:
            raise ConfigError(key, got=value, allowed="the store's folder", fix="Leave it out for your own.")
        if is_given:
            store = Path(value).expanduser().resolve()
    return store


COMMAND = Command(
    name="cache",
    run=run,
    usage="regraft cache ls | size | clear [KEY] [features.dir=PATH]",
    details="KEY is the start of a key as `ls` shows it; `clear` without one deletes everything.",
    words=lambda: _ACTIONS,
)
