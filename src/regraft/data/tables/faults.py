"""Faults of a table: all of them are collected, and then reported together, one sentence for each kind. No torch."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from regraft.core.errors import ConfigError, listed
from regraft.data.findings import counted, readable

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
    "header_again": ("data.path", "the header again, as where files were joined", "Remove them"),
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
    "embedded": ("data.image", "an image in place of its path", "Use data=hf data.path=FILE, which reads such images"),
    "several_places": (
        "data.root",
        "names that files in several folders have",
        "Write paths with the folders, or use data.root=FOLDER",
    ),
    "no_image": ("data.urls", "no image", "Add them, or name the one to use, as in data.image=jpg"),
    "several_images": ("data.image", "several images", "Name the one to use by its extension, as in data.image=jpg"),
    "key_twice": ("data.urls", "the key of an earlier sample", "Write the files of a sample one after the other"),
    "member_twice": ("data.urls", "a file that occurs twice", "Remove one of them"),
    "bad_member": ("data.urls", "a label or JSON that can't be read", "Write text, or a JSON object, as UTF-8"),
    "no_text": ("data.text", "no text", "Fill them in"),
    "not_a_text": ("data.text", "no text but a list, an object or bytes", "Write texts"),
    "no_label": ("data.label", "no label", "Fill them in"),
    "nested_label": ("data.label", "a list or an object in place of a label", "Write the label as text"),
    "not_binary": ("data.label", "a value other than 0 and 1", "Write 0 and 1"),
    "not_one_hot": (
        "data.label",
        "another number of classes than one",
        "Write 1 in one of the columns, or use task=multilabel",
    ),
    "not_a_number": ("data.label", "no number", "Correct them, or use task=classification for names of classes"),
    "with_unit": ("data.label", "numbers with a unit", "Write the numbers alone, and the unit as data.unit=UNIT"),
    "comma": ("data.label", "numbers with a comma or thousands apart", "Write them as in 1234.5"),
    "not_finite": ("data.label", "numbers that aren't finite", "Correct or remove them"),
    "unknown_split": ("data.split", "a split other than train, val and test", "Rename them"),
    "no_split": ("data.split", "no split", "Fill them in"),
    "no_group": ("data.group", "no group", "Fill them in"),
    "bad_weight": ("data.weight", "a weight that isn't a number above 0", "Correct them"),
    "contradiction": ("data.present", "a label that another row says is absent", "Keep one of the rows"),
    "bad_presence": ("data.present", "a value other than 1 and 0 for whether the label is there", "Write 1 or 0"),
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


def fix_of(reason: str) -> str:
    """Returns what to do about rows with a reason that `reason_of` gives, or of another source."""
    return next((fix for _, what, fix in _PER_ROW.values() if what == reason), "Correct them")


@dataclass
class Faults:
    """Rows that can't be used, by kind.

    Attributes:
        place: says which row a number is, such as `line 3`.
        noun: what a row is called.
        skipped: the reason for each row, by its file or its place in the table.
        elsewhere: the fix of those in NOT_FOUND, if files were found in another folder.
    """

    table: str
    place: Callable[[int], str]
    noun: str = "row"
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    named: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    skipped: dict[str, str] = field(default_factory=dict)
    elsewhere: str = ""

    def add(self, kind: str, number: int, detail: str = "", *, file: str = "") -> None:
        """Notes a row by its number; `file` is what it is about."""
        place = self.place(number)
        self.counts[kind] += 1
        if len(self.named[kind]) < _MAX_NAMED:
            shown = readable(detail if len(detail) <= _MAX_DETAIL else f"{detail[:_MAX_DETAIL]}...")
            self.named[kind].append(f"{readable(place)} ({shown})" if shown and detail != place else readable(place))
        self.skipped[file or f"{self.table}, {place}"] = _PER_ROW[kind][1]

    def errors(self, *, may_be_skipped: bool) -> list[ConfigError]:
        """Returns one mistake for each kind; its fix tells of leaving rows out if they `may_be_skipped`."""
        found = []
        for kind, count in self.counts.items():
            key, what, fix = _PER_ROW[kind]
            fix = self.elsewhere if self.elsewhere and kind in NOT_FOUND else fix
            rows = self.named[kind] + [""] * (count - len(self.named[kind]))  # `listed` names 10 and counts the rest
            reason = f"{counted(count, self.noun)} of {self.table} with {what}: {listed(rows)}"
            fix += f", or leave such {self.noun}s out with data.on_error=skip." if may_be_skipped else "."
            found.append(ConfigError(key, reason, fix=fix))
        return found

    @property
    def summary(self) -> str:
        """The number of rows of each kind."""
        return ", ".join(f"{count:,} with {_PER_ROW[kind][1]}" for kind, count in self.counts.items())
