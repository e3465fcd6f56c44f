"""What a cell of a table may hold: a class, several labels, a number, or 0 and 1. No torch."""

import ast
import json
import math
import re
import unicodedata
from typing import Any

import numpy as np

from regraft.data.tables.reading import text_of

SEPARATORS = ("|", ";", ",")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:[.'\s]\d{3})+(?:,\d+)?|[+-]?\d{1,3}(?:[,'\s]\d{3})+(?:\.\d+)?")
"""Numbers with thousands apart."""
_WITH_UNIT = re.compile(r"(?P<before>[$€£¥]?)\s?(?P<number>[+-]?\d(?:[\d.,'\s]*\d)?)\s?(?P<after>[^\d\s.,+-]{0,8})")
"""Numbers with a unit or a currency, as 5 kg, 12% and $3.50."""
MISSING = frozenset({"nan", "na", "n/a", "<na>", "null", "none", "nil", "?", "-"})
"""Texts that programs write for what is missing, in lower case."""
BINARY = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0, "no": 0.0, "yes": 1.0}
"""What is written for 0 and 1, in lower case."""


class BadValueError(ValueError):
    """A cell that isn't a label; `kind` is that of a fault, and `detail` the cell."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail


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
    if not is_number(text):
        if unit_of(text):
            raise BadValueError("with_unit", text)
        raise BadValueError("comma" if is_number(with_point(text)) else "not_a_number", text)
    number = float(text)
    if not math.isfinite(np.float32(number) if abs(number) < 1e39 else math.inf):
        raise BadValueError("not_finite", text)
    return number


def binary_in(cell: Any) -> float | None:
    """Returns the 0 or 1 in a cell, None if it is empty; raises BadValueError if it is something else."""
    text = text_of(cell).casefold()
    if not text:
        return None
    if text not in BINARY:
        raise BadValueError("not_binary", text)
    return BINARY[text]


def is_number(text: str) -> bool:
    """Whether Python reads a text as a number; it may be infinite."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def unit_of(text: str) -> str:
    """Returns what stands before or after a number, such as kg; empty if nothing does, or if it isn't one."""
    found = None if text[:1].isdigit() and is_number(text) else _WITH_UNIT.fullmatch(text)
    return "" if found is None or not is_number(with_point(found["number"])) else found["before"] + found["after"]


def with_point(text: str) -> str:
    """Returns a number with a decimal comma, or with thousands apart, as Python has it; other text as it is."""
    if is_number(pointed := text.replace(",", ".")):
        return pointed
    if not _GROUPED.fullmatch(text):
        return text
    last = max(text.rfind("."), text.rfind(","))
    is_fraction = len(set(re.findall(r"[.,'\s]", text))) > 1 and text[last] in ".,"
    whole, fraction = (text[:last], text[last + 1 :]) if is_fraction else (text, "0")
    return re.sub(r"[.,'\s]", "", whole) + "." + fraction
