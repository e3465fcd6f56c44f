"""The rows of all tables of a data set, by split, and what is wrong with them as a whole. No torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from regraft.core.errors import ConfigError, listed
from regraft.data.findings import readable
from regraft.data.groups import shared_groups
from regraft.data.tables.faults import NOT_FOUND, Faults
from regraft.data.tables.packed import PackedText
from regraft.data.tables.reading import Table
from regraft.data.tables.rows import InputReader, MakeLabels, Roles, RowParser, Rows
from regraft.data.tables.targets import SeparatedLabels


class Collected:
    """Rows that can be used, by split.

    Args:
        are_files: whether inputs are files, each of which is used once.

    Attributes:
        rows: those of each split.
        kept: (num_rows,), bool, of each split: which rows are used.
        unlabelled: the inputs of a test split without labels.
        unlabelled_tables: the tables that hold nothing else.
        num_joined: rows that add a label to the file of an earlier row.
    """

    def __init__(self, *, are_files: bool) -> None:
        self._are_files = are_files
        self.rows: dict[str, Rows] = {}
        self.kept: dict[str, np.ndarray] = {}
        self.unlabelled = PackedText()
        self.unlabelled_tables: list[Path] = []
        self.num_joined = 0
        self._errors: list[ConfigError] = []
        self._faults: list[Faults] = []
        self._faults_of: dict[str, Faults] = {}

    def read(
        self,
        table: Table,
        roles: Roles,
        split: str | None,
        readers: Mapping[str, InputReader],
        make_labels: MakeLabels,
    ) -> None:
        """Adds the rows of a table; see `RowParser`."""
        parser = RowParser(table, roles, split, readers, make_labels)
        self._faults.append(parser.faults)
        lacking: dict[str, Rows] = {}
        try:
            for row in parser.rows():
                if row.label is None:
                    lacking.setdefault(row.split, Rows(roles)).append(row)
                    continue
                if row.split not in self.rows:
                    self.rows[row.split] = Rows(roles, make_labels())
                    self._faults_of[row.split] = parser.faults
                self.rows[row.split].append(row)
        except ConfigError as error:
            self._errors.append(error)
        if not NOT_FOUND.isdisjoint(parser.faults.counts):
            parser.faults.elsewhere = next(filter(None, (reader.elsewhere() for reader in readers.values())), "")
        if not parser.num_rows and not self._errors:
            name = readable(table.path.name)
            self._errors.append(ConfigError("data.path", f"{name} has no row below its header", fix="Add rows."))
        for of_split, rows in lacking.items():
            if of_split == "test" and "test" not in self.rows:
                self.unlabelled = rows.inputs
                if not roles.labels:
                    self.unlabelled_tables.append(table.path)
                continue
            for number, found in zip(rows.numbers, rows.inputs, strict=True):
                parser.faults.add("no_label", number, found, file=found if self._are_files else "")

    @property
    def skipped(self) -> dict[str, str]:
        """Why rows are left out, by their files or their places in the table."""
        return {name: why for faults in self._faults for name, why in faults.skipped.items()}

    @property
    def summary(self) -> str:
        """The rows that are left out, by kind; empty if there are none."""
        return "; ".join(f"{faults.table}: {faults.summary}" for faults in self._faults if faults.counts)

    def errors(self, task: str, on_error: str) -> list[ConfigError]:
        """Returns all mistakes: of rows, unless they are skipped, and of tables; marks the rows that are used."""
        self.kept = {split: np.ones(len(rows), bool) for split, rows in self.rows.items()}
        if self._are_files:
            self._find_repeated()
        found = [*self._errors]
        has_train = "train" in self.rows
        if on_error == "raise" or not has_train:
            found += [error for faults in self._faults for error in faults.errors(may_be_skipped=has_train)]
        if not has_train:
            return found or [ConfigError("data.path", "no row belongs to train", fix="Add training rows.")]
        grouped = {split: rows.groups.values for split, rows in self.rows.items() if rows.roles.group is not None}
        found += shared_groups(grouped)
        found += self._unknown_labels(task) if task != "regression" else self._constant_targets()
        return found + self._other_separators()

    def _find_repeated(self) -> None:
        """Marks rows whose file an earlier row has, and all of them if their labels differ.

        Where each row has one of several labels, as in Open Images, the earlier row gets the labels of the others.
        """
        splits = list(self.rows)
        if not splits:
            return
        single = {
            split: rows.labels.single() for split, rows in self.rows.items() if isinstance(rows.labels, SeparatedLabels)
        }
        starts = np.cumsum([0, *(len(self.rows[split]) for split in splits)])
        hashes = np.concatenate([np.frombuffer(self.rows[split].hashes, np.int64) for split in splits])
        for group in _repeated(hashes):
            places = [self._place(splits, starts, position) for position in group.tolist()]
            first_split, first = places[0]
            file = self.rows[first_split].inputs[first]
            names = single.get(first_split)
            joined = None if names is None else {names[first]}
            of_first = self.rows[first_split]
            if names is not None and hash((file, names[first])) in of_first.absent:
                self._faults_of[first_split].add("contradiction", of_first.numbers[first], file, file=file)
            for split, row in places[1:]:
                rows = self.rows[split]
                if rows.inputs[row] != file:  # two files with the same hash
                    continue
                self.kept[split][row] = False
                if split != first_split:
                    kind = "other_split"
                elif joined is None or names is None:
                    kind = self._kind(rows, first, row)
                elif rows.roles.group is not None and rows.groups.codes[first] != rows.groups.codes[row]:
                    kind = "other_group"
                elif hash((file, names[row])) in rows.absent:
                    kind = "contradiction"
                elif names[row] not in joined or (not names[row] and rows.roles.present is not None):
                    joined.add(names[row])
                    self.num_joined += 1
                    continue
                else:
                    kind = "same_label"
                if kind == "other_label":
                    self.kept[split][first] = False
                self._faults_of[split].add(kind, rows.numbers[row], file, file=file)
            if joined is not None and len(joined) > 1:
                labels = self.rows[first_split].labels
                assert isinstance(labels, SeparatedLabels)
                labels.replace(first, joined)

    @staticmethod
    def _place(splits: Sequence[str], starts: np.ndarray, position: int) -> tuple[str, int]:
        number = int(np.searchsorted(starts, position, side="right")) - 1
        return splits[number], position - int(starts[number])

    @staticmethod
    def _kind(rows: Rows, first: int, row: int) -> str:
        assert rows.labels is not None
        return "same_label" if rows.labels.key(first) == rows.labels.key(row) else "other_label"

    def names(self) -> list[str]:
        """Returns the classes, labels or targets of the training rows."""
        labels = self.rows["train"].labels
        assert labels is not None
        return labels.names()

    def _unknown_labels(self, task: str) -> list[ConfigError]:
        names, what = self.names(), "classes" if task == "classification" else "labels"
        found = []
        for split, rows in self.rows.items():
            unknown = [] if rows.labels is None else sorted(set(rows.labels.names()) - set(names))
            if unknown:
                reason = f"{split} has {what} that train doesn't have: {listed(map(readable, unknown))}"
                fix = f"Train has {listed(map(readable, names))}. Rename them, or add them to train."
                found.append(ConfigError("data.label", reason, fix=fix))
        return found

    def _other_separators(self) -> list[ConfigError]:
        labels = self.rows["train"].labels
        names = labels.unseparated() if isinstance(labels, SeparatedLabels) else []
        reason = "labels that look like several, with another separator than in other cells"
        fix = "Use the same separator in all cells, or rename these labels."
        return [ConfigError("data.label", f"{reason}: {listed(map(readable, names))}", fix=fix)] if names else []

    def _constant_targets(self) -> list[ConfigError]:
        labels, names = self.rows["train"].labels, self.names()
        assert labels is not None
        values = labels.array(names)
        return [
            ConfigError("data.label", f"{name} is {values[0, column]:g} in every training row", fix="Leave it out.")
            for column, name in enumerate(names)
            if (values[:, column] == values[0, column]).all()
        ]


def _repeated(hashes: np.ndarray) -> list[np.ndarray]:
    """Returns the positions of each value that occurs more than once, in the order of the first ones."""
    order = hashes.argsort(kind="stable")
    is_same = np.diff(hashes[order]) == 0
    bounds = np.flatnonzero(np.diff(np.concatenate([[False], is_same, [False]]).astype(np.int8)))
    found = [order[start : stop + 1] for start, stop in bounds.reshape(-1, 2).tolist()]
    return sorted(found, key=lambda positions: int(positions[0]))  # hashes of text differ between processes
