"""A leaderboard on the terminal, as a table or, if it is too narrow, as two lines per configuration; and as HTML."""

from rich import box
from rich.table import Table

from regraft.core.console import Console
from regraft.evaluation.compare.leaderboard import Leaderboard, LeaderboardRow
from regraft.evaluation.compare.paired import Outcome
from regraft.report.axes import shortened
from regraft.report.console import plain_cell, wide_console
from regraft.report.leaderboard_plots import against_cost, parallel
from regraft.report.leaderboard_text import cells, headings, name_of_row, reasons, sentences
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
        is_number = name in ("rank", *board.metrics, "n", "seconds", "trained parameters")
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
        points = f"{compared}: {by_name[compared]}" if by_name[compared] else ""
        parts = [part for part in (figure, points, by_name[verdict] or by_name[state]) if part]
        console.print(plain_cell(f"{by_name['rank']:>3}  {name_of_row(board, row)}"), style=_style(row), soft_wrap=True)
        console.print(plain_cell(f"     {'; '.join(parts)}"), style=_style(row), soft_wrap=True)


def _style(row: LeaderboardRow) -> str | None:
    return "bold" if row.rank == 1 or _is_tied(row) else "dim" if row.rank is None else None


def _is_tied(row: LeaderboardRow) -> bool:
    return row.comparison is not None and row.comparison.outcome == Outcome.TIED


def to_html(board: Leaderboard) -> str:
    """Returns the leaderboard as HTML, with names escaped."""
    axes, lines = parallel(board)
    scatters = [
        against_cost(board, "seconds", lambda row: row.seconds),
        against_cost(board, "trained parameters", lambda row: row.num_trained),
    ]
    return template("leaderboard.html", shortened=shortened).render(
        board=board,
        headings=headings(board),
        rows=[(row, cells(board, row), _is_tied(row)) for row in board.rows],
        sentences=sentences(board),
        reasons=reasons(board),
        axes=axes,
        lines=lines,
        scatters=[scatter for scatter in scatters if scatter is not None],
    )
