"""Tables on disk: CSV, TSV, JSON Lines and Parquet, read as a stream, and arrays in JSON, read as a whole. No torch.

Values of text files stay text. The standard library's csv keeps line numbers, takes no `007` for a number, and needs
no memory for what isn't kept.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from regraft.core.errors import ConfigError, MissingFileError, listed
from regraft.data.findings import HALF_CHARACTER, readable
from regraft.data.tables.delimited import Note, delimiter_of, lines_are_rows, lines_as_rows, parsed
from regraft.data.tables.json_rows import NUM_LOOKED_AT, is_array, items_of, json_columns, objects_of

SUFFIXES = {
    **dict.fromkeys((".csv", ".tsv", ".tab", ".txt"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "json"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}
_ARCHIVES = (".gz", ".zip", ".bz2", ".xz", ".zst", ".7z", ".tar")
_FOREIGN = {
    b"PK\x03\x04": ("an Excel workbook or a zip archive", "Save it as CSV, or unpack it"),
    b"\xd0\xcf\x11\xe0": ("an Excel workbook", "Save it as CSV"),
    b"\x1f\x8b": ("compressed with gzip", "Unpack it"),
    b"PAR1": ("Parquet", "Rename it to .parquet"),
    b"version https://git-lfs": ("a pointer of Git LFS in place of the table", "Run git lfs pull"),
    b"<!DOCTYPE": ("a web page, such as that of a login", "Download the table again"),
    b"<!doctype": ("a web page, such as that of a login", "Download the table again"),
    b"<html": ("a web page, such as that of a login", "Download the table again"),
}
"""First bytes of files that aren't tables, whatever they are called: what they are, and the fix."""
_UNDECODABLE = re.compile("[\ud800-\udfff]")
_BATCH = 4_096


