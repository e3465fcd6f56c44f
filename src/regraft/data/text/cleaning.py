"""Texts as they are given: what no text has is removed, and several columns become one text. No torch."""

import re
from collections.abc import Iterable

COLUMN_SEPARATOR = "\x1f"
"""Between the columns of a text, until they are joined with the separator of the tokenizer."""

_REMOVED = dict.fromkeys(map(ord, f"\0\ufeff{COLUMN_SEPARATOR}"))
_LONE = re.compile("[\ud800-\udfff]")
"""Halves of characters, which no encoding has."""


def cleaned(text: str) -> str:
    """Returns a text without NUL, byte order marks, separators of columns, and blanks at its ends.

    It is the one function that a text goes through before it is hashed and encoded, in training as in predictions.
    """
    found = text.translate(_REMOVED).strip() if not text.isprintable() else text.strip()
    return found if found.isascii() else _LONE.sub("\ufffd", found)


def is_blank(text: str) -> bool:
    """Whether a text has nothing that can be read: blanks, control characters and marks of direction alone."""
    return not any(letter.isprintable() and letter != " " for letter in text)


def joined(columns: Iterable[str]) -> str:
    """Returns the text of one or more columns, cleaned, those that are blank left out; empty if all are."""
    return COLUMN_SEPARATOR.join(text for text in map(cleaned, columns) if not is_blank(text))
