"""A leaderboard as one HTML page that needs no network; what it looks like is in `pages/leaderboard.html`."""

from regraft.evaluation.compare.leaderboard import Leaderboard
from regraft.report.axes import shortened
from regraft.report.leaderboard_plots import against_cost, parallel
from regraft.report.leaderboard_text import cells, headings, reasons, sentences, verdict
from regraft.report.templates import template


def to_html(board: Leaderboard) -> str:
    """Returns the page; names in it are shown as they are, whatever they hold."""
    axes, lines = parallel(board)
    scatters = [
        against_cost(board, "seconds", lambda row: row.seconds),
        against_cost(board, "trained parameters", lambda row: row.num_trained),
    ]
    return template("leaderboard.html", shortened=shortened).render(
        board=board,
        headings=headings(board),
        rows=[(row, cells(board, row), verdict(row)) for row in board.rows],
        sentences=sentences(board),
        reasons=reasons(board),
        axes=axes,
        lines=lines,
        scatters=[scatter for scatter in scatters if scatter is not None],
    )
