"""Whether the first line of a CSV file is its header or a row. No torch."""

import re
from collections.abc import Sequence

from regraft.core.errors import ConfigError, listed
from regraft.data.findings import readable
from regraft.data.tables.faults import fix_of, reason_of
from regraft.data.tables.reading import Table, first_rows, text_of

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_FASTTEXT = "__label__"


def no_header_error(table: Table, role: str) -> ConfigError | None:
    """Returns the mistake of a table whose first line is a row; for tables without a column of an expected name.

    It is one if a name is a value of the rows below, too, as a class is, or a number above nothing but numbers.

    Args:
        role: what the inputs are, `image` or `text`.
    """
    name = readable(table.path.name)
    if any(column.startswith(_FASTTEXT) for column in table.columns):
        fix = "Write a table with the columns label and text."
        return ConfigError("data.path", f"{name} is in fastText's format, which isn't a table", fix=fix)
    rows = first_rows(table, table.columns)
    kinds: set[str] = set()
    if not rows and not any(table.rows(table.columns, lambda kind, number, detail: kinds.add(kind))) and kinds:
        reason = f"{name} has no row that can be read: each has {listed(map(reason_of, sorted(kinds)))}"
        return ConfigError("data.path", reason, fix=f"{fix_of(reason_of(min(kinds)))}.")
    cells = [list(map(text_of, column)) for column in zip(*rows, strict=True)]
    of_row = [_is_of_row(*each) for each in zip(table.columns, cells, strict=False)]
    if table.kind != "csv" or len(cells) < 2 or True not in of_row or _are_numbered(table.columns):
        return None
    label, lengths = of_row.index(True), [sum(map(len, column)) for column in cells]
    names = [f"column{place}" for place in range(1, len(cells) + 1)]
    names[lengths.index(max(lengths))], names[label] = role, "label"
    fix = f"Put a line before it that names the columns, such as {','.join(names)}."
    fix += f" If it is a header, name the column of the {role}s: data.{role}=COLUMN."
    return ConfigError("data.path", f"{name} has no header: its first line is a row", fix=fix)


def _are_numbered(columns: Sequence[str]) -> bool:
    """Whether columns are called 0, 1, ..., as pandas calls those without names; the first may number the rows."""
    names = columns[1:] if columns[0] == "" else columns
    return list(names) == list(map(str, range(len(names))))


def _is_of_row(name: str, cells: Sequence[str]) -> bool:
    is_number = _NUMBER.fullmatch(name) is not None
    return bool(name) and (name in cells or (is_number and all(map(_NUMBER.fullmatch, cells))))
