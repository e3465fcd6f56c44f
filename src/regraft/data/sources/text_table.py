"""Texts and labels in the columns of a table: CSV, TSV, JSON Lines or Parquet, or several of them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.data.sources.labelled_table import LabelledTable, columns_of, labels_of
from regraft.data.sources.layout import SPLITS
from regraft.data.tables.collected import Collected
from regraft.data.tables.columns import Given
from regraft.data.tables.reading import Table, text_of
from regraft.data.text.cleaning import joined

if TYPE_CHECKING:
    from regraft.data.sources.base import Samples, Splits


_log = logging.getLogger(__name__)


class TextReader:
    """Reads the text of a row from one or more cells, see `regraft.data.text.cleaning.joined`."""

    def read(self, cells: Sequence[Any]) -> tuple[str, str]:
        """Returns the text and ""; or "" and the kind of fault."""
        if any(isinstance(cell, list | dict | bytes) for cell in cells):
            return "", "not_a_text"
        text = joined(map(text_of, cells))
        return text, "" if text else "no_text"

    def name_of(self, cells: Sequence[Any]) -> str:
        """Returns "": texts have no names."""
        return ""

    def elsewhere(self) -> str:
        """Returns "": texts are in the table."""
        return ""


@dataclass
class TextRows:
    """The texts of a table's rows."""

    noun: str = "text"
    are_files: bool = False
    _readers: dict[str, TextReader] = field(default_factory=lambda: dict.fromkeys(SPLITS, TextReader()))

    def readers(self, table: Table) -> Mapping[str, TextReader]:
        """Returns what reads the texts of a table's rows, by split."""
        return self._readers

    def samples(self, collected: Collected, names: Sequence[str]) -> tuple[dict[str, "Samples"], Mapping[str, str]]:
        """Returns the texts of each split; none is left out here."""
        import torch

        from regraft.data.text.samples import Texts

        parts: dict[str, Samples] = {}
        for split, rows in collected.rows.items():
            kept = collected.kept[split]
            letters, offsets = rows.inputs.chosen(kept)
            labels = labels_of(rows, kept, names)
            parts[split] = Texts(letters, torch.from_numpy(offsets), labels, columns_of(rows, kept))
        return parts, {}

    def unlabelled(self, collected: Collected) -> Path | None:
        """Returns the table of test texts without labels, if there is one."""
        if collected.unlabelled_tables:
            return collected.unlabelled_tables[0]
        if len(collected.unlabelled):
            message = "%s texts of test have no labels and are left out; a table of their own is predicted at the end."
            _log.info(message, f"{len(collected.unlabelled):,}")
        return None

    def warnings(self, splits: "Splits") -> list[str]:
        """Returns the sentences of what a check of the texts warns of."""
        from regraft.data.text.validation.check import warnings_of_texts

        return warnings_of_texts(splits)


class TextTableSource(LabelledTable):
    """Texts in tables.

    Args:
        text: column of the texts, or several, which the tokenizer's separator joins; None finds it by its name or its
            content, and the others by their names.
        label: column of the labels, or several.
        split: column that says train, val or test.
        group: column of what mustn't be in two splits, such as an author.
        weight: column of the weights of training texts.
        slices: other columns, whose values texts are evaluated by.

    The other arguments are those of `LabelledTable`.
    """

    name = "text_table"

    def __init__(
        self,
        *,
        path: str | Sequence[str] | Mapping[str, str],
        text: str | Sequence[str] | None = None,
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
    ) -> None:
        super().__init__(
            path,
            Given("text", text, label, split, group, weight, slices),
            separator=separator,
            delimiter=delimiter,
            encoding=encoding,
            unit=unit,
            on_error=on_error,
            task=task,
        )

    @property
    def _inputs(self) -> TextRows:
        return TextRows()
