"""The table of stored features and images."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.filesize import decimal
from rich.table import Table

from regraft.core.console import Console
from regraft.data.findings import counted
from regraft.features.store.catalog import EntryInfo
from regraft.report.console import print_line

if TYPE_CHECKING:
    from regraft.features.store.merging import Merged

_KEY_DIGITS = 8


def show(entries: Sequence[EntryInfo], store: Path) -> None:
    """Prints a row per entry, and the total."""
    if entries:
        table = Table("key", "what", title="Stored features and images", title_justify="left")
        for heading in ("rows", "size", "last used"):
            table.add_column(heading, justify="right")
        for entry in entries:
            used = datetime.fromtimestamp(entry.last_used).strftime("%Y-%m-%d %H:%M")
            size = decimal(entry.num_bytes)
            table.add_row(entry.key[:_KEY_DIGITS], entry.problem or entry.label, f"{entry.num_images:,}", size, used)
        Console().print(table)
    show_total(entries, store)


def show_total(entries: Sequence[EntryInfo], store: Path) -> None:
    """Prints the total size and the folder."""
    print_line(Console(), f"{_amount(len(entries), sum(entry.num_bytes for entry in entries))} in {store}")


def show_cleared(num_entries: int, num_bytes: int, store: Path) -> None:
    """Prints what was deleted."""
    print_line(Console(), f"Deleted {_amount(num_entries, num_bytes)} from {store}")


def show_merged(merged: "Merged", source: Path, store: Path) -> None:
    """Prints what was copied from one store to another, and what was left out."""
    for path, reason in merged.damaged.items():
        print_line(Console(), f"Left out: {path}: {reason}.")
    present = f", {merged.num_present:,} were there" if merged.num_present else ""
    print_line(Console(), f"Copied {counted(merged.num_copied, 'row')} from {source} to {store}{present}")


def _amount(num_entries: int, num_bytes: int) -> str:
    return f"{counted(num_entries, 'entry', 'entries')}, {decimal(num_bytes)}"
