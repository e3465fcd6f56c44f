"""Findings of a check of a data set: severity, a sentence with the problem and its fix, and the files concerned."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""The worst first: stops a training or makes its metrics wrong; may cost accuracy; is handled automatically."""
HALF_CHARACTER = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Half of a character, as JSON may have it, that doesn't stand for a byte of a file's name."""
_ONE = re.compile(r"1(?![\d,.])")
_OF_ONE = (
    (re.compile(r"\bThey are\b"), "It is"),
    (re.compile(r"\bthey are\b"), "it is"),
    (re.compile(r"\bThey (show|work)\b"), r"It \1s"),
    (re.compile(r"\bthey (show|point|say)\b"), r"it \1s"),
    (re.compile(r"\btheir\b"), "its"),
    (re.compile(r"\bthem\b"), "it"),
    (re.compile(r"\bby images\b"), "by an image"),
    (re.compile(r"\bby plain files\b"), "by a plain file"),
)


@dataclass(frozen=True)
class Item:
    """A file or folder that a finding is about, or a group of duplicates; paths are relative to the root."""

    paths: tuple[str, ...]
    detail: str = ""


@dataclass(frozen=True)
class Finding:
    """One kind of problem of a data set.

    Attributes:
        code: name for programs.
        sentence: the problem and its fix, one or two sentences.
        items: where it occurs; empty if it is about the whole data set.
        is_pictured: whether the paths are images that can be shown.
    """

    code: str
    severity: Severity
    sentence: str
    items: tuple[Item, ...] = ()
    is_pictured: bool = False


@dataclass(frozen=True)
class Wording:
    """The wording of a kind of finding: what has the problem, in the plural, and the consequence and fix, if any."""

    severity: Severity
    what: str
    advice: str = ""

    def finding(self, code: str, amount: str, items: Sequence[Item], *, is_pictured: bool = False) -> Finding:
        """Returns the finding; `amount` says how many items there are."""
        advice = of_one(self.advice) if _ONE.match(amount) else self.advice
        sentence = f"{self.what}: {amount}. {advice}".strip()
        return Finding(code, self.severity, sentence, tuple(items), is_pictured)


def doubts_of(sentences: Sequence[str], command: str) -> str:
    """Returns the warnings of data that isn't checked as a whole, and the command that does it; empty without any."""
    return f"A data check warns: {' '.join(sentences)} `{command}` has the details." if sentences else ""


def of_one(advice: str) -> str:
    """Returns advice on several files as advice on one, `it` instead of `them`."""
    for pattern, singular in _OF_ONE:
        advice = pattern.sub(singular, advice)
    return advice


def items_of(paths: Iterable[str]) -> tuple[Item, ...]:
    """Returns one item per path."""
    return tuple(Item((path,)) for path in paths)


def counted(num: int, noun: str, plural: str = "") -> str:
    """Returns `1 file` or `1,200 files`."""
    return f"{num:,} {noun if num == 1 else plural or noun + 's'}"


def readable(name: str) -> str:
    """Returns a name with unprintable characters escaped."""
    text = os.fsencode(HALF_CHARACTER.sub(_code, name)).decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _code(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]
