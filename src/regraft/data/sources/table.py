"""Images whose files and labels stand in a table: CSV, TSV, JSON Lines or Parquet, or several of them."""

import copy
import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from regraft.config.quoting import text_of
from regraft.core.errors import ConfigError, ConfigErrors, MissingFileError, listed, require
from regraft.data.findings import readable
from regraft.data.sources.checked_files import checked_files
from regraft.data.sources.folder import EXTENSIONS
from regraft.data.sources.layout import SPLITS, layout_of
from regraft.data.tables.collected import Collected
from regraft.data.tables.columns import Given, roles_of
from regraft.data.tables.files import FileFinder
from regraft.data.tables.located import tables_of
from regraft.data.tables.reading import Table, open_table
from regraft.data.tables.rows import Roles, Rows
from regraft.data.tables.targets import ClassLabels, ColumnLabels, Labels, Looks, SeparatedLabels, separator_for

if TYPE_CHECKING:
    from regraft.data.images.samples import FileImages
    from regraft.data.sources.base import Splits

_log = logging.getLogger(__name__)
_TASKS = ("classification", "multilabel", "regression")


class TableSource:
    """Images named in tables, in the order of the rows; the splits that the tables say are kept as they are.

    Args:
        path: of a table or of a folder with tables, several tables called after their splits, or the table of each
            split.
        root: folder of the files; None for that of each table.
        image: column of the files' names; None finds it by its name, as it does with the others.
        label: column of the labels, or several.
        split: column that says train, val or test.
        group: column of what mustn't be in two splits, such as a patient.
        weight: column of the weights of training images.
        slices: other columns, whose values images are evaluated by.
        separator: between several labels in a cell; None finds it.
        delimiter: of CSV files; None finds it.
        encoding: of text files.
        unit: of the numbers of a regression.
        on_error: what to do about rows and images that can't be used: `raise`, or `skip` to leave them out.
        task: what the labels are.
        trust: folders that paths may lead to besides `root`; only a command line can say it.
    """

    def __init__(
        self,
        *,
        path: str | Sequence[str] | Mapping[str, str],
        root: str | None = None,
        image: str | None = None,
        label: str | Sequence[str] | None = None,
        split: str | None = None,
        group: str | None = None,
        weight: str | None = None,
        slices: Sequence[str] = (),
        separator: str | None = None,
        delimiter: str | None = None,
        encoding: str = "utf-8",
        unit: str = "",
        on_error: str = "raise",
        task: str = "classification",
        trust: Sequence[str] = (),
    ) -> None:
        require(on_error in ("raise", "skip"), "data.on_error", on_error, "raise, skip")
        require(task in _TASKS, "task", task, _TASKS)
        is_one = delimiter is None or (isinstance(delimiter, str) and len(delimiter) == 1)
        require(is_one, "data.delimiter", delimiter, "one character, or null to find it")
        self._path = path
        self._given_root = root
        self._given = Given(image, label, split, group, weight, slices)
        self._separator = separator
        self._delimiter = delimiter
        self._encoding = encoding
        self._unit = unit
        self._on_error = on_error
        self._task = task
        self._trust = [str(Path(each).expanduser().absolute()) for each in trust if os.sep in each]
        self._has_value_range = False

    def with_value_range(self) -> Self:
        """Returns the same source for a `value_range`, with which floats and 32-bit integers can be decoded."""
        other = copy.copy(self)
        other._has_value_range = True
        return other

    def prepare(self) -> None:
        """Checks that the tables are there and have the columns; raises ConfigErrors otherwise."""
        if self._given_root is not None and not Path(self._given_root).expanduser().is_dir():
            raise MissingFileError("data.root", "there is no such folder", got=self._given_root)
        _ = self._roles

    def find_task(self) -> tuple[str, str]:
        """Returns the task that the options or the labels of the training table are plainly for, and why."""
        for task, (key, value, _) in self._of_one_task.items():
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
            return ClassLabels()
        if self._task == "multilabel" and len(columns) == 1:
            return SeparatedLabels(separator_for(self._separator, self._looks))
        return ColumnLabels(columns, is_binary=self._task == "multilabel")

    @property
    def _of_one_task(self) -> dict[str, tuple[str, str | None, str]]:
        """The options that are for one task alone: by task a key, its value, and what has it."""
        return {
            "multilabel": ("separator", self._separator, "several labels in a cell have a separator"),
            "regression": ("unit", self._unit, "numbers have a unit"),
        }

    @property
    def _check(self) -> str:
        """The command that shows all that is wrong."""
        root = [] if self._given_root is None else [f"data.root={text_of(self._given_root)}"]
        return shlex.join(["regraft", "data", "check", "data=table", f"data.path={text_of(self._path)}", *root])

    @cached_property
    def _root(self) -> str:
        """The folder that files are relative to."""
        if self._given_root is not None:
            return os.path.abspath(Path(self._given_root).expanduser())  # noqa: PTH100 (links are kept)
        folders = [os.path.abspath(table.path.parent) for table, _ in self._tables]  # noqa: PTH100
        return os.path.commonpath(folders)

    def _finders(self, table: Table) -> dict[str, FileFinder]:
        """Returns what finds the files of a table's rows, by split: Kaggle's ids lie in train_images, test_images."""
        beside, root = os.path.abspath(table.path.parent), self._root  # noqa: PTH100
        of_splits = layout_of([path.name for path in Path(root).iterdir() if path.is_dir()]).folders
        first = [beside, root] if self._given_root is None else [root, beside]
        folders = {split: [*first, *(f"{root}{os.sep}{name}" for name in of_splits.get(split, []))] for split in SPLITS}
        return {split: FileFinder(root, folders[split], self._trust, EXTENSIONS) for split in SPLITS}

    def splits(self) -> "Splits":
        """Returns the splits that the tables say; all rows are train if they say none. New images are decoded once.

        Raises:
            ConfigErrors: rows that can't be used, unless they are skipped, and mistakes of whole tables.
        """
        from regraft.data.images.validation.listed_files import warnings_of_listed
        from regraft.data.sources.base import Splits

        for task, (key, value, what) in self._of_one_task.items():
            if value and task != self._task:
                fix = f"Use task={task}, or leave it out."
                raise ConfigError(f"data.{key}", f"only {what}, and the task is {self._task}", got=value, fix=fix)
        collected = self._collected()
        names = collected.names()
        splits = list(collected.rows)
        paths = [file for split in splits for file in collected.rows[split].files]
        files = checked_files(
            Path(self._root), paths, collected.closed, self._on_error, self._check, has_range=self._has_value_range
        )
        parts, start = {}, 0
        for split in splits:
            rows, kept = collected.rows[split], collected.kept[split]
            if files.skipped:
                kept &= np.array([file not in files.skipped for file in rows.files])
            parts[split] = _images(self._root, rows, kept, names, files.hashes(start, start + len(rows)))
            start += len(rows)
        errors = _lost(parts, names, self._task)
        if errors:
            raise ConfigErrors(errors)
        skipped = collected.skipped | dict(files.skipped)
        unlabelled = tuple(Path(self._root, file) for file in collected.unlabelled)
        _log_rows_without_labels(parts, self._task)
        official = parts["train"], parts.get("val"), parts.get("test")
        found = Splits(tuple(names), *official, skipped, unlabelled or None, task=self._task, unit=self._unit)
        if warnings := warnings_of_listed(found, files, has_range=self._has_value_range):
            _log.warning("A data check warns: %s `%s` has the details.", " ".join(warnings), self._check)
        return found

    def _collected(self) -> Collected:
        """Returns the rows of all tables; raises ConfigErrors with all that is wrong."""
        collected = Collected()
        for table, split in self._tables:
            roles, _ = self._roles[table.path]
            make_labels = partial(self._make_labels, roles.labels)
            collected.read(table, roles, split, self._finders(table), make_labels)
            _log_roles(table, roles)
        errors = collected.errors(self._task, self._on_error)
        if errors:
            raise ConfigErrors(errors)
        if collected.summary:
            _log.warning("Rows that are left out (data.on_error=skip): %s.", collected.summary)
        return collected


