"""Data sets of Hugging Face's `datasets` library: saved to disk, in files of Parquet or Arrow, or from the hub."""

import copy
import json
import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from regraft.core.atomic import temporary_folder
from regraft.core.content_hash import content_hash
from regraft.core.errors import ConfigError, MissingFileError, listed
from regraft.core.paths import cache_dir
from regraft.data.findings import readable
from regraft.data.images.file_reading.kinds import kind_of
from regraft.data.sources.hf_columns import (
    BATCH,
    Columns,
    StreamedColumns,
    bytes_in,
    first_line,
    images_in,
    streamed,
    unreadable,
)
from regraft.data.sources.labelled_table import LabelledTable, RowInputs
from regraft.data.sources.layout import SPLITS, names_split
from regraft.data.sources.table import ImageRows, trusted_folders
from regraft.data.sources.text_table import TextRows
from regraft.data.tables.columns import Given
from regraft.data.tables.delimited import Note
from regraft.data.tables.reading import Table

_log = logging.getLogger(__name__)
_FILES = {".parquet": "parquet", ".arrow": "arrow"}
_SAVED = ("dataset_dict.json", "state.json")
"""Files of what `save_to_disk` wrote."""
_NAMES = "files.json"


class HFSource(LabelledTable):
    """A data set of `datasets`, of images or of texts.

    Images are written once into the cache folder as the files that they were. Parquet files on disk are streamed, a
    batch at a time, without the copy that `datasets` makes otherwise.

    Args:
        path: folder that `save_to_disk` wrote or that holds Parquet files, or such a file; None with `name`.
        name: of a data set on the hub, such as `user/flowers`, downloaded by `datasets`.
        config: the hub's name of a part of it.
        image: column of images; None for the only one.
        text: column of texts, or several; without one, and without a column of images, it is found.

    The other arguments are those of `regraft.data.sources.table.TableSource`.
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        name: str | None = None,
        config: str | None = None,
        image: str | None = None,
        text: str | Sequence[str] | None = None,
        label: str | Sequence[str] | None = None,
        split: str | None = None,
        group: str | None = None,
        weight: str | None = None,
        slices: Sequence[str] = (),
        separator: str | None = None,
        unit: str = "",
        on_error: str = "raise",
        task: str = "classification",
        trust: Sequence[str] = (),
    ) -> None:
        if image is not None and text is not None:
            raise ConfigError("data.text", "give one of data.image and data.text", got=text)
        role, inputs = ("image", image) if text is None else ("text", text)
        given = Given(role, inputs, label, split, group, weight, slices)
        super().__init__(path or name or "", given, separator=separator, unit=unit, on_error=on_error, task=task)
        if (path is None) == (name is None):
            raise ConfigError("data.path", "give one of data.path and data.name")
        self._local = path
        self._name = name
        self._config = config
        self._trusted = trusted_folders(trust)
        self._has_value_range = False

    def with_value_range(self) -> Self:
        """Returns the same source for a `value_range`, with which floats and 32-bit integers can be decoded."""
        other = copy.copy(self)
        other._has_value_range = True
        return other

    @property
    def _check(self) -> str:
        place = f"data.{'path' if self._local else 'name'}={self._path}"
        return shlex.join(["regraft", "data", "check", "data=hf", place])

    @property
    def _inputs(self) -> RowInputs:
        _ = self._tables  # which says what the inputs are
        if self._given.role == "text":
            return TextRows()
        trusted, check = self._trusted, self._check
        return ImageRows(str(_cache()), False, trusted, self._on_error, check, self._has_value_range)

    @cached_property
    def _tables(self) -> list[tuple[Table, str | None]]:
        """The splits as tables, that of train first."""
        splits = {
            name: (Columns(dataset) if self._parquet is None else StreamedColumns(dataset, self._parquet, name), split)
            for name, (dataset, split) in _splits_of(self._loaded()).items()
        }
        if self._given.inputs is None and not any(images_in(columns) for columns, _ in splits.values()):
            self._given = replace(self._given, role="text")
        found: list[tuple[Table, str | None]] = []
        for name, (columns, split) in splits.items():
            if self._given.role == "text":
                table = DatasetTable(Path(name), tuple(columns.dataset.features), "parquet", "utf-8", dataset=columns)
            else:
                table = _table(name, columns, self._given.inputs)
            found.append((table, split))
        return sorted(found, key=lambda item: SPLITS.index(item[1] or "train"))

    @property
    def _parquet(self) -> Path | None:
        """The file or folder of Parquet files, which are read where they lie, as a stream; None for other data."""
        path = Path(self._local or "").expanduser()
        if self._local is None or any((path / name).is_file() for name in _SAVED):
            return None
        is_parquet = path.suffix.lower() == ".parquet" if path.is_file() else any(path.rglob("*.parquet"))
        return path if is_parquet else None

    def _loaded(self) -> Any:
        """Returns the data set, or those of its splits by name."""
        if find_spec("datasets") is None:
            reason = "it needs the package datasets, which isn't installed"
            raise ConfigError("data=hf", reason, fix="Run pip install 'regraft[hf]'.")
        import datasets

        if self._local is None:
            return self._from_hub()
        path = Path(self._local).expanduser()
        try:
            if self._parquet is not None:
                return streamed(path)
            if any((path / name).is_file() for name in _SAVED):
                return datasets.load_from_disk(str(path))
            if path.suffix.lower() in _FILES and path.is_file():
                return datasets.load_dataset(_FILES[path.suffix.lower()], data_files=str(path))
            if path.is_dir():
                return datasets.load_dataset(str(path))
        except Exception as error:  # its readers raise nearly anything
            raise unreadable(path, error) from error
        raise MissingFileError(
            "data.path", "there is no such data set here", got=str(path), fix="data.name=OWNER/NAME is one of the hub."
        )

    def _from_hub(self) -> Any:
        import datasets

        try:
            return datasets.load_dataset(self._name, self._config)
        except Exception as error:  # of the network, the hub, or its readers
            reason = f"`datasets` can't load it from the hub ({type(error).__name__}: {first_line(error)})"
            fix = "Check the name and the network, or give a local copy with data=hf data.path=FOLDER."
            raise ConfigError("data.name", reason, got=self._name, fix=fix) from error


@dataclass(frozen=True)
class DatasetTable(Table):
    """A split as a table; a column of images has the names of the files that they were written to."""

    dataset: Columns | None = None
    image: str = ""
    files: Sequence[str] = ()

    def rows(self, columns: Sequence[str], note: Note) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yields the number and the values of each row; numbers of classes become their names."""
        assert self.dataset is not None
        others = [name for name in dict.fromkeys(columns) if name != self.image]
        names = {name: _name_of(self.dataset.dataset.features[name]) for name in others}
        number = 0
        nothing: list[Mapping[str, list[Any]]] = [{} for _ in range(0, len(self.files), BATCH)]
        for batch in self.dataset.batches(others) if others else nothing:
            files = self.files[number : number + BATCH]
            lists = [files if name == self.image else map(names[name], batch[name]) for name in columns]
            for values in zip(*lists, strict=True):
                number += 1
                yield number, values


