"""What all tables of labelled inputs share: options, columns, labels, splits, and the faults of rows."""

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from regraft.config.quoting import text_of
from regraft.core.errors import ConfigError, ConfigErrors, listed, require
from regraft.data.findings import doubts_of, readable
from regraft.data.sources.layout import SPLITS
from regraft.data.tables.collected import Collected
from regraft.data.tables.columns import Given, roles_of
from regraft.data.tables.located import tables_of
from regraft.data.tables.looks import Looks, separator_for
from regraft.data.tables.name_doubts import warn_of_joined_names, warn_of_names_alike
from regraft.data.tables.reading import Table, open_table
from regraft.data.tables.rows import InputReader, Roles, Rows
from regraft.data.tables.targets import ClassLabels, ColumnLabels, Labels, OneHotLabels, SeparatedLabels

if TYPE_CHECKING:
    from torch import Tensor

    from regraft.data.sources.base import Columns, Samples, Splits

_log = logging.getLogger(__name__)
_TASKS = ("classification", "multilabel", "regression")


class RowInputs(Protocol):
    """The inputs of a table's rows, of one modality.

    Attributes:
        noun: what an input is called, `image` or `text`.
        are_files: whether the table has the inputs' files rather than the inputs.
    """

    noun: str
    are_files: bool

    def readers(self, table: Table) -> Mapping[str, InputReader]:
        """Returns what reads the inputs of a table's rows, by split."""

    def samples(self, collected: Collected, names: Sequence[str]) -> tuple[dict[str, "Samples"], Mapping[str, str]]:
        """Returns the samples of each split, and why others are left out, by name.

        Args:
            names: of the classes, labels or targets.

        Raises:
            ConfigErrors: inputs that can't be used, unless they are skipped.
        """

    def unlabelled(self, collected: Collected) -> Path | tuple[Path, ...] | None:
        """Returns the files of test inputs without labels, or the table of them, if there are some."""

    def warnings(self, splits: "Splits") -> list[str]:
        """Returns the sentences of what a check of the data warns of."""


class LabelledTable:
    """Labelled inputs in tables, in the order of the rows; the splits that the tables say are kept as they are.

    Args:
        path: of a table or of a folder with tables, several tables called after their splits, or the table of each
            split.
        given: the columns.
        separator: between several labels in a cell; None finds it.
        delimiter: of CSV files; None finds it.
        encoding: of text files.
        unit: of the numbers of a regression.
        on_error: what to do about rows and inputs that can't be used: `raise`, or `skip` to leave them out.
        task: what the labels are.
    """

    name: str
    """Of the data config, such as `table`."""

    def __init__(
        self,
        path: str | Sequence[str] | Mapping[str, str],
        given: Given,
        *,
        separator: str | None,
        delimiter: str | None = None,
        encoding: str = "utf-8",
        unit: str,
        on_error: str,
        task: str,
    ) -> None:
        require(on_error in ("raise", "skip"), "data.on_error", on_error, "raise, skip")
        require(task in _TASKS, "task", task, _TASKS)
        is_one = delimiter is None or (isinstance(delimiter, str) and len(delimiter) == 1)
        require(is_one, "data.delimiter", delimiter, "one character, or null to find it")
        self._path = path
        self._given = given
        self._separator = separator
        self._delimiter = delimiter
        self._encoding = encoding
        self._unit = unit
        self._on_error = on_error
        self._task = task

    @property
    def _inputs(self) -> RowInputs:
        """What reads the inputs, which belongs to one reading of the tables."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Checks that the tables are there and have the columns; raises ConfigErrors otherwise."""
        _ = self._roles

    def find_task(self) -> tuple[str, str]:
        """Returns the task that the options or the labels of the training table are plainly for, and why."""
        for task, key, value, _ in self._of_one_task:
            if value:
                return task, f"data.{key} is given"
        return self._looks.task, self._looks.why

    @cached_property
    def _tables(self) -> list[tuple[Table, str | None]]:
        """The tables, that of train first, and the split that each holds, None if its rows say it."""
        tables, errors = [], []
        for path, split in sorted(tables_of(self._path).items(), key=lambda item: SPLITS.index(item[1] or "train")):
            try:
                tables.append((open_table(path, self._encoding, self._delimiter), split))
            except ConfigError as error:
                errors.append(error)
        if errors:
            raise ConfigErrors(errors)
        return tables

    @cached_property
    def _roles(self) -> dict[Path, tuple[Roles, Looks | None]]:
        """The roles of each table's columns, and what its labels look like; the training table comes first."""
        found, errors = {}, []
        of_train: tuple[str, ...] = ()
        for table, split in self._tables:
            roles, looks, mistakes = roles_of(table, self._given, split, of_train)
            errors += mistakes
            if roles is not None:
                found[table.path] = roles, looks
                of_train = of_train or roles.labels
        if errors:
            raise ConfigErrors(errors)
        return found

    @property
    def _looks(self) -> Looks:
        """What the labels of the training table look like."""
        return next(looks for _, looks in self._roles.values() if looks is not None)

    def _make_labels(self, columns: Sequence[str]) -> Labels:
        if self._task == "classification":
            if len(columns) > 1 and self._looks.task == "multilabel":
                return OneHotLabels(columns)
            if len(columns) > 1:
                reason = "a class is in one column, and the task is classification"
                fix = "Name one, or use task=multilabel or regression."
                raise ConfigError("data.label", reason, got=list(columns), fix=fix)
            return ClassLabels()
        if self._task == "multilabel" and len(columns) == 1:
            return SeparatedLabels(separator_for(self._separator, self._looks))
        return ColumnLabels(columns, is_binary=self._task == "multilabel")

    @property
    def _of_one_task(self) -> list[tuple[str, str, str | None, str]]:
        """The options that are for one task alone: the task, a key, its value, and what has it."""
        return [
            ("multilabel", "separator", self._separator, "several labels in a cell have a separator"),
            ("multilabel", "present", self._given.present, "rows of one of several labels say whether it is there"),
            ("regression", "unit", self._unit, "numbers have a unit"),
        ]

    @property
    def _check(self) -> str:
        """The command that shows all that is wrong."""
        return check_command(self.name, self._path)

    def splits(self) -> "Splits":
        """Returns the splits that the tables say; all rows are train if they say none. New images are decoded once.

        Raises:
            ConfigErrors: rows that can't be used, unless they are skipped, and mistakes of whole tables.
        """
        from regraft.data.sources.base import Splits

        for task, key, value, what in self._of_one_task:
            if value and task != self._task:
                fix = f"Use task={task}, or leave it out."
                raise ConfigError(f"data.{key}", f"only {what}, and the task is {self._task}", got=value, fix=fix)
        inputs = self._inputs
        collected = self._collected(inputs)
        names = collected.names()
        warn_of_names_alike(names, self._task)
        warn_of_joined_names(names, self._task)
        parts, skipped = inputs.samples(collected, names)
        errors = _lost(parts, names, self._task)
        if errors:
            raise ConfigErrors(errors)
        _log_rows_without_labels(parts, self._task, f"{inputs.noun.capitalize()}s")
        official = parts["train"], parts.get("val"), parts.get("test")
        skipped = collected.skipped | dict(skipped)
        unlabelled = inputs.unlabelled(collected)
        found = Splits(tuple(names), *official, skipped, unlabelled, task=self._task, unit=self._unit)
        return replace(found, doubts=doubts_of(inputs.warnings(found), self._check))

    def _collected(self, inputs: RowInputs) -> Collected:
        """Returns the rows of all tables; raises ConfigErrors with all that is wrong."""
        collected = Collected(are_files=inputs.are_files)
        for table, split in self._tables:
            roles, _ = self._roles[table.path]
            if self._task != "multilabel":
                roles = replace(roles, present=None)
            make_labels = partial(self._make_labels, roles.labels)
            collected.read(table, roles, split, inputs.readers(table), make_labels)
            _log_roles(table, roles, "files" if inputs.are_files else f"{inputs.noun}s")
        errors = collected.errors(self._task, self._on_error)
        if collected.summary and self._on_error == "skip":
            _log.warning("Rows that are left out (data.on_error=skip): %s.", collected.summary)
        if errors:
            raise ConfigErrors(errors)
        if collected.num_joined:
            _log.info("Rows that add a label to the file of an earlier row: %s.", f"{collected.num_joined:,}")
        return collected


