"""The labels in the rows of a table: a class, several labels, or numbers. No torch."""

import ast
import json
import math
import re
import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from regraft.core.errors import ConfigError
from regraft.data.findings import readable
from regraft.data.tables.packed import Coded
from regraft.data.tables.reading import text_of

SEPARATORS = ("|", ";", ",")
_MIN_NUMBERS = 20
"""Different whole numbers above which they may be a regression's."""
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:[.'\s]\d{3})+(?:,\d+)?|[+-]?\d{1,3}(?:[,'\s]\d{3})+(?:\.\d+)?")
"""Numbers with thousands apart."""
_WITH_UNIT = re.compile(r"(?P<before>[$€£¥]?)\s?(?P<number>[+-]?\d(?:[\d.,'\s]*\d)?)\s?(?P<after>[^\d\s.,+-]{0,8})")
"""Numbers with a unit or a currency, as 5 kg, 12% and $3.50."""
MISSING = frozenset({"nan", "na", "n/a", "<na>", "null", "none", "nil", "?", "-"})
"""Texts that programs write for what is missing, in lower case."""
_BINARY = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0, "no": 0.0, "yes": 1.0}


class BadValueError(ValueError):
    """A cell that isn't a label; `kind` is that of a fault, and `detail` the cell."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail


class Labels(Protocol):
    """Labels of the rows of a split."""

    def parse(self, cells: Sequence[Any]) -> Any:
        """Returns the label in some cells, None if they are empty; raises BadValueError if they hold none."""

    def append(self, label: Any) -> None:
        """Appends the label of a row."""

    def key(self, row: int) -> Any:
        """Returns what labels are compared by."""

    def names(self) -> list[str]:
        """Returns the names that occur, or those of the columns."""

    def array(self, names: Sequence[str]) -> np.ndarray:
        """Returns the labels by their indices in `names`, of all of which each row's label consists."""


class ClassLabels(Labels):
    """A class in one cell; `array` is (num_rows,), int64."""

    def __init__(self) -> None:
        self._coded: Coded[str] = Coded()

    def parse(self, cells: Sequence[Any]) -> str | None:
        """Returns the class."""
        return class_name(cells[0]) or None

    def append(self, label: str) -> None:
        """Appends a class."""
        self._coded.append(label)

    def key(self, row: int) -> int:
        """Returns the class's number."""
        return self._coded.codes[row]

    def names(self) -> list[str]:
        """Returns the classes that occur."""
        return sorted(self._coded.values)

    def array(self, names: Sequence[str]) -> np.ndarray:
        """Returns class indices."""
        index = {name: number for number, name in enumerate(names)}
        return np.array([index[name] for name in self._coded.values], np.int64)[self._coded.array]


class OneHotLabels(ClassLabels):
    """A column of 0 and 1 for each class, of which every row has a single 1."""

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__()
        self._columns = columns

    def parse(self, cells: Sequence[Any]) -> str | None:
        """Returns the class whose column is 1."""
        values = [_binary(cell) for cell in cells]
        if not any(value is not None for value in values):
            return None
        found = [name for name, value in zip(self._columns, values, strict=True) if value]
        if len(found) != 1:
            raise BadValueError("not_one_hot", " and ".join(found) or "0 in all")
        return found[0]


class SeparatedLabels(Labels):
    """Several labels in one cell, or none; `array` is (num_rows, num_labels), float32 of 0 and 1."""

    def __init__(self, separator: str) -> None:
        self._separator = separator
        self._coded: Coded[tuple[str, ...]] = Coded()

    def parse(self, cells: Sequence[Any]) -> tuple[str, ...]:
        """Returns the labels, sorted; an empty cell has none."""
        return tuple(sorted(set(labels_in(cells[0], self._separator))))

    def append(self, label: tuple[str, ...]) -> None:
        """Appends the labels of a row."""
        self._coded.append(label)

    def single(self) -> list[str] | None:
        """Returns the label of each row, empty for none; None if a row has several."""
        values = self._coded.values
        if any(len(value) > 1 for value in values):
            return None
        names = ["".join(value) for value in values]
        return [names[code] for code in self._coded.codes]

    def replace(self, row: int, labels: Iterable[str]) -> None:
        """Replaces the labels of a row."""
        self._coded.replace(row, tuple(sorted(filter(None, labels))))

    def key(self, row: int) -> int:
        """Returns the number of the combination."""
        return self._coded.codes[row]

    def names(self) -> list[str]:
        """Returns the labels that occur."""
        return sorted({name for names in self._coded.values for name in names})

    def unseparated(self) -> list[str]:
        """Returns the names that consist of other names, with another separator between them."""
        names = set(self.names())
        others = [each for each in SEPARATORS if each != self._separator]
        parts = {name: [set(labels_in(name, each)) for each in others] for name in names}
        return sorted(name for name in names if any(len(each) > 1 and each <= names for each in parts[name]))

    def array(self, names: Sequence[str]) -> np.ndarray:
        """Returns a row of 0 and 1 for each."""
        index = {name: number for number, name in enumerate(names)}
        rows = np.zeros((len(self._coded.numbers), len(names)), np.float32)
        for row, labels in enumerate(self._coded.values):
            rows[row, [index[name] for name in labels]] = 1
        return rows[self._coded.array]