def _log_roles(table: Table, roles: Roles) -> None:
    named = {"files": roles.image, "labels": ", ".join(roles.labels), "split": roles.split, "group": roles.group}
    named |= {"weight": roles.weight, "slices": ", ".join(roles.slices)}
    taken = "; ".join(f"{what}: {readable(name)}" for what, name in named.items() if name)
    unused = [readable(name) for name in table.columns if name and name not in roles.columns]
    _log.info("%s: the columns are %s%s.", table.path, taken, f"; not used: {listed(unused)}" if unused else "")


def _log_rows_without_labels(parts: Mapping[str, Any], task: str) -> None:
    """Says how many images have none of several labels, which is allowed."""
    if task != "multilabel":
        return
    counts = {split: int((part.labels.sum(1) == 0).sum()) for split, part in parts.items()}
    if any(counts.values()):
        _log.info(
            "Images without a label: %s.", ", ".join(f"{num:,} of {split}" for split, num in counts.items() if num)
        )


def _lost(parts: Mapping[str, Any], names: Sequence[str], task: str) -> list[ConfigError]:
    """Returns the mistakes of classes that have no training image left, and of splits without any."""
    empty = [split for split, part in parts.items() if not len(part)]
    errors = [ConfigError("data.path", f"no row of {split} can be used") for split in empty]
    if task == "classification":
        counts = np.bincount(parts["train"].labels.numpy(), minlength=len(names))
        lost = [readable(name) for name, count in zip(names, counts.tolist(), strict=True) if not count]
        if lost:
            errors.append(ConfigError("data.path", f"no row of {listed(lost)} in train can be used"))
    return errors


def _images(root: str, rows: Rows, kept: np.ndarray, names: Sequence[str], hashes: np.ndarray) -> "FileImages":
    import torch

    from regraft.data.images.samples import FileImages
    from regraft.data.sources.base import Columns

    assert rows.labels is not None
    has = rows.roles
    columns = Columns(
        weights=torch.from_numpy(np.frombuffer(rows.weights, np.float32)[kept]) if has.weight else None,
        groups=rows.groups.texts[kept] if has.group else None,
        slices={name: coded.texts[kept] for name, coded in zip(has.slices, rows.slices, strict=True)},
    )
    files = [file for file, is_kept in zip(rows.files, kept.tolist(), strict=True) if is_kept]
    labels = torch.from_numpy(rows.labels.array(names)[kept])
    return FileImages.from_names(root, files, labels, hashes[kept] if hashes.any() else None, columns)
