"""Images whose files and labels stand in a table: CSV, TSV, JSON Lines or Parquet, or several of them."""

import copy
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from regraft.config.quoting import text_of
from regraft.core.errors import MissingFileError, listed
from regraft.data.findings import readable
from regraft.data.sources.checked_files import CheckedFiles, checked_files
from regraft.data.sources.folder import EXTENSIONS
from regraft.data.sources.labelled_table import LabelledTable, check_command, columns_of, labels_of
from regraft.data.sources.layout import SPLITS, layout_of, says_images
from regraft.data.tables.collected import Collected
from regraft.data.tables.columns import Given
from regraft.data.tables.files import FileFinder
from regraft.data.tables.reading import Table

if TYPE_CHECKING:
    from regraft.data.sources.base import Samples, Splits

_log = logging.getLogger(__name__)


@dataclass
class ImageRows:
    """The images of a table's rows, in files below a root folder.

    Args:
        root: folder of the files, without dots in its path.
        is_root_first: whether files are searched in the root before they are beside the table.
        trusted: folders that paths may lead to besides.
        on_error: as in `TableSource`, as is `has_value_range`.
        check: the command that shows all that is wrong.
    """

    root: str
    is_root_first: bool
    trusted: Sequence[str]
    on_error: str
    check: str
    has_value_range: bool
    noun: str = "image"
    are_files: bool = True
    _finders: list[FileFinder] = field(default_factory=list)
    _files: CheckedFiles | None = None

    def readers(self, table: Table) -> dict[str, FileFinder]:
        """Returns what finds the files of a table's rows, by split: Kaggle's ids lie in train_images, test_images."""
        beside, root = os.path.abspath(table.path.parent), self.root  # noqa: PTH100 (links are kept)
        below = sorted(path.name for path in Path(root).iterdir() if path.is_dir())
        of_splits = layout_of(below).folders
        first = [root, beside] if self.is_root_first else [beside, root]
        last = [f"{root}{os.sep}{name}" for name in below if says_images(name)]
        folders = {
            split: [*first, *(f"{root}{os.sep}{name}" for name in of_splits.get(split, [])), *last] for split in SPLITS
        }
        found = {}
        for split in SPLITS:
            # An id that its own split's folder lacks may be another image's in the folder of another split.
            others = {name for each in SPLITS if each != split for name in of_splits.get(each, [])}
            closed_off = others if of_splits.get(split) else ()
            found[split] = FileFinder(root, folders[split], self.trusted, EXTENSIONS, closed_off)
        self._finders += found.values()
        return found

    def samples(self, collected: Collected, names: Sequence[str]) -> tuple[dict[str, "Samples"], Mapping[str, str]]:
        """Returns the images of each split, which are decoded once to check them, and why others are left out."""
        from regraft.data.images.samples import FileImages

        self._log_places()
        splits = list(collected.rows)
        paths = [file for split in splits for file in collected.rows[split].inputs]
        closed = {path: why for finder in self._finders for path, why in finder.closed.items()}
        files = checked_files(Path(self.root), paths, closed, self.on_error, self.check, has_range=self.has_value_range)
        self._files = files
        parts: dict[str, Samples] = {}
        start = 0
        for split in splits:
            rows, kept = collected.rows[split], collected.kept[split]
            if files.skipped:
                kept &= np.array([file not in files.skipped for file in rows.inputs])
            hashes = files.hashes(start, start + len(rows))
            used = [file for file, is_kept in zip(rows.inputs, kept.tolist(), strict=True) if is_kept]
            known = hashes[kept] if hashes.any() else None
            labels = labels_of(rows, kept, names)
            parts[split] = FileImages.from_names(self.root, used, labels, known, columns_of(rows, kept))
            start += len(rows)
        return parts, files.skipped

    def _log_places(self) -> None:
        """Says in which folders files were found that the table doesn't say; warns if others were where it says."""
        found_in = sum((finder.found_in for finder in self._finders), Counter[str]())
        shown = listed(f"{readable(folder)} ({num:,})" for folder, num in sorted(found_in.items()))
        if found_in and any(finder.num_in_place for finder in self._finders):
            _log.warning(
                "Files that aren't in the folder of the others, but in %s. If they are other images of the same names, "
                "such as masks, leave their rows out.",
                shown,
            )
        elif found_in:
            _log.info("Files whose folder the table doesn't say are in %s.", shown)

    def unlabelled(self, collected: Collected) -> tuple[Path, ...] | None:
        """Returns the files of test images without labels, if there are some."""
        return tuple(Path(self.root, file) for file in collected.unlabelled) or None

    def warnings(self, splits: "Splits") -> list[str]:
        """Returns the sentences of what a check of the images warns of."""
        from regraft.data.images.validation.listed_files import warnings_of_listed

        assert self._files is not None, "samples() comes first"
        return warnings_of_listed(splits, self._files, has_range=self.has_value_range)


class TableSource(LabelledTable):
    """Images named in tables.

    Args:
        root: folder of the files; None for that of each table.
        image: column of the files' names; None finds it by its name, as it does with the others.
        label: column of the labels, or several.
        split: column that says train, val or test.
        group: column of what mustn't be in two splits, such as a patient.
        weight: column of the weights of training images.
        present: where each row has one of several labels, column that says by 1 and 0 whether that is there.
        slices: other columns, whose values images are evaluated by.
        trust: folders that paths may lead to besides `root`; only a command line can say it.

    The other arguments are those of `LabelledTable`.
    """

    name = "table"

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
        present: str | None = None,
        slices: Sequence[str] = (),
        separator: str | None = None,
        delimiter: str | None = None,
        encoding: str = "utf-8",
        unit: str = "",
        on_error: str = "raise",
        task: str = "classification",
        trust: Sequence[str] = (),
    ) -> None:
        super().__init__(
            path,
            Given("image", image, label, split, group, weight, slices, present),
            separator=separator,
            delimiter=delimiter,
            encoding=encoding,
            unit=unit,
            on_error=on_error,
            task=task,
        )
        self._given_root = root
        self._trusted = trusted_folders(trust)
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
        super().prepare()

    @property
    def _check(self) -> str:
        root = [] if self._given_root is None else [f"data.root={text_of(self._given_root)}"]
        return check_command(self.name, self._path, *root)

    @property
    def _inputs(self) -> ImageRows:
        is_given = self._given_root is not None
        return ImageRows(self._root, is_given, self._trusted, self._on_error, self._check, self._has_value_range)

    @cached_property
    def _root(self) -> str:
        """The folder that files are relative to."""
        if self._given_root is not None:
            return os.path.abspath(Path(self._given_root).expanduser())  # noqa: PTH100 (links are kept)
        folders = [os.path.abspath(table.path.parent) for table, _ in self._tables]  # noqa: PTH100
        return os.path.commonpath(folders)


def trusted_folders(trust: Sequence[str]) -> list[str]:
    """Returns the folders among what is trusted."""
    return [str(Path(each).expanduser().absolute()) for each in trust if os.sep in each]