class ColumnLabels(Labels):
    """One column a label (0 and 1) or a target (numbers); `array` is (num_rows, num_columns), float32."""

    def __init__(self, columns: Sequence[str], *, is_binary: bool) -> None:
        self._columns = list(columns)
        self._parse = _binary if is_binary else number_in
        self._values = array("f")

    def parse(self, cells: Sequence[Any]) -> list[float] | None:
        """Returns the values of a row; None if all cells are empty."""
        values = [self._parse(cell) for cell in cells]
        if all(value is None for value in values):
            return None
        if None in values:
            raise BadValueError("no_label", self._columns[values.index(None)])
        return [value for value in values if value is not None]

    def append(self, label: list[float]) -> None:
        """Appends the values of a row."""
        self._values.extend(label)

    def key(self, row: int) -> Any:
        """Returns the values of a row."""
        size = len(self._columns)
        return self._values[row * size : (row + 1) * size]

    def names(self) -> list[str]:
        """Returns the columns."""
        return self._columns

    def array(self, names: Sequence[str]) -> np.ndarray:
        """Returns the values, whose columns are the names."""
        values = np.frombuffer(self._values, np.float32) if self._values else np.zeros(0, np.float32)
        return values.reshape(-1, len(self._columns))


def class_name(cell: Any) -> str:
    """Returns the name of a class, the same however accents are encoded; empty for what is missing."""
    if isinstance(cell, list | dict):
        raise BadValueError("nested_label", str(cell))
    return unicodedata.normalize("NFC", text_of(cell))


def labels_in(cell: Any, separator: str) -> list[str]:
    """Returns the labels in a cell."""
    parts = cell if isinstance(cell, list) else text_of(cell).split(separator) if separator else list_in(cell)
    return [name for part in parts if (name := class_name(part))]


def list_in(cell: Any) -> list[Any]:
    """Returns the values of a list that is written as text, in JSON's or Python's way; else the text alone."""
    text = text_of(cell)
    if not (text.startswith("[") and text.endswith("]")):
        return [text]
    for read in (json.loads, ast.literal_eval):
        try:
            return list(read(re.sub(r"(?<=['\"])\s+(?=['\"])", ", ", text)))  # numpy writes no commas
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return [text]


def number_in(cell: Any) -> float | None:
    """Returns the number in a cell, None if it is empty; raises BadValueError if it is something else."""
    if isinstance(cell, float) and math.isnan(cell):
        raise BadValueError("not_finite", "nan")
    text = text_of(cell)
    if not text:
        return None
    if not _is_number(text):
        if _unit_of(text):
            raise BadValueError("with_unit", text)
        raise BadValueError("comma" if _is_number(_with_point(text)) else "not_a_number", text)
    number = float(text)
    if not math.isfinite(np.float32(number) if abs(number) < 1e39 else math.inf):
        raise BadValueError("not_finite", text)
    return number


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _unit_of(text: str) -> str:
    """Returns what stands before or after a number, such as kg; empty if nothing does, or if it isn't one."""
    found = None if text[:1].isdigit() and _is_number(text) else _WITH_UNIT.fullmatch(text)
    return "" if found is None or not _is_number(_with_point(found["number"])) else found["before"] + found["after"]


def _with_point(text: str) -> str:
    """Returns a number with a decimal comma, or with thousands apart, as Python has it; other text as it is."""
    if _is_number(pointed := text.replace(",", ".")):
        return pointed
    if not _GROUPED.fullmatch(text):
        return text
    last = max(text.rfind("."), text.rfind(","))
    is_fraction = len(set(re.findall(r"[.,'\s]", text))) > 1 and text[last] in ".,"
    whole, fraction = (text[:last], text[last + 1 :]) if is_fraction else (text, "0")
    return re.sub(r"[.,'\s]", "", whole) + "." + fraction


def _binary(cell: Any) -> float | None:
    text = text_of(cell).casefold()
    if not text:
        return None
    if text not in _BINARY:
        raise BadValueError("not_binary", text)
    return _BINARY[text]


@dataclass(frozen=True)
class Looks:
    """What the first rows of one or more label columns look like.

    Attributes:
        separator: between the labels of a cell; empty if each cell has one.
    """

    task: str
    why: str
    separator: str = ""


