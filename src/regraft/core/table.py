"""A small table for notebooks: rows as mappings, shown as text and HTML, and as a data frame with pandas."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

from regraft.core.text import escaped

_MAX_SHOWN = 20


class Table(Sequence[dict[str, Any]]):
    """Rows of named columns.

    `table[0]` is a row, `table["val/acc"]` a column, and `table[:5]` a table of some rows.

    Args:
        columns: values of all rows, by name; None where there is none.
        index: the column that names the rows; None if there is none.
    """

    def __init__(self, columns: Mapping[str, Iterable[Any]], index: str | None = None) -> None:
        self._columns = {name: list(values) for name, values in columns.items()}
        self._index = index

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._columns)

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()), []))

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice) -> "Table": ...
    @overload
    def __getitem__(self, key: str) -> list[Any]: ...
    def __getitem__(self, key: int | slice | str) -> Any:
        if isinstance(key, str):
            return list(self._columns[key])
        if isinstance(key, slice):
            return Table({name: values[key] for name, values in self._columns.items()}, self._index)
        if not -len(self) <= key < len(self):  # by which Python's loops end
            raise IndexError(key)
        return {name: values[key] for name, values in self._columns.items()}

    def to_frame(self) -> Any:
        """Returns the table as a `pandas.DataFrame`.

        Raises:
            ModuleNotFoundError: pandas isn't installed.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            message = "to_frame() needs pandas, which isn't installed; install it with pip install pandas."
            raise ModuleNotFoundError(message, name="pandas") from error
        frame = pandas.DataFrame(self._columns)
        return frame if self._index is None else frame.set_index(self._index)

    def __repr__(self) -> str:
        rows = [[" ".join(escaped(cell).split("\n")) for cell in row] for row in self._shown()]
        widths = [max(len(row[place]) for row in rows) for place in range(len(self._columns))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([*lines, *self._rest()])

    def _repr_html_(self) -> str:
        head, *rows = ([html.escape(cell) for cell in row] for row in self._shown())
        lines = [f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows]
        titles = "".join(f"<th>{cell}</th>" for cell in head)
        rest = "".join(f"<p>{html.escape(line)}</p>" for line in self._rest())
        return f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table>{rest}"

    def _shown(self) -> list[list[str]]:
        """Returns the names of the columns, and the first rows, as texts."""
        rows = [[_text(value) for value in row.values()] for row in self[:_MAX_SHOWN]]
        return [self.columns, *rows]

    def _rest(self) -> list[str]:
        return [f"... of {len(self):,} rows"] if len(self) > _MAX_SHOWN else []


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    return str(value)
