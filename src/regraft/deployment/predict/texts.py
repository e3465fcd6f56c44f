"""Finds the texts of `input=`: a file with a text a line, tables, text files, or lines on stdin. Imports no torch."""

import itertools
import os
import sys
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

from regraft.core.errors import ConfigError, listed
from regraft.data.findings import readable
from regraft.data.sources.folder_scan import why_closed
from regraft.data.sources.text_folder import TEXTS
from regraft.data.tables.columns import Given, inputs_of
from regraft.data.tables.faults import reason_of
from regraft.data.tables.reading import SUFFIXES, Table, open_table, text_of
from regraft.data.text.cleaning import joined
from regraft.data.text.files import TextFileError, read_text
from regraft.deployment.predict.inputs import STDIN, expanded, files_in, files_matching, require_there
from regraft.deployment.reader import FoundInputs, NamedInput

_CHUNK_BYTES = 65_536
_MAX_LINE_BYTES = 2**24
_UTF8_MARK, _UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")


def find_texts(path: str, data: Mapping[str, Any], columns: Sequence[str] | None = None) -> FoundInputs:
    """Returns the texts of `input=`.

    Args:
        path: a table, by its suffix; another file, with a text a line; a folder, whose text files are a text each, at
            any depth; a glob, of tables and of such text files; or `-`, for lines on stdin.
        data: the options of the run's data config, whose column of texts is that of a table that has it.
        columns: of the texts in a table; None for the run's, or those that are found.
    """
    if path == STDIN:
        _require_no_columns(columns, "stdin has lines")
        return FoundInputs(_of_lines(cast(BufferedReader, sys.stdin.buffer), "stdin"))
    require_there(path)
    file = Path(expanded(path))
    if file.is_dir():
        _require_no_columns(columns, f"{readable(path)} has a text in each file")
        names, notes = files_in(file, TEXTS)
        return FoundInputs(_whole([file / name for name in names], data), len(names), tuple(notes))
    if not os.path.lexists(file):
        return _of_glob(str(file), data, columns)
    if not file.is_file():
        raise ConfigError(
            "input", f"{readable(path)} is not a regular file", fix="Give its lines on stdin, with input=-."
        )
    if _is_table(file):
        return _of_table(file, data, columns)
    _require_no_columns(columns, f"{readable(path)} has a text a line")
    return FoundInputs(_of_file(file))


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.suffix.lower() != ".txt"


def _of_glob(pattern: str, data: Mapping[str, Any], columns: Sequence[str] | None) -> FoundInputs:
    names, notes = files_matching(pattern, "txt")
    paths = [Path(name) for name in names]
    tables = [path for path in paths if _is_table(path)]
    if not tables:
        _require_no_columns(columns, f"what {readable(pattern)} matches has a text in each file")
        note = "Each file is one text; the path of a single file gives a text a line."
        return FoundInputs(_whole(paths, data), len(paths), (note, *notes))
    found = [_of_table(path, data, columns).inputs for path in tables]
    rest = _whole([path for path in paths if not _is_table(path)], data)
    return FoundInputs(itertools.chain(*found, rest), None, tuple(notes))


def _whole(paths: Iterable[Path], data: Mapping[str, Any]) -> Iterator[NamedInput]:
    """Yields the text of each file; what can't be read has its reason as its prediction."""
    for path in paths:
        try:
            if not path.is_file():  # reading a FIFO, for example, would wait forever
                raise TextFileError("closed", why_closed(path))
            yield NamedInput(str(path), joined([read_text(path, str(data.get("encoding") or "utf-8"))]))
        except TextFileError as error:
            yield NamedInput(str(path), ValueError(error.of_one))


def _require_no_columns(columns: Sequence[str] | None, why: str) -> None:
    if columns is not None:
        raise ConfigError("column", f"{why} and no columns", got=listed(columns), fix="Leave it out.")


def _of_file(path: Path) -> Iterator[NamedInput]:
    try:
        with path.open("rb") as file:
            yield from _of_lines(file, str(path))
    except OSError as error:
        raise ConfigError("input", f"can't read {readable(str(path))} ({error.strerror})") from error


def _of_lines(file: BufferedReader, name: str) -> Iterator[NamedInput]:
    """Yields the lines of a file as they come; blank ones are left out."""
    rest, is_start = b"", True
    while chunk := file.read1(_CHUNK_BYTES):
        rest += chunk
        if is_start and rest.startswith(_UTF16_MARKS):
            raise ConfigError("input", f"{name} is in UTF-16", fix="Save it as UTF-8.")
        if is_start and _is_binary(rest):
            fix = "Give a table, or a file with a text a line, in UTF-8."
            raise ConfigError("input", f"{readable(name)} isn't a file of texts", fix=fix)
        if is_start and len(rest) >= len(_UTF8_MARK):
            rest, is_start = rest.removeprefix(_UTF8_MARK), False
        *lines, rest = rest.split(b"\n")
        yield from filter(None, map(_of_line, lines))
        if len(rest) > _MAX_LINE_BYTES:
            fix = "Cut the text, or give a table."
            raise ConfigError("input", f"{readable(name)} has a line of more than 16 megabytes", fix=fix)
    last = _of_line(rest.removeprefix(_UTF8_MARK) if is_start else rest)
    if last is not None:
        yield last


def _is_binary(head: bytes) -> bool:
    """Whether the start of a file is of an image or another file without text; NUL alone may be in UTF-8, too."""
    try:
        getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return b"\0" in head
    return False


def _of_line(line: bytes) -> NamedInput | None:
    line = line.removesuffix(b"\r")
    if not line.strip():
        return None
    try:
        text = line.decode()
    except UnicodeDecodeError:  # whose reason is in the text's prediction
        return NamedInput(line.decode(errors="backslashreplace"), line)
    return NamedInput(text, joined([text]))


def _of_table(path: Path, data: Mapping[str, Any], columns: Sequence[str] | None) -> FoundInputs:
    """Returns the texts of a table's rows."""
    encoding = str(data.get("encoding") or "utf-8")
    try:
        table = open_table(path, encoding, None)
        named = columns if columns is not None else _columns_of_run(table, data)
        found = inputs_of(table, Given("text", named, label=data.get("label")))
    except ConfigError as error:
        if error.key == "data.encoding":  # which isn't a key here
            fix = f"Save it in the encoding of the run's own texts, {encoding}."
            raise ConfigError("input", error.reason, fix=fix) from error
        raise error.about("column" if error.key == "data.text" else "input") from error
    return FoundInputs(_rows(table, found))


def _columns_of_run(table: Table, data: Mapping[str, Any]) -> Sequence[str] | None:
    given = data.get("text")
    names = [given] if isinstance(given, str) else list(given or ())
    return names if names and {*names} <= {*table.columns} else None


def _rows(table: Table, columns: tuple[str, ...]) -> Iterator[NamedInput]:
    """Yields the texts of a table; a row without a text is called by its place, and its error is its prediction."""
    faults: list[tuple[int, str]] = []
    try:
        for number, cells in table.rows(columns, lambda kind, at, detail: faults.append((at, kind))):
            yield from _unreadable(table, faults)
            texts = [text_of(cell) for cell in cells]
            text = joined(texts)
            yield NamedInput(" ".join(texts) if text else table.place(number), text)
    except ConfigError as error:
        raise error.about("input") from error
    yield from _unreadable(table, faults)


def _unreadable(table: Table, faults: list[tuple[int, str]]) -> Iterator[NamedInput]:
    for number, kind in faults:
        yield NamedInput(table.place(number), ValueError(reason_of(kind)))
    faults.clear()