def check_command(name: str, path: str | Sequence[str] | Mapping[str, str], *others: str) -> str:
    """Returns the command that checks the data of a table."""
    return shlex.join(["regraft", "data", "check", f"data={name}", f"data.path={text_of(path)}", *others])


def columns_of(rows: Rows, kept: np.ndarray) -> "Columns":
    """Returns weights, groups and slices of the rows that are kept."""
    import torch

    from regraft.data.sources.base import Columns

    has = rows.roles
    return Columns(
        weights=torch.from_numpy(np.frombuffer(rows.weights, np.float32)[kept]) if has.weight else None,
        groups=rows.groups.texts[kept] if has.group else None,
        slices={name: coded.texts[kept] for name, coded in zip(has.slices, rows.slices, strict=True)},
    )


def labels_of(rows: Rows, kept: np.ndarray, names: Sequence[str]) -> "Tensor":
    """Returns the labels of the rows that are kept."""
    import torch

    assert rows.labels is not None
    return torch.from_numpy(rows.labels.array(names)[kept])


def _log_roles(table: Table, roles: Roles, what: str) -> None:
    named = {what: ", ".join(roles.inputs), "labels": ", ".join(roles.labels), "split": roles.split}
    named |= {"group": roles.group, "weight": roles.weight, "slices": ", ".join(roles.slices)}
    named |= {"whether the label is there": roles.present}
    taken = "; ".join(f"{what}: {readable(name)}" for what, name in named.items() if name)
    unused = [readable(name) for name in table.columns if name and name not in roles.columns]
    _log.info("%s: the columns are %s%s.", table.path, taken, f"; not used: {listed(unused)}" if unused else "")


def _log_rows_without_labels(parts: Mapping[str, Any], task: str, inputs: str) -> None:
    """Says how many inputs have none of several labels, which is allowed."""
    if task != "multilabel":
        return
    counts = {split: int((part.labels.sum(1) == 0).sum()) for split, part in parts.items()}
    if any(counts.values()):
        nums = ", ".join(f"{num:,} of {split}" for split, num in counts.items() if num)
        _log.info("%s without a label: %s.", inputs, nums)
    if all(bool((part.labels.sum(1) == 1).all()) for part in parts.values()):
        _log.info("%s have exactly one label each. If labels exclude each other, use task=classification.", inputs)


def _lost(parts: Mapping[str, Any], names: Sequence[str], task: str) -> list[ConfigError]:
    """Returns the mistakes of classes that have no training sample left, and of splits without any."""
    empty = [split for split, part in parts.items() if not len(part)]
    errors = [ConfigError("data.path", f"no row of {split} can be used") for split in empty]
    if task == "classification":
        counts = np.bincount(parts["train"].labels.numpy(), minlength=len(names))
        lost = [readable(name) for name, count in zip(names, counts.tolist(), strict=True) if not count]
        if lost:
            errors.append(ConfigError("data.path", f"no row of {listed(lost)} in train can be used"))
    return errors
