"""Images in tar shards, as WebDataset has them, with labels in the shards or in a table."""

import copy
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from regraft.config.quoting import text_of
from regraft.core.atomic import read_text
from regraft.core.errors import ConfigError, ConfigErrors, errors_in
from regraft.data.images.file_reading.read import logged_progress
from regraft.data.shards.opening import Indexed, fetch_all, open_indexes
from regraft.data.shards.rows import ShardRows
from regraft.data.shards.table import KEY, OpenShards, ShardTable
from regraft.data.shards.urls import is_remote, path_of, shards_of
from regraft.data.sources.labelled_table import LabelledTable, RowInputs
from regraft.data.tables.collected import Collected
from regraft.data.tables.columns import Given
from regraft.data.tables.reading import Table

if TYPE_CHECKING:
    from regraft.data.sources.base import Splits

CLASS_NAMES = "classnames.txt"
"""The file beside shards with the name of each class a line, as those of CLIP's benchmark have it."""


class WebDatasetSource(LabelledTable):
    """Images in tar shards; a sample is the files whose names are the same up to the first dot.

    Args:
        urls: shards, with braces for several, a folder or a glob of them, or addresses and commands as webdataset has
            them; a list of these, or those of each split. Names of shards may say the split, too.
        image: extension of the image, or several, of which the first that a sample has is used; None for its only one.
        table: a table with keys and labels, in place of labels in the shards; see `TableSource`.
        key: column of the keys or of the images' names in such a table.
        label: column of the labels, or several: the extension of a member such as `cls`, or a key of JSON.
        class_names: file with a class a line, which the numbers in `cls` count from 0; None for `classnames.txt` beside
            the shards, if it is there.
        trust: what the command line trusts; a command, `pipe:`, runs only if it is trusted.

    The other arguments are those of `regraft.data.sources.table.TableSource`.
    """

    name = "webdataset"

    def __init__(
        self,
        *,
        urls: str | Sequence[str] | Mapping[str, Any],
        image: str | Sequence[str] | None = None,
        table: str | Sequence[str] | Mapping[str, str] | None = None,
        key: str | None = None,
        label: str | Sequence[str] | None = None,
        class_names: str | None = None,
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
        given = Given("image", KEY if table is None else key, label, split, group, weight, slices)
        super().__init__(table or "", given, separator=separator, unit=unit, on_error=on_error, task=task)
        self._urls = urls
        self._image = [image] if isinstance(image, str) else image
        self._has_table = table is not None
        self._class_names = class_names
        self._trust = trust
        self._has_value_range = False
        if table is None and key is not None:
            raise ConfigError("data.key", "it is a column of data.table", got=key, fix="Leave it out.")

    def with_value_range(self) -> Self:
        """Returns the same source for a `value_range`, with which floats and 32-bit integers can be decoded."""
        other = copy.copy(self)
        other._has_value_range = True
        return other

    @cached_property
    def _of_splits(self) -> dict[str | None, list[str]]:
        return shards_of(self._urls, self._trust)

    @property
    def _all_urls(self) -> list[str]:
        return [url for urls in self._of_splits.values() for url in urls]

    def is_here(self) -> bool:
        """Whether no shard has to be copied to this machine."""
        return all(not is_remote(url) or Path(path_of(url)).is_file() for url in self._all_urls)

    @cached_property
    def indexed(self) -> Indexed:
        """The indexes of all shards, which are made if they are missing."""
        fetch_all(self._all_urls)
        return open_indexes(self._all_urls, partial(logged_progress, message="Indexed %s of %s MB of shards."))

    @cached_property
    def _opened(self) -> OpenShards:
        """The samples of the shards that can be read; raises ConfigErrors if none can."""
        if not any(index.lines for index in self.indexed.indexes.values()):
            raise ConfigErrors(self.indexed.refusals)
        self.indexed.log_ignored()
        return OpenShards(list(self.indexed.indexes.values()), self._image)

    @cached_property
    def _tables(self) -> list[tuple[Table, str | None]]:
        """The samples of each split as a table, or the tables that name them; that of train first."""
        if self._has_table:
            return self._tables_of_keys()
        tables: list[tuple[Table, str | None]] = []
        first = 0
        names = self._names
        for split, urls in self._of_splits.items():
            indexes = [self.indexed.indexes[url] for url in urls if url in self.indexed.indexes]
            shards = first, first + len(indexes)
            columns = dict.fromkeys(name for index in indexes for name in index.columns)
            place = Path(split or (self._urls if isinstance(self._urls, str) else "shards"))
            given = place, (KEY, *columns), "parquet", "utf-8"
            tables.append((ShardTable(*given, opened=self._opened, shards=shards, class_names=names), split))
            first += len(indexes)
        if self._given.label is None and "cls" in tables[0][0].columns:
            self._given = replace(self._given, label="cls")
        return tables

    def _tables_of_keys(self) -> list[tuple[Table, str | None]]:
        """The tables of keys and labels."""
        if None not in self._of_splits:
            reason = "with a table the shards have no splits, as the table says them"
            raise ConfigError("data.urls", reason, got=list(self._of_splits), fix="Give all shards in one list.")
        tables = super()._tables
        named = next((name for name in ("__key__", "key") if name in tables[0][0].columns), None)
        if self._given.inputs is None and named is not None:
            self._given = replace(self._given, inputs=named)
        return tables

    @property
    def _names(self) -> list[str] | None:
        """The names of the classes that `cls` counts."""
        beside = Path(path_of(self._all_urls[0])).with_name(CLASS_NAMES)
        path = beside if self._class_names is None else Path(self._class_names).expanduser()
        if self._class_names is None and not path.is_file():
            return None
        try:
            return [line.strip() for line in read_text(path).splitlines() if line.strip()]
        except (OSError, ValueError) as error:
            fix = "Give a text file with a name a line."
            raise ConfigError("data.class_names", f"it can't be read ({error})", got=str(path), fix=fix) from error

    @property
    def _inputs(self) -> ShardRows:
        in_order, damaged = not self._has_table, self.indexed.faults
        return ShardRows(self._opened, in_order, damaged, self._on_error, self._check, self._has_value_range)

    @property
    def _check(self) -> str:
        others = {"table": self._path or None, "image": self._image, "label": self._given.label}
        words = [f"data.{key}={text_of(value)}" for key, value in others.items() if value is not None]
        return shlex.join(["regraft", "data", "check", "data=webdataset", f"data.urls={text_of(self._urls)}", *words])

    def prepare(self) -> None:
        """Copies, indexes and checks the shards; raises ConfigErrors if they can't be used."""
        with self._about_shards():
            super().prepare()

    def splits(self) -> "Splits":
        """Returns the splits that the shards or the table say; see `LabelledTable.splits`."""
        with self._about_shards():
            found = super().splits()
        for name in ("indexed", "_opened", "_tables", "_roles"):  # which take as much memory as the samples
            self.__dict__.pop(name, None)
        return found

    @contextmanager
    def _about_shards(self) -> Iterator[None]:
        """Names the keys of shards, or of their table, in errors of the code of tables."""
        keys = {"data.root": "data.urls", "data.path": "data.table" if self._has_table else "data.urls"}
        try:
            yield
        except (ConfigError, ConfigErrors) as error:
            errors = [each.about(keys.get(str(each.key), each.key)) for each in errors_in(error)]
            raise (errors[0] if isinstance(error, ConfigError) else ConfigErrors(errors)) from error

    def _collected(self, inputs: RowInputs) -> Collected:
        """Returns the samples; raises ConfigErrors with all that is wrong with shards, images and labels."""
        assert isinstance(inputs, ShardRows)
        is_raised = self._on_error == "raise"
        errors = self.indexed.refusals if is_raised else []
        if not is_raised:
            self.indexed.log_skipped()
        try:
            collected = super()._collected(inputs)
        except ConfigErrors as error:
            every = [] if self._has_table else inputs.refusals(np.arange(len(self._opened)))
            raise ConfigErrors([*errors, *errors_in(error), *every]) from error
        numbers = [inputs.numbers_of(rows) for rows in collected.rows.values()]
        errors += inputs.refusals(np.concatenate(numbers))
        if errors:
            raise ConfigErrors(errors)
        return collected
