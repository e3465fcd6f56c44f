"""Samples of shards as rows of a table, so that labels, splits and groups are those of all tables. No torch."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from regraft.core.errors import ConfigError
from regraft.data.findings import readable
from regraft.data.shards.index import KEPT, ShardIndex
from regraft.data.tables.delimited import Note
from regraft.data.tables.packed import PackedText
from regraft.data.tables.reading import Table, text_of

KEY = "__key__"
"""The column of the samples' names, as webdataset calls the key of a sample."""


class Number(int):
    """The number of a sample in a `ShardTable`, from 1; a key in another table may be a number, too."""


class OpenShards:
    """The samples of shards, one image each, by their number.

    Args:
        image: extensions of a sample's images, the first one of which that it has is used; None for its only image.

    Attributes:
        root: folder that names are relative to.
        names: of the shard and the image; of a sample without one, of the shard and the key.
        faults: kind of what is wrong with a sample, by its number.
        places: (num_samples, 3), int64: number of the shard, position and size of the image.
        starts: the number of the first sample of each shard, and the number of all.
    """

    def __init__(self, indexes: Sequence[ShardIndex], image: Sequence[str] | None) -> None:
        self.indexes = list(indexes)
        self.root = os.path.commonpath([os.path.dirname(index.path) for index in indexes])  # noqa: PTH120
        self.prefixes = [f"{os.path.relpath(index.path, self.root)}/" for index in indexes]
        self.names = PackedText()
        self.faults: dict[int, str] = {}
        self._image = None if image is None else [each.lower() for each in image]
        self._rows: list[np.ndarray] = []
        places, starts = [], [0]
        for number, index in enumerate(self.indexes):
            places.append(self._add(number, index))
            starts.append(starts[-1] + len(places[-1]))
        self.places, self.starts = np.concatenate(places), np.array(starts)

    def __len__(self) -> int:
        return len(self.places)

    def _add(self, number: int, index: ShardIndex) -> np.ndarray:
        """Adds the samples of a shard; returns their places."""
        first, places, rows = 0, [], []
        for sample in index.samples():
            name, fault = self._chosen(sample.images)
            if sample.fault or fault:
                self.faults[len(self.names)] = sample.fault or fault
            rows.append(first + list(sample.images).index(name) if name else -1)
            places.append((number, *sample.images.get(name, (0, 0))))
            self.names.append(f"{self.prefixes[number]}{sample.key}{name and f'.{name}'}")
            first += len(sample.images)
        self._rows.append(np.array(rows, np.int64))
        return np.array(places, np.int64).reshape(-1, 3)

    def _chosen(self, images: dict[str, tuple[int, int]]) -> tuple[str, str]:
        """Returns the extension of the image that is used, and the kind of fault; one of them is empty."""
        if self._image is None and len(images) > 1:
            return "", "several_images"
        found = {name.lower(): name for name in images}
        name = next((found[each] for each in self._image or found if each in found), "")
        return name, "" if name else "no_image"

    @cached_property
    def facts(self) -> np.ndarray:
        """The facts of the samples' images, (num_samples,), KEPT, which the indexes don't hold any longer."""
        facts = np.zeros(len(self), KEPT)
        for number, (index, rows) in enumerate(zip(self.indexes, self._rows, strict=True)):
            has_image = rows >= 0
            facts[self.starts[number] : self.starts[number + 1]][has_image] = index.facts[rows[has_image]]
            index.facts = index.facts[:0].copy()
        return facts

    @cached_property
    def details(self) -> dict[int, str]:
        """The detail of an image's problem, by the number of the sample."""
        found: dict[int, str] = {}
        for number, (index, rows) in enumerate(zip(self.indexes, self._rows, strict=True)):
            at = {row: place for place, row in enumerate(rows.tolist())} if index.details else {}
            found |= {int(self.starts[number]) + at[row]: text for row, text in index.details.items() if row in at}
        return found

    def key(self, number: int) -> str:
        """Returns the key of a sample."""
        shard = int(np.searchsorted(self.starts, number, side="right")) - 1
        name = self.names[number][len(self.prefixes[shard]) :]
        folder, slash, file = name.rpartition("/")
        return f"{folder}{slash}{file.partition('.')[0]}"


@dataclass(frozen=True)
class ShardTable(Table):
    """The samples of some shards as rows, numbered from 1 over all shards.

    Attributes:
        shards: numbers of the first shard and of the one after the last.
        class_names: of the numbers in `cls`, if they are known.
    """

    opened: OpenShards | None = None
    shards: tuple[int, int] = (0, 0)
    class_names: Sequence[str] | None = None

    @property
    def noun(self) -> str:
        """What a row is called."""
        return "sample"

    def place(self, number: int) -> str:
        """Returns the name of a sample."""
        assert self.opened is not None
        return self.opened.names[number - 1]

    def rows(self, columns: Sequence[str], note: Note) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yields the number of each sample and its values in some columns; that of KEY is the number, too."""
        assert self.opened is not None
        number = int(self.opened.starts[self.shards[0]])
        for index in self.opened.indexes[slice(*self.shards)]:
            for sample in index.samples():
                number += 1
                cells = sample.cells
                if self.class_names is not None and "cls" in cells:
                    cells = cells | {"cls": self._class_name(cells["cls"], number)}
                yield number, tuple([Number(number) if name == KEY else cells.get(name) for name in columns])

    def _class_name(self, text: str, number: int) -> str:
        assert self.class_names is not None
        if not text.isdecimal() or int(text) >= len(self.class_names):
            sample, num = readable(self.place(number)), f"{len(self.class_names):,}"
            reason = f"it has {num} names, and the cls of {sample} is {readable(text)}"
            raise ConfigError("data.class_names", reason, fix="Name the file that has all of them.")
        return self.class_names[int(text)]


class ShardReader:
    """Finds the samples of rows: by their number in a `ShardTable`, by their key or the name of a file in another."""

    def __init__(self, opened: OpenShards) -> None:
        self.opened = opened

    def name_of(self, cells: Sequence[Any]) -> str:
        """Returns the name of the sample."""
        number = cells[0]
        return self.opened.names[number - 1] if isinstance(number, Number) else text_of(number)

    def elsewhere(self) -> str:
        """Returns "": samples are nowhere else."""
        return ""

    def read(self, cells: Sequence[Any]) -> tuple[str, str]:
        """Returns the name of the sample's image and ""; or "" and the kind of fault."""
        found = cells[0]
        if not isinstance(found, Number):
            name = text_of(found)
            number = self._numbers.get(name, -1) if name else -1
            if number < 0:
                return "", ("no_path" if not name else "missing" if name not in self._numbers else "several_files")
            found = Number(number + 1)
        fault = self.opened.faults.get(found - 1, "")
        return ("", fault) if fault else (self.opened.names[found - 1], "")

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """The number of each sample by its key, by the name of its image and with that of the shard; -1 for several."""
        found: dict[str, int] = {}
        for number, name in enumerate(self.opened.names):
            shard = int(np.searchsorted(self.opened.starts, number, side="right")) - 1
            for each in {name, name[len(self.opened.prefixes[shard]) :], self.opened.key(number)}:
                found[each] = number if each not in found else -1
        return found

    def numbers_of(self, names: Sequence[str]) -> list[int]:
        """Returns the numbers of samples by the names of their images."""
        return [self._numbers[name] for name in names]
