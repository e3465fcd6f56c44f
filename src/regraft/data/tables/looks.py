"""What the label columns of a table look like: a class, several labels, or numbers. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from regraft.core.errors import ConfigError
from regraft.data.findings import readable
from regraft.data.tables.cells import BINARY, MISSING, SEPARATORS, is_number, labels_in, list_in, unit_of, with_point
from regraft.data.tables.reading import text_of

_MIN_NUMBERS = 20
"""Different whole numbers above which they may be a regression's."""


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
        if values <= BINARY.keys() | {"-1"}:  # which is reported
            return Looks("multilabel", f"the columns {shown} hold 0 and 1")
        if not all(is_number(with_point(value)) for value in values):
            other = next(value for value in sorted(values) if not is_number(with_point(value)))
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
    points = list(map(with_point, texts))
    if points and all(map(is_number, points)):
        fraction = next((text for text, point in zip(texts, points, strict=True) if 0 < float(point) % 1 < 1), None)
        if fraction is not None:
            return Looks("regression", f"the column {shown} holds numbers, as {fraction}")
        num = len(set(map(float, points)))
        has_zeros = any(len(text) > 1 and text.startswith("0") for text in texts)  # names of classes, as in 007
        if num > max(_MIN_NUMBERS, len(points) / 2) and not has_zeros:
            return Looks("regression", f"the column {shown} holds {num} different numbers in {len(points)} rows")
    units = set(map(unit_of, texts))
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
    if all(map(is_number, parts)) and any(0 < float(part) % 1 < 1 for part in parts):
        reason = f"a cell of the column {shown} holds several numbers, as {text_of(cells[0])[:80]!r}"
        fix = "Write each in a column of its own, and name them: data.label=[A,B]."
        raise ConfigError("data.label", reason, fix=fix)


def is_binary_column(cells: Sequence[Any]) -> bool:
    """Whether cells hold 0 and 1, all of them and both."""
    return all(map(_is_binary_cell, cells)) and len({BINARY[text_of(cell).casefold()] for cell in cells}) == 2


def are_numbers(cells: Sequence[Any]) -> bool:
    """Whether cells hold numbers, however written; some may be empty, but not all."""
    texts = [text for cell in cells if (text := text_of(cell)).casefold() not in MISSING and text]
    return bool(texts) and all(is_number(with_point(text)) for text in texts)


def are_classes(cells: Sequence[Any]) -> bool:
    """Whether cells hold a few values again and again."""
    return 1 < len({*map(text_of, cells)} - {""}) <= len(cells) / 2


def _is_binary_cell(cell: Any) -> bool:
    return not isinstance(cell, list) and text_of(cell).casefold() in BINARY


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
        if not example or all(is_number(text.replace(",", ".")) for text in texts):
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
