"""Text on its way to a terminal, a log or a CSV file, where names of others mustn't act. Imports nothing heavy.

A class, a file or a metric may be called anything: an escape sequence would control the terminal, and a cell that
begins with = would be run by a spreadsheet.
"""

import csv
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20\t\n")
# Controls of a terminal but for the ends of lines and tabs; those that change the direction of writing; and what
# stands for bytes that aren't UTF-8.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escaped(text: str, encoding: str = "utf-8") -> str:
    r"""Returns a text with its control characters as `\x1b`, and those that an encoding lacks as `\u2026`.

    Ends of lines and tabs stay, and `\r\n` becomes `\n`.
    """
    text = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text.replace("\r\n", "\n"))
    return text.encode(encoding, "backslashreplace").decode(encoding)


def say(text: str, *, is_error: bool = False) -> None:
    """Prints a text without control characters, to stderr if it is an error."""
    stream = sys.stderr if is_error else sys.stdout
    print(escaped(text, stream.encoding or "utf-8"), file=stream, flush=True)


class LogFormatter(logging.Formatter):
    """Formats log records without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line of a record."""
        return escaped(super().format(record))


@contextmanager
def warnings_shown_once() -> Iterator[None]:
    """Shows each warning that is logged inside the block once; files get all of them."""
    handlers = (*logging.getLogger().handlers, logging.lastResort)
    shown = [
        (each, _FirstTime()) for each in handlers if each is not None and not isinstance(each, logging.FileHandler)
    ]
    for handler, first_time in shown:
        handler.addFilter(first_time)
    try:
        yield
    finally:
        for handler, first_time in shown:
            handler.removeFilter(first_time)


class _FirstTime(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._warned: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        text = record.getMessage()
        is_first = text not in self._warned
        self._warned.add(text)
        return is_first


def write_csv(file: IO[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes rows, with texts escaped that a terminal or a spreadsheet would run."""
    csv.writer(file, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)


def write_csv_of(file: IO[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes mappings as rows below a header, the keys of the first; at least one."""
    columns = list(rows[0])
    write_csv(file, [columns, *([row[name] for name in columns] for row in rows)])


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = escaped(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
