"""Faults of a table: all of them are collected, and then reported together, one sentence for each kind. No torch."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from regraft.core.errors import ConfigError, listed
from regraft.data.findings import readable

_MAX_NAMED = 10
_MAX_DETAIL = 80
_OTHER_LABEL = "Keep one of the rows, or add task=multilabel if each is one of several labels of its file"
_PER_ROW: Mapping[str, tuple[str, str, str]] = {
    "encoding": (
        "data.encoding",
        "bytes that don't fit the encoding",
        "Save the table as UTF-8, or name its encoding, as in data.encoding=cp1252",
    ),
    "quote": ("data.path", "a quote that isn't closed or written twice", 'Write it twice, as in "5"" pipe"'),
    "num_cells": ("data.path", "another number of cells than the header", "Correct them"),
    "not_an_object": ("data.path", "no JSON object", "Write one object a line"),
    "no_path": ("data.path", "no path of a file", "Fill them in"),
    "missing": ("data.root", "files that aren't there", "Correct the paths, or data.root=FOLDER"),
    "leaves_root": (
        "data.root",
        "paths that leave the root folder",
        "Write paths of another computer relative to the table, or use data.root=FOLDER that holds them, or add "
        "trust=[FOLDER] to the command",
    ),
    "url": ("data.path", "addresses in place of paths", "Download the files"),
    "several_files": ("data.path", "names without an extension that several files have", "Add the extension"),
    "no_text": ("data.text", "no text", "Fill them in"),
    "not_a_text": ("data.text", "no text but a list, an object or bytes", "Write texts"),
    "no_label": ("data.label", "no label", "Fill them in"),
    "not_binary": ("data.label", "a value other than 0 and 1", "Write 0 and 1"),
    "not_a_number": ("data.label", "no number", "Correct them, or use task=classification for names of classes"),
    "comma": ("data.label", "numbers with a comma or thousands apart", "Write them as in 1234.5"),
    "not_finite": ("data.label", "numbers that aren't finite", "Correct or remove them"),
    "unknown_split": ("data.split", "a split other than train, val and test", "Rename them"),
    "no_split": ("data.split", "no split", "Fill them in"),
    "no_group": ("data.group", "no group", "Fill them in"),
    "bad_weight": ("data.weight", "a weight that isn't a number above 0", "Correct them"),
    "other_label": ("data.path", "the file of an earlier row with another label", _OTHER_LABEL),
    "same_label": ("data.path", "the file of an earlier row with the same label", "Remove them"),
    "other_group": ("data.group", "the file of an earlier row in another group", "Write the same group"),
    "other_split": ("data.split", "the file of an earlier row in another split", "Keep one of the rows"),
}
"""By kind: the config key, what the rows have, and the fix."""
NOT_FOUND = frozenset({"missing", "leaves_root"})
"""Kinds of faults of files that may be in another folder."""


def reason_of(kind: str) -> str:
    """Returns what a row with a kind of fault has."""
    return _PER_ROW[kind][1]


@dataclass
class Faults:
    """Rows that can't be used, by kind.

    Attributes:
        unit: what rows are numbered by, `line` or `row`.
        skipped: the reason for each row, by its file or its place in the table.
        elsewhere: the fix of those in NOT_FOUND, if files were found in another folder.
    """

    table: str
    unit: str
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    named: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    skipped: dict[str, str] = field(default_factory=dict)
    elsewhere: str = ""

    def add(self, kind: str, number: int, detail: str = "", *, file: str = "") -> None:
        """Notes a row by its number; `file` is what it is about."""
        place = f"{self.unit} {number:,}"
        self.counts[kind] += 1
        if len(self.named[kind]) < _MAX_NAMED:
            shown = readable(detail if len(detail) <= _MAX_DETAIL else f"{detail[:_MAX_DETAIL]}...")
            self.named[kind].append(f"{place} ({shown})" if shown else place)
        self.skipped[file or f"{self.table}, {place}"] = _PER_ROW[kind][1]

    def errors(self) -> list[ConfigError]:
        """Returns one mistake for each kind."""
        found = []
        for kind, count in self.counts.items():
            key, what, fix = _PER_ROW[kind]
            fix = self.elsewhere if self.elsewhere and kind in NOT_FOUND else fix
            rows = self.named[kind] + [""] * (count - len(self.named[kind]))  # `listed` names 10 and counts the rest
            reason = f"{count:,} {'row' if count == 1 else 'rows'} of {self.table} with {what}: {listed(rows)}"
            found.append(ConfigError(key, reason, fix=f"{fix}, or leave such rows out with data.on_error=skip."))
        return found

    @property
    def summary(self) -> str:
        """The number of rows of each kind."""
        return ", ".join(f"{count:,} with {_PER_ROW[kind][1]}" for kind, count in self.counts.items())