def looks_of(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Looks:
    """Returns the task that the first rows of label columns are plainly for."""
    shown = ", ".join(map(readable, columns))
    if len(columns) > 1:
        values = {text_of(cell).casefold() for row in rows for cell in row} - {""}
        if values <= _BINARY.keys() | {"-1"}:  # which is reported
            return Looks("multilabel", f"the columns {shown} hold 0 and 1")
        if not all(_is_number(_with_point(value)) for value in values):
            other = next(value for value in sorted(values) if not _is_number(_with_point(value)))
            reason = f"the columns {shown} hold neither 0 and 1 nor numbers, but {readable(other[:80])!r}, for example"
            fix = "Name one column, or write an image's labels in one cell, as in cat|dog."
            raise ConfigError("data.label", reason, fix=fix)
        return Looks("regression", f"the columns {shown} hold numbers")
    given = [row[0] for row in rows if isinstance(row[0], list) or text_of(row[0])]
    cells = [cell for cell in given if not _is_nested(cell)]
    if given and not cells:
        reason = f"the column {shown} holds lists or objects in place of labels, as {str(given[0])[:80]}"
        raise ConfigError("data.label", reason, fix="Write the labels as text, in a column of their own.")
    separator, example = _separated(cells)
    if example:
        _require_no_numbers(cells, separator, shown)
        return Looks("multilabel", f"the column {shown} holds several labels in a cell, as {example!r}", separator)
    # Numbers with commas, and what is missing among numbers, are reported as such.
    texts = [text for cell in cells if (text := text_of(cell)).casefold() not in MISSING]
    points = list(map(_with_point, texts))
    if points and all(map(_is_number, points)):
        fraction = next((text for text, point in zip(texts, points, strict=True) if 0 < float(point) % 1 < 1), None)
        if fraction is not None:
            return Looks("regression", f"the column {shown} holds numbers, as {fraction}")
        num = len(set(map(float, points)))
        has_zeros = any(len(text) > 1 and text.startswith("0") for text in texts)  # names of classes, as in 007
        if num > max(_MIN_NUMBERS, len(points) / 2) and not has_zeros:
            return Looks("regression", f"the column {shown} holds {num} different numbers in {len(points)} rows")
    units = set(map(_unit_of, texts))
    if len(units) == 1 and "" not in units and len(set(texts)) > max(_MIN_NUMBERS, len(texts) / 2):
        return Looks("regression", f"the column {shown} holds numbers with the unit {readable(units.pop())}")
    return Looks("classification", f"the column {shown} holds a class in each row")


def _is_nested(cell: Any) -> bool:
    """Whether a cell holds objects, or lists within a list."""
    parts = cell if isinstance(cell, list) else list_in(cell)
    return isinstance(cell, dict) or any(isinstance(part, list | dict) for part in parts)


def _require_no_numbers(cells: Sequence[Any], separator: str, shown: str) -> None:
    """Raises ConfigError if the labels in cells are numbers with fractions, which are targets rather than names."""
    parts = {part for cell in cells for part in labels_in(cell, separator)}
    if all(map(_is_number, parts)) and any(0 < float(part) % 1 < 1 for part in parts):
        reason = f"a cell of the column {shown} holds several numbers, as {text_of(cells[0])[:80]!r}"
        fix = "Write each in a column of its own, and name them: data.label=[A,B]."
        raise ConfigError("data.label", reason, fix=fix)


def is_binary_column(cells: Sequence[Any]) -> bool:
    """Whether cells hold 0 and 1, all of them and both."""
    return all(map(_is_binary_cell, cells)) and len({_BINARY[text_of(cell).casefold()] for cell in cells}) == 2


def are_numbers(cells: Sequence[Any]) -> bool:
    """Whether cells hold numbers, however written; some may be empty, but not all."""
    texts = [text for cell in cells if (text := text_of(cell)).casefold() not in MISSING and text]
    return bool(texts) and all(_is_number(_with_point(text)) for text in texts)


def _is_binary_cell(cell: Any) -> bool:
    return not isinstance(cell, list) and text_of(cell).casefold() in _BINARY


def _separated(cells: Sequence[Any]) -> tuple[str, str]:
    """Returns the separator of labels in a cell, and a cell with several; "" and "" if each has one.

    Lists, as values or written as text, have no separator.
    """
    several = next((cell for cell in cells if isinstance(cell, list)), None)
    if several is not None:
        return "", str(next((cell for cell in cells if isinstance(cell, list) and len(cell) > 1), several))
    texts = list(map(text_of, cells))
    if texts and all(list_in(text) != [text] for text in texts):
        return "", max(texts, key=lambda text: len(list_in(text)))
    for separator in SEPARATORS:
        example = next((text for text in texts if separator in text), "")
        if not example or all(_is_number(text.replace(",", ".")) for text in texts):
            continue
        parts = {part for text in set(texts) for part in labels_in(text, separator)}
        # A comma or semicolon may be part of a name; labels that are joined occur in other rows, too.
        if separator == "|" or len(parts) < len(set(texts)):
            return separator, example
    return "", ""


def separator_for(given: str | None, looks: Looks) -> str:
    """Returns the separator of labels in a cell: the given one, or the one that was found."""
    if given is not None and (not isinstance(given, str) or not given):
        raise ConfigError("data.separator", got=given, allowed="one or more characters, or null to find it")
    return given or looks.separator