@dataclass(frozen=True)
class Table:
    """A table on disk.

    Attributes:
        columns: their names, in order.
        kind: `csv`, `json` (an object a line), `array` (of objects in JSON) or `parquet`.
        lines_are_rows: whether quotes in a CSV file can't hold the ends of lines, see `delimited.lines_are_rows`.
    """

    path: Path
    columns: tuple[str, ...]
    kind: str
    encoding: str
    delimiter: str = ","
    lines_are_rows: bool = False

    @property
    def unit(self) -> str:
        """What rows are numbered by: `line` or `row`."""
        return "row" if self.kind in ("parquet", "array") else "line"

    @property
    def noun(self) -> str:
        """What a row is called."""
        return "row"

    def place(self, number: int) -> str:
        """Returns which row a number is, such as `line 3`."""
        return f"{self.unit} {number:,}"

    def rows(self, columns: Sequence[str], note: Note) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yields the number of each row and its values in some columns; rows that can't be read are noted.

        The number is that of the row's first line, in Parquet and in an array of the row.

        Values are text, and in JSON Lines and Parquet also numbers, booleans, lists and None.

        Raises:
            ConfigError: the rest of the table can't be read.
        """
        read = {"csv": _csv_rows, "json": _json_rows, "array": _json_rows, "parquet": _parquet_rows}[self.kind]
        return read(self, columns, note)


def open_table(path: Path, encoding: str = "utf-8", delimiter: str | None = None) -> Table:
    """Returns a table, of which only the start is read.

    Args:
        delimiter: of a CSV file; None finds it.

    Raises:
        ConfigError: it isn't there, isn't a table, or has no columns or several of a name.
    """
    if not path.is_file():
        raise MissingFileError("data.path", f"there is no table {readable(str(path))}", fix="Use data.path=TABLE.csv.")
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        suffix = path.suffix.lower()
        fix = "Unpack it." if suffix in _ARCHIVES else "If it is text, rename it to .csv, .tsv or .jsonl."
        if suffix in (".xlsx", ".xls", ".ods"):
            fix = "Save it as CSV."
        raise ConfigError("data.path", got=readable(str(path)), allowed=f"a table: {', '.join(SUFFIXES)}", fix=fix)
    if path.stat().st_size == 0:
        raise ConfigError("data.path", f"{readable(str(path))} is empty", fix="Give a table with rows.")
    _require_table(path, kind)
    are_rows = False
    if kind == "csv":
        found = delimiter or delimiter_of(path, encoding)
        are_rows = found == "\t" and lines_are_rows(path, encoding)
        header = next(parsed(path, encoding, found), (0, []))[1]
        columns = [name.strip() for name in header]
        if not columns:
            raise ConfigError("data.path", f"{readable(str(path))} has only blank lines", fix="Give a table with rows.")
    else:
        found = ","
        columns = _parquet_columns(path) if kind == "parquet" else json_columns(path, encoding)
        kind = "array" if kind == "json" and is_array(path, encoding) else kind
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        reason = f"{readable(str(path))} has several columns called {listed(map(readable, twice))}"
        raise ConfigError("data.path", reason, fix="Rename them.")
    return Table(path, tuple(columns), kind, encoding, found, are_rows)


def _require_table(path: Path, kind: str) -> None:
    """Raises ConfigError if a file begins as no table of its kind does."""
    try:
        with path.open("rb") as file:
            head = file.read(max(map(len, _FOREIGN)))
    except OSError as error:
        raise ConfigError("data.path", f"can't read {readable(str(path))} ({error.strerror})") from error
    for start, (what, fix) in _FOREIGN.items():
        if head.startswith(start) and not (kind == "parquet" and start == b"PAR1"):
            raise ConfigError("data.path", f"{readable(str(path))} is {what}", fix=f"{fix}.")


def _csv_rows(table: Table, columns: Sequence[str], note: Note) -> Iterator[tuple[int, tuple[Any, ...]]]:
    size, places = len(table.columns), [table.columns.index(name) for name in columns]
    given = table.path, table.encoding, table.delimiter
    rows = lines_as_rows(*given) if table.lines_are_rows else parsed(*given, note)
    header = next(rows, (0, []))[1]
    for number, row in rows:
        if row == header:
            note("header_again", number, "")
            continue
        if len(row) != size:
            note("num_cells", number, f"{len(row)} in place of {size}")
            continue
        values = tuple([row[place] for place in places])
        if (bad := _undecodable(values)) is not None:
            note("encoding", number, bad)
            continue
        yield number, values


def _whole(value: Any) -> Any:
    """Returns a value of JSON, in text of which halves of characters are replaced, as of an emoji that was cut off."""
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return HALF_CHARACTER.sub("\ufffd", value) if isinstance(value, str) and not value.isascii() else value


def _undecodable(values: Sequence[str]) -> str | None:
    return next((value for value in values if not value.isascii() and _UNDECODABLE.search(value)), None)


def _json_rows(table: Table, columns: Sequence[str], note: Note) -> Iterator[tuple[int, tuple[Any, ...]]]:
    read = items_of if table.kind == "array" else objects_of
    for number, found in read(table.path, table.encoding):
        if isinstance(found, str):
            note("not_an_object", number, found)
            continue
        values = tuple([_whole(found.get(name)) for name in columns])
        if (bad := _undecodable([value for value in values if isinstance(value, str)])) is not None:
            note("encoding", number, bad)
            continue
        yield number, values


def _parquet_file(path: Path) -> Any:
    if find_spec("pyarrow") is None:
        fix = "Run pip install 'regraft[parquet]', or save the table as CSV."
        raise ConfigError("data.path", "Parquet needs pyarrow, which isn't installed", got=readable(str(path)), fix=fix)
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(path)
    except (ArrowException, OSError) as error:
        reason = f"{readable(str(path))} isn't a whole Parquet file ({_first_line(error)})"
        raise ConfigError("data.path", reason, fix="Copy or download it again.") from error


def _parquet_columns(path: Path) -> list[str]:
    with _parquet_file(path) as file:
        return list(file.schema_arrow.names)


def _parquet_rows(table: Table, columns: Sequence[str], note: Note) -> Iterator[tuple[int, tuple[Any, ...]]]:
    from pyarrow import ArrowException

    number = 0
    with _parquet_file(table.path) as file:
        try:
            for batch in file.iter_batches(_BATCH, columns=list(columns)):
                lists = [batch.column(name).to_pylist() for name in columns]
                for values in zip(*lists, strict=True):
                    number += 1
                    yield number, values
        except (ArrowException, OSError, UnicodeDecodeError) as error:
            reason = f"{readable(str(table.path))} is damaged after row {number:,} ({_first_line(error)})"
            raise ConfigError("data.path", reason, fix="Copy or download it again.") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def text_of(value: Any) -> str:
    """Returns a value as text, without blanks at its ends; empty for what is missing.

    A number that a file has as a number is written as short as possible: 7.0 is 7.
    """
    if isinstance(value, str):
        return value.strip()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else str(value)


def first_rows(table: Table, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """Returns the values of the first rows in some columns; those that can't be read are left out."""
    rows = table.rows(columns, lambda kind, number, detail: None)
    try:
        return [values for _, values in islice(rows, NUM_LOOKED_AT)]
    except ConfigError:  # which is reported when all rows are read
        return []