def _splits_of(loaded: Any) -> dict[str, tuple[Any, str | None]]:
    """Returns each data set and its split by name; None for a single one, whose rows may say it."""
    if not isinstance(loaded, Mapping):
        return {"train": (loaded, None)}
    if len(loaded) == 1:
        return {name: (dataset, None) for name, dataset in loaded.items()}
    found: dict[str, tuple[Any, str | None]] = {}
    for name, dataset in loaded.items():
        split = next((each for each in SPLITS if names_split(name, each)), None)
        if split is None:
            _log.info("The split %s isn't train, val or test, and is ignored.", name)
        elif split in (other for _, other in found.values()):
            raise ConfigError("data.path", f"it has several splits of {split}: {listed(loaded)}")
        else:
            found[name] = dataset, split
    if not any(split == "train" for _, split in found.values()):
        raise ConfigError("data.path", f"it has no split of train: {listed(loaded)}")
    return found


def _table(name: str, columns: Columns, image: Any) -> DatasetTable:
    images = images_in(columns)
    if image is not None and image not in (allowed := [*dict.fromkeys([*images, *bytes_in(columns)])]):
        raise ConfigError("data.image", got=image, allowed=allowed or "a column of images, of which there is none")
    if image is None and len(images) != 1:
        shown = listed(map(readable, columns.dataset.features))
        reason = f"it has {len(images)} columns of images, of the columns {shown}"
        raise ConfigError("data.image", reason, fix="Name one." if images else "Cast one to datasets.Image().")
    column = image or images[0]
    folder, files = _written(columns, column)
    names = tuple(columns.dataset.features)
    return DatasetTable(folder / name, names, "parquet", "utf-8", dataset=columns, image=column, files=files)


def _written(columns: Columns, column: str) -> tuple[Path, list[str]]:
    """Returns the folder of a data set's images and their names in it, after writing them there if they aren't yet.

    An image that the data set has by its path only keeps that path.
    """
    import datasets

    folder = _cache() / content_hash(f"{columns.state} {column}".encode()).hex()
    if (folder / _NAMES).is_file():
        return folder, json.loads((folder / _NAMES).read_text(encoding="utf-8"))
    names: list[str] = []
    with temporary_folder(folder) as temporary:
        new = temporary / folder.name
        new.mkdir()
        batches = columns.batches([column], **{column: datasets.Image(decode=False)})
        for image in (image for batch in batches for image in batch[column]):
            content, path = (image or {}).get("bytes"), (image or {}).get("path")
            kind = "" if content is None else kind_of(content).lower()
            names.append(path or "" if content is None else f"{len(names):09}.{kind if kind.isalnum() else 'bin'}")
            if content is not None:
                (new / names[-1]).write_bytes(content)
        (new / _NAMES).write_text(json.dumps(names), encoding="utf-8")
        if not folder.is_dir():
            new.replace(folder)
    return folder, names


def _cache() -> Path:
    folder = cache_dir("hf").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _name_of(feature: Any) -> Any:
    """Returns a function that gives the value of a cell, with the names of classes in place of their numbers."""
    import datasets

    inner = getattr(feature, "feature", None)
    if isinstance(feature, datasets.ClassLabel):
        return lambda value: None if value is None or value < 0 else feature.int2str(value)
    if isinstance(inner, datasets.ClassLabel):
        return lambda values: None if values is None else [inner.int2str(value) for value in values]
    return lambda value: value
