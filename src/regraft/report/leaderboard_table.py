"""A leaderboard on the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table

from regraft.comparing.leaderboard import Leaderboard
from regraft.report.leaderboard_text import cells, headings, sentences
from regraft.report.run_table import plain_cell

# Without a terminal's width, lines that a program can read.
_WIDTH = 240


def show(board: Leaderboard) -> None:
    """Prints the leaderboard, and below it what there is to say."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    table = Table(title=f"Leaderboard by {board.metric}", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in headings(board):
        is_number = heading in ("rank", *board.metrics, "n", "seconds", "trained parameters")
        table.add_column(plain_cell(heading), justify="right" if is_number else "left", overflow="fold")
    for row in board.rows:
        is_ahead = row.rank == 1 or (row.comparison is not None and row.comparison.verdict == "not told apart")
        style = "bold" if is_ahead else "dim" if row.rank is None else None
        table.add_row(*map(plain_cell, cells(board, row)), style=style)
    console.print(table)
    for sentence in sentences(board):
        console.print(plain_cell(sentence), soft_wrap=True)
