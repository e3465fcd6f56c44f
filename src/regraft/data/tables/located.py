"""Which tables a data set has: one, one for each split, or those that lie in a folder. No torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regraft.config.quoting import for_shell
from regraft.core.errors import ConfigError, MissingFileError, listed, require
from regraft.core.remote import fetched, is_remote
from regraft.data.findings import readable
from regraft.data.sources.layout import SPLITS, layout_of, names_split
from regraft.data.tables.reading import SUFFIXES

_METADATA = "metadata"
"""The name of a table beside its images, as Hugging Face's image folders have it."""


def tables_of(path: Any) -> dict[Path, str | None]:
    """Returns the tables of `data.path`, and the split that each holds; None if its rows say it, or all are train.

    Args:
        path: of a table or of a folder with tables; several of them, which are called after their splits; or the table
            of each split. Of a table at an address a copy is returned, see `core.remote`.
    """
    if isinstance(path, Mapping):
        for name in path:
            require(name in SPLITS, f"data.path.{name}", path[name], f"the keys {', '.join(SPLITS)}")
        tables: dict[Path, str | None] = {_local(table): split for split, table in path.items()}
        if "train" not in path:
            raise ConfigError("data.path", "it names no training table", fix="Add train: TABLE.")
        if len(tables) < len(path):
            reason = f"it names a table for several splits: {listed(path)}"
            raise ConfigError("data.path", reason, fix="Give each split a table of its own, or carve them.")
        return tables
    if isinstance(path, Sequence) and not isinstance(path, str):
        return _by_name([_local(str(each)) for each in path])
    require(isinstance(path, str) and bool(path), "data.path", path, "a table, or a folder with tables")
    given = _local(path)
    return _in_folder(given) if given.is_dir() else {given: None}


def _local(path: str) -> Path:
    return fetched(path, "data.path") if is_remote(path) else Path(path).expanduser()


def _in_folder(folder: Path) -> dict[Path, str | None]:
    """Returns the tables of a folder: metadata in it or in folders of splits, train and test, or its only one."""
    metadata = [path for path in _tables(folder) if path.stem == _METADATA]
    if len(metadata) == 1:
        return {metadata[0]: None}
    below = layout_of([path.name for path in folder.iterdir() if path.is_dir()]).folders
    found = {
        table: split
        for split, names in below.items()
        for table in _tables(folder / names[0])
        if table.stem == _METADATA
    }
    if found and not metadata:
        return _require_train(dict(found), folder)
    tables = _tables(folder)
    named = layout_of([path.stem for path in tables]).folders
    if named:
        return _require_train(
            {path: split for split, stems in named.items() for path in tables if path.stem in stems}, folder
        )
    if len(tables) == 1:
        return {tables[0]: None}
    where = readable(str(folder))
    if not tables:
        raise MissingFileError("data.path", f"there is no table in {where}", allowed=f"tables: {', '.join(SUFFIXES)}")
    names = listed(readable(path.name) for path in tables)
    fix = f"Name it, as in {for_shell('data.path', f'{where}/{readable(tables[0].name)}')}."
    raise ConfigError("data.path", f"{where} holds several tables: {names}", fix=fix)


def _by_name(paths: list[Path]) -> dict[Path, str | None]:
    require(bool(paths), "data.path", [], "a table, or several")
    if len(paths) == 1:
        return {paths[0]: None}
    found: dict[Path, str | None] = {}
    for path in paths:
        name = path.parent.name if path.stem == _METADATA else path.stem
        split = next((split for split in SPLITS if names_split(name, split)), None)
        if split is None:
            fix = "Name them: 'data.path={train: TABLE, test: TABLE}'."
            reason = f"the name of {readable(str(path))} doesn't say which split it holds"
            raise ConfigError("data.path", reason, fix=fix)
        found[path] = split
    return _require_train(found, None)


def _require_train(tables: dict[Path, str | None], folder: Path | None) -> dict[Path, str | None]:
    splits = list(tables.values())
    names = listed(readable(str(path)) for path in tables)
    fix = "Name the tables: 'data.path={train: TABLE, test: TABLE}'."
    where = "" if folder is None else f"in {readable(str(folder))}, "
    if "train" not in splits:
        raise ConfigError("data.path", f"{where}no table is that of train: {names}", fix=fix)
    twice = [split for split in SPLITS if splits.count(split) > 1]
    if twice:
        raise ConfigError("data.path", f"{where}several tables are that of {', '.join(twice)}: {names}", fix=fix)
    return tables


def _tables(folder: Path) -> list[Path]:
    suffixes = SUFFIXES.keys() - {".txt", ".json"}  # which may be anything
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.is_file())
