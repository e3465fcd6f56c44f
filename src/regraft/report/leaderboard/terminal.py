"""A leaderboard on the terminal, as a table or, if it is too narrow, as two lines per configuration; and as HTML."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from markupsafe import Markup
from rich import box
from rich.table import Table

from regraft.core.console import Console
from regraft.evaluation.compare.entries import RunEntry
from regraft.evaluation.compare.leaderboard import Leaderboard, LeaderboardRow
from regraft.evaluation.compare.paired import Outcome
from regraft.report.axes import shortened
from regraft.report.console import plain_cell, wide_console
from regraft.report.leaderboard.plots import against_cost, parallel
from regraft.report.leaderboard.text import cells, headings, name_of_row, out_of_fold_headings, reasons, sentences
from regraft.report.templates import template

_WIDTH = 240
_UNBOUNDED = 10_000


def show(board: Leaderboard) -> None:
    """Prints the leaderboard, and below it reasons of unfinished runs and sentences on the result."""
    console = wide_console(_WIDTH)
    names = headings(board)
    rows = [cells(board, row) for row in board.rows]
    table = _table(board, names, rows)
    if console.measure(table, options=console.options.update(max_width=_UNBOUNDED)).maximum <= console.width:
        console.print(table)
    else:
        _print_lines(console, board, names, rows)
    for sentence in [*reasons(board), *sentences(board)]:
        console.print(plain_cell(sentence), soft_wrap=True)


def _table(board: Leaderboard, names: list[str], rows: list[list[str]]) -> Table:
    table = Table(title=f"Leaderboard by {board.metric}", title_justify="left", box=box.SIMPLE_HEAD)
    for name in names:
        is_number = name in ("rank", *board.metrics, *out_of_fold_headings(board), "n", "seconds", "trained parameters")
        table.add_column(plain_cell(name), justify="right" if is_number else "left")
    for row, texts in zip(board.rows, rows, strict=True):
        table.add_row(*map(plain_cell, texts), style=_style(row))
    return table


def _print_lines(console: Console, board: Leaderboard, names: list[str], rows: list[list[str]]) -> None:
    compared, verdict, state = names[-3:]
    console.print(plain_cell(f"Leaderboard by {board.metric} (a wider terminal, or format=csv, has costs too)"))
    for row, texts in zip(board.rows, rows, strict=True):
        by_name = dict(zip(names, texts, strict=True))
        figure = f"{board.metric} {by_name[board.metric]} (n = {by_name['n']})" if by_name[board.metric] else ""
        for heading in out_of_fold_headings(board):
            figure += f"; {heading} {by_name[heading]}" if by_name[heading] else ""
        points = f"{compared}: {by_name[compared]}" if by_name[compared] else ""
        parts = [part for part in (figure, points, by_name[verdict] or by_name[state]) if part]
        console.print(plain_cell(f"{by_name['rank']:>3}  {name_of_row(board, row)}"), style=_style(row), soft_wrap=True)
        console.print(plain_cell(f"     {'; '.join(parts)}"), style=_style(row), soft_wrap=True)


def _style(row: LeaderboardRow) -> str | None:
    return "bold" if row.rank == 1 or _is_tied(row) else "dim" if row.rank is None else None


def _is_tied(row: LeaderboardRow) -> bool:
    return row.comparison is not None and row.comparison.outcome == Outcome.TIED


_MAX_PRINTED = 10
"""Axes of parameters that can be read on paper."""
_MAX_COLUMNS = 5
"""Parameters up to which each has a column on the page; of more, all are in one."""


@dataclass(frozen=True)
class _Link:
    """A run's name, and the addresses of its folder and of its report, which is empty if it has none."""

    name: str
    folder: str
    report: str


def _links(board: Leaderboard, folder: Path | None) -> Callable[[RunEntry], _Link]:
    """Returns what makes the links of a run: relative to the page's folder, absolute if it has none."""
    shown = _short_names([[entry.name for entry in row.entries] for row in board.rows])

    def address(path: Path) -> str:
        if folder is None:
            return path.as_uri()
        return quote(Path(os.path.relpath(path, folder.resolve())).as_posix())

    def links(entry: RunEntry) -> _Link:
        page = entry.run.path / "report.html"
        return _Link(shown[entry.name], f"{address(entry.run.path)}/", address(page) if page.is_file() else "")

    return links


def _short_names(rows: Sequence[Sequence[str]]) -> dict[str, str]:
    """Returns the names of runs without the folders that all are in, or that the run before in the row is in."""
    parents = [PurePosixPath(name).parent.parts for names in rows for name in names]
    depth = next((place for place, parts in enumerate(zip(*parents, strict=False)) if len({*parts}) > 1), None)
    depth = min(map(len, parents), default=0) if depth is None else depth
    shown = {}
    for names in rows:
        before = ""
        for name in names:
            folder, _, last = name.rpartition("/")
            shown[name] = last if folder == before else "/".join(PurePosixPath(name).parts[depth:])
            before = folder
    return shown


def to_html(board: Leaderboard, folder: Path | None = None) -> str:
    """Returns the leaderboard as HTML, with names escaped.

    Args:
        folder: of the page, which its links are relative to; None for a page that is printed.
    """
    axes, lines = parallel(board)
    scatters = [
        against_cost(board, "seconds", lambda row: row.seconds),
        against_cost(board, "trained parameters", lambda row: row.num_trained),
    ]
    columns, rows = _columns(board)
    compared = [(row, cells(board, row)) for row in board.rows if row.comparison is not None]
    return template("leaderboard.html", shortened=shortened, breakable=_breakable).render(
        board=board,
        headings=columns,
        rows=[(row, texts, _is_tied(row)) for row, texts in zip(board.rows, rows, strict=True)],
        links=_links(board, folder),
        against=["configuration", *headings(board)[-3:-1]],
        compared=[[name_of_row(board, row), *texts[-3:-1]] for row, texts in compared],
        sentences=sentences(board),
        reasons=reasons(board),
        axes=axes,
        max_printed=_MAX_PRINTED,
        lines=lines,
        scatters=[scatter for scatter in scatters if scatter is not None],
    )


def _columns(board: Leaderboard) -> tuple[list[tuple[str, bool]], list[list[str]]]:
    """Returns headings, each with whether its cells are text, and the cells of each row, without the comparisons."""
    names = headings(board)
    rows = [[*cells(board, row)[:-3], row.short_state] for row in board.rows]
    num = len(board.parameters)
    columns = [(name, 1 <= index <= num) for index, name in enumerate(names[:-3])] + [("state", True)]
    if num <= _MAX_COLUMNS:
        return columns, rows
    configurations = [
        "\n".join(f"{name}={value}" for name, value in zip(board.parameters, row[1 : 1 + num], strict=True) if value)
        for row in rows
    ]
    joined = [[row[0], text, *row[1 + num :]] for row, text in zip(rows, configurations, strict=True)]
    return [columns[0], ("configuration", True), *columns[1 + num :]], joined


def _breakable(name: str) -> Markup:
    """Returns a dotted name that may be broken after its dots, as HTML."""
    return Markup("<wbr>").join(re.split(r"(?<=[._/])", name))
