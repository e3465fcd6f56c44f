"""Doubts about the names of classes and labels: that differ by mistake alone, or look like several in one. No torch."""

import logging
from collections.abc import Sequence

from regraft.core.errors import listed
from regraft.data.findings import readable
from regraft.data.tables.cells import MISSING

_log = logging.getLogger(__name__)


def warn_of_names_alike(names: Sequence[str], task: str) -> None:
    """Warns of classes and labels whose names differ in case, blanks or `.0` alone, or are those of missing values."""
    alike: dict[str, list[str]] = {}
    for name in names if task != "regression" else ():
        plain = " ".join(name.casefold().split())
        alike.setdefault(plain.removesuffix(".0") if plain[:1].isdigit() else plain, []).append(name)
    shown = [" and ".join(map(readable, group)) for group in alike.values() if len(group) > 1]
    if shown:
        what = "classes" if task == "classification" else "labels"
        _log.warning("Names of %s that differ in case or blanks alone, probably by mistake: %s.", what, listed(shown))
    missing = [readable(name) for name in names if name.casefold() in MISSING]
    if missing and task != "regression":
        what = "Classes" if task == "classification" else "Labels"
        _log.warning("%s that are probably missing values: %s. Leave such cells empty.", what, listed(missing))


def warn_of_joined_names(names: Sequence[str], task: str) -> None:
    """Warns of classes that look like several labels, written with a separator that isn't searched for.

    There are fewer parts than classes then, and classes have different numbers of them.
    """
    for separator in " /+&" if task == "classification" else "":
        parts = {name: name.split(separator) for name in names}
        sizes = set(map(len, parts.values()))
        if len(sizes) > 1 and len({part for each in parts.values() for part in each}) < len(names):
            example = readable(max(names, key=lambda name: len(parts[name])))
            how = f"task=multilabel 'data.separator=\"{separator}\"'"
            _log.warning("Classes may be several labels each, as %r. If they are, use %s.", example, how)
            return
