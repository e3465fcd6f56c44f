"""The data that a command is given: a path, or a data config and its keys."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regraft.config.groups import group_names
from regraft.config.quoting import key_of, quoted
from regraft.config.safe_yaml import load
from regraft.config.shipped import conf_dir
from regraft.core.errors import ConfigError, UnknownNameError
from regraft.data.shards.headers import are_shards
from regraft.data.tables.reading import SUFFIXES

_FOLDER = "regraft.data.sources.folder.FolderSource"


def split_words(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the words that are paths, whose names may hold an equals sign, and the other arguments."""
    plain = [word for word in arguments if not word.startswith(("-", "~"))]
    words = [word for word in plain if "=" not in word or key_of(word) is None or Path(word).exists()]
    return words, [word for word in arguments if word not in words]


def chosen_data(name: str, words: Sequence[str], others: Sequence[str], usage: str) -> list[str]:
    """Returns the overrides that choose the data of a path, or of a data config.

    Args:
        name: the command, for errors.
        words: the paths that are given, of which there may be one.
    """
    # The one group that says how data is read; its choices set more, which a config of data alone hasn't.
    others = [f"task.name={word.removeprefix('task=')}" if word.startswith("task=") else word for word in others]
    keys = set(map(key_of, others))
    kind, key_of_path = _kind_of(words[0]) if words else ("", "")
    chosen = {key for key in map(str, keys) if key.startswith("data")}
    if len(words) > 1 or (words and (chosen & {"data", key_of_path} if kind != "folder" else chosen)):
        raise ConfigError(name, f"{words[-1]!r} is one word too many", fix=usage)
    groups = [group for group in group_names() if group in keys and group != "data"]
    if groups:
        raise ConfigError(groups[0], f"a {name} looks at data alone", fix=f"Leave it out. {usage}")
    place = [f"{key_of_path}={quoted(word)}" for word in words]
    return [*([f"data={kind}"] if words else []), *place, *others]


def _kind_of(word: str) -> tuple[str, str]:
    """Returns the data config for a path, and its key for it: of shards, a table or a folder."""
    path = Path(word)
    if are_shards(word):
        return "webdataset", "data.urls"
    if path.suffix.lower() in SUFFIXES and not path.is_dir():  # which is reported as a table if it isn't there
        return _kind_of_table(path), "data.path"
    return "folder", "data.root"


def _kind_of_table(path: Path) -> str:
    """Returns the data config for a table: of texts, if its columns are called so, else of images."""
    from regraft.data.tables.columns import holds_texts
    from regraft.data.tables.reading import open_table

    try:
        return "text_table" if holds_texts(open_table(path)) else "table"
    except ConfigError:  # which is reported when the table is read
        return "table"


def source_of(node: Mapping[str, Any], trust: Sequence[str], on_error: str | None = None) -> Any:
    """Returns the source of the section `data`, without the options of batches and splits.

    Args:
        on_error: in place of the source's own; None to keep that.
    """
    files = [conf_dir() / "data" / f"{name}.yaml" for name in ("_base", "_common")]
    shared = {key for file in files for key in load(file)}
    options = {key: value for key, value in node.items() if key not in shared}
    if node["_target_"] != _FOLDER:
        from regraft.config.instantiate import factory

        if "on_error" in options:
            options["on_error"] = on_error or options["on_error"]
        if "trust" in options:  # a source of files of others
            options["trust"] = trust
        if "task" in options:
            task = options["task"] or factory(options | {"task": "classification"}, "data")().find_task()[0]
            options["task"] = task
        return factory(options, "data")()
    # Without `factory`, which imports torch: that takes longer than checking a folder again.
    from regraft.data.sources.folder import FolderSource

    del options["_target_"]
    known = list(inspect.signature(FolderSource).parameters)
    for key in options:
        if key not in known:
            raise UnknownNameError(f"data.{key}", "key", key, known)
    return FolderSource(**options)
