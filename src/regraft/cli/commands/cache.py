"""Show, empty or merge stores of features: regraft cache ls|size|clear|merge.

Imports nothing heavy, but for merging.
"""

from collections.abc import Sequence
from pathlib import Path

from regraft.cli.command import Command
from regraft.core.errors import ConfigError, UnknownNameError
from regraft.features.store import catalog

_ACTIONS = ("ls", "size", "clear", "merge")


_MOST_WORDS = {"clear": 1, "merge": 1000}


def run(arguments: Sequence[str]) -> None:
    """Shows or deletes stored features; see the command's help."""
    from regraft.report.tables import cache as cache_table

    words, values = COMMAND.split(arguments)
    if not words:
        raise ConfigError("cache", f"an action is missing: {COMMAND.usage}")
    action, *keys = words
    if action not in _ACTIONS:
        raise UnknownNameError(None, "word", action, _ACTIONS)
    if len(keys) > _MOST_WORDS.get(action, 0) or (action == "merge" and not keys) or "" in keys:
        raise ConfigError("cache", got=" ".join(words), allowed=COMMAND.usage)
    folder = values.get("features.dir") or values.get("dir")
    store = Path(folder).expanduser().resolve() if folder else catalog.default_dir()
    if action == "merge":
        _merge(list(map(Path, keys)), store)
        return
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


def _merge(sources: Sequence[Path], store: Path) -> None:
    from regraft.core.text import say
    from regraft.features.store.merging import merge
    from regraft.report.tables import cache as cache_table

    num_damaged = 0
    for source in sources:
        say(f"Merging {source} ...", is_error=True)
        merged = merge(source.expanduser(), store)
        cache_table.show_merged(merged, source, store)
        num_damaged += len(merged.damaged)
    if num_damaged:
        raise ConfigError("cache merge", f"{num_damaged} damaged parts were left out", fix="They are computed again.")


COMMAND = Command(
    name="cache",
    run=run,
    usage="regraft cache ls | size | clear [KEY] | merge FROM... [features.dir=PATH]",
    details="""KEY is the start of a key as `ls` shows it; `clear` without one deletes everything. `merge` copies what
the stores in other folders have into the one in features.dir, by default the user's own. What is there is skipped, and
damaged files are named and left out.""",
    keys=("dir", "features.dir"),
    words=lambda: _ACTIONS,
)
