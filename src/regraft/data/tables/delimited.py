"""Text files of tables, opened in their encoding, and the rows of those with delimiters: CSV and TSV. No torch."""

import codecs
import csv
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Self

from regraft.core.errors import ConfigError
from regraft.data.findings import readable

Note = Callable[[str, int, str], None]
"""Takes a row that can't be read: the kind of fault, its number, a detail."""

_DELIMITERS = (",", "\t", ";", "|")
_MAX_LINE = 2**24
"""Characters of a line, and of a cell: a quote that isn't closed would otherwise take the rest of the file."""
_SEPARATOR = re.compile(r"sep=(.)", re.IGNORECASE)
"""Excel's first line."""
_COMMENT = re.compile(r"#(?:[ #!]|[^,;\t|]*$)")
"""A line in words; #id,label is a header."""
_HEAD = 1_024
_NUM_SNIFFED = 20


def delimiter_of(path: Path, encoding: str) -> str:
    """Returns the delimiter that gives the first rows the same number of cells, at least 2 and the more the better."""
    with opened(path, encoding) as file:
        said = _SEPARATOR.fullmatch(file.readline(_HEAD).rstrip("\r\n"))
    if said is not None:
        return said[1]
    if path.suffix.lower() in (".tsv", ".tab"):
        return "\t"
    best, most = ",", 1
    for delimiter in _DELIMITERS:
        try:
            rows = list(islice(parsed(path, encoding, delimiter), _NUM_SNIFFED))
        except ConfigError:
            continue
        sizes = {len(row) for _, row in rows}
        num = min(sizes, default=0) if len(sizes) == 1 else 0
        if num > most:
            best, most = delimiter, num
    if most > 1:
        return best
    with opened(path, encoding) as file:  # rows of several lengths, which are reported one by one
        header = next((line for line in lines_of(path, file) if line.strip()), "")
    return max(_DELIMITERS, key=header.count)


@contextmanager
def opened(path: Path, encoding: str) -> Iterator[IO[str]]:
    """Opens a text file, in which bytes that don't fit the encoding become surrogates; a mark of UTF-8 is left out."""
    try:
        with path.open("rb") as raw:
            head = raw.read(_HEAD)
        if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)) and "32" not in encoding:
            raise ConfigError("data.encoding", f"{readable(str(path))} is UTF-32", fix="Use data.encoding=utf-32.")
        if encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
            if head.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise ConfigError("data.encoding", f"{readable(str(path))} is UTF-16", fix="Use data.encoding=utf-16.")
            if head.count(0) > len(head) / 4:  # letters of ASCII, each beside a zero
                name = "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
                reason = f"{readable(str(path))} is UTF-16 without a mark that says so"
                raise ConfigError("data.encoding", reason, fix=f"Use data.encoding={name}.")
            encoding = "utf-8-sig"
        with path.open(encoding=encoding, errors="surrogateescape", newline="") as file:
            yield file
    except LookupError as error:
        raise ConfigError("data.encoding", "Python has no such encoding", got=encoding) from error
    except OSError as error:
        raise ConfigError("data.path", f"can't read {readable(str(path))} ({error.strerror})") from error
    except UnicodeError as error:
        reason = f"{readable(str(path))} isn't in this encoding ({error})"
        raise ConfigError("data.encoding", reason, got=encoding) from error


def lines_of(path: Path, file: IO[str]) -> Iterator[str]:
    """Yields the lines of a file; raises ConfigError at one that is too long for a table.

    Before the first row, comments and what Excel says of the delimiter become blank lines.
    """
    has_begun = False
    for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE), ""), 1):
        if len(line) == _MAX_LINE and not line.endswith(("\n", "\r")):
            reason = f"line {number:,} of {readable(str(path))} is longer than {_MAX_LINE:,} characters"
            raise ConfigError("data.path", reason, fix="Is it a table?")
        is_said = number == 1 and _SEPARATOR.fullmatch(line.rstrip("\r\n"))
        if not has_begun and (is_said or _COMMENT.match(line)):
            yield "\n"
            continue
        has_begun = has_begun or bool(line.strip())
        yield line


def parsed(path: Path, encoding: str, delimiter: str, note: Note | None = None) -> Iterator[tuple[int, list[str]]]:
    """Yields the number of the first line and the cells of each row of a CSV file, those without any text left out.

    A quote in a cell that isn't written twice is noted for each line of its row, and without `note` raises ConfigError,
    as a quote that is never closed does.
    """
    with opened(path, encoding) as file:
        lines = _Lines(lines_of(path, file))
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
        csv.field_size_limit(_MAX_LINE)  # of the process, and 131,072 otherwise: fewer than a long text has
        number = 1
        while not lines.is_at_end:
            lines.num_letters = 0
            try:
                row = next(reader, [])
            except csv.Error as error:
                if note is None or lines.is_at_end or lines.num_letters > _MAX_LINE:
                    reason = f"the row at line {number:,} of {readable(str(path))} can't be read ({error})"
                    fix = 'Close each quote, and write a quote in a cell twice, as in "5"" pipe".'
                    raise ConfigError("data.path", reason, fix=fix) from error
                for line in range(number, reader.line_num + 1):
                    note("quote", line, "")
                row = []
            if any(map(str.strip, row)):
                yield number, row
            number = reader.line_num + 1


class _Lines:
    """An iterator of lines that knows whether it is at their end, and how many letters it gave."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.is_at_end = False
        self.num_letters = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = next(self._lines, None)
        if line is None:
            self.is_at_end = True
            raise StopIteration
        self.num_letters += len(line)
        return line


def lines_are_rows(path: Path, encoding: str) -> bool:
    """Whether all lines with text have as many tabs as the first one, so that no cell holds the end of a line.

    Files with tabs are often written without any quoting: a quote at the start of a cell is a letter then.
    """
    with opened(path, encoding) as file:
        counts = {line.count("\t") for line in lines_of(path, file) if line.strip()}
    return len(counts) == 1


def lines_as_rows(path: Path, encoding: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields what `parsed` does of a table whose lines are its rows; only cells in whole quotes are unquoted."""
    with opened(path, encoding) as file:
        for number, line in enumerate(lines_of(path, file), 1):
            if line.strip():
                yield number, [_unquoted(cell) for cell in line.rstrip("\r\n").split(delimiter)]


def _unquoted(cell: str) -> str:
    if not (len(cell) > 1 and cell[0] == cell[-1] == '"'):
        return cell
    inner = cell[1:-1]
    return inner.replace('""', '"') if '"' not in inner.replace('""', "") else cell
