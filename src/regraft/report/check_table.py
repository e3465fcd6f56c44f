"""What a check of data shows on the terminal."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from regraft.data.images.validation.check import Check
from regraft.data.images.validation.findings import SEVERITIES, Finding, Item, counted, readable

_MAX_FILES = 5
_MAX_CLASSES = 12
_COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}
# Without a terminal's width, lines that a program can read.
_WIDTH = 160


def show(check: Check, folder: Path) -> None:
    """Prints what was found, the worst first, and where all of it is written.

    Args:
        check: what was found.
        folder: of the report.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    for split, counts in check.counts.items():
        _print(console, f"{split}: {counted(sum(counts.values()), 'image')} in {_classes(counts)}")
    if check.findings:
        table = Table(title="Data check", title_justify="left", show_lines=True)
        table.add_column("")
        table.add_column("finding", overflow="fold")
        for finding in check.findings:
            table.add_row(Text(finding.severity, _COLOURS[finding.severity]), _cell(finding))
        console.print(table)
    _print(console, summary(check))
    _print(console, f"report: {folder / 'report.html'} and report.json")


def summary(check: Check) -> str:
    """Returns a line: how much of what was found in how many images, how many of them were read, and how long."""
    found = ", ".join(counted(check.num(severity), severity) for severity in SEVERITIES)
    known = check.num_images - check.num_read
    reading = f"{check.num_read:,} read, {known:,} unchanged since an earlier check" if known else "all read"
    return f"{found} in {counted(check.num_images, 'image')} ({reading}; {check.seconds:.1f} s)"


def name_of(item: Item) -> str:
    """Returns an item in a line: its paths, and what is to be said of it."""
    paths = " = ".join(map(readable, item.paths))
    return f"{paths} ({readable(item.detail)})" if item.detail else paths


def _cell(finding: Finding) -> Text:
    lines = Text(readable(finding.sentence))
    for item in finding.items[:_MAX_FILES]:
        lines.append(f"\n  {name_of(item)}", "dim")
    if len(finding.items) > _MAX_FILES:
        lines.append(f"\n  and {len(finding.items) - _MAX_FILES:,} more", "dim")
    return lines


def _classes(counts: Mapping[str, int]) -> str:
    shown = ", ".join(f"{readable(name)} {num:,}" for name, num in list(counts.items())[:_MAX_CLASSES])
    more = ", ..." if len(counts) > _MAX_CLASSES else ""
    return f"{counted(len(counts), 'class', 'classes')} ({shown}{more})"


def _print(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False, markup=False)
