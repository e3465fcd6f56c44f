"""What a check finds: a severity, one sentence that says what and how to mend it, and the files that it is about."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""The worst first: what stops a training or makes its figures wrong; what may cost accuracy; what is taken care of."""


@dataclass(frozen=True)
class Item:
    """A file or a folder that a finding is about; of duplicates, those that are the same.

    Attributes:
        paths: relative to the root.
        detail: what is to be said of it alone.
    """

    paths: tuple[str, ...]
    detail: str = ""


@dataclass(frozen=True)
class Finding:
    """One kind of fault.

    Attributes:
        code: its name, for programs.
        severity: how bad it is.
        sentence: what it is and the fix, one or two sentences.
        items: where it is; empty if it is about the whole.
        is_pictured: whether its paths are images that can be shown.
    """

    code: str
    severity: Severity
    sentence: str
    items: tuple[Item, ...] = ()
    is_pictured: bool = False


@dataclass(frozen=True)
class Wording:
    """How a kind of finding is told, whatever it is found in.

    Attributes:
        severity: how bad it is.
        what: of things in the plural.
        advice: what comes of it, and the fix; empty if there is nothing to do.
    """

    severity: Severity
    what: str
    advice: str = ""

    def finding(self, code: str, amount: str, items: Sequence[Item], *, is_pictured: bool = False) -> Finding:
        """Returns the finding.

        Args:
            code: its name.
            amount: how many there are.
            items: where.
            is_pictured: whether these are images that can be shown.
        """
        sentence = f"{self.what}: {amount}. {self.advice}".strip()
        return Finding(code, self.severity, sentence, tuple(items), is_pictured)


def items_of(paths: Iterable[str]) -> tuple[Item, ...]:
    """Returns an item a path."""
    return tuple(Item((path,)) for path in paths)


def counted(num: int, noun: str, plural: str = "") -> str:
    """Returns `1 file` or `1,200 files`."""
    return f"{num:,} {noun if num == 1 else plural or noun + 's'}"


def readable(name: str) -> str:
    """Returns a name in letters that every terminal and page can show; all others are escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
