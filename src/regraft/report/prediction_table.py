"""Predictions on the terminal: a row a picture while there are few, a row a class where there are many."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from regraft.data.findings import counted, readable
from regraft.deployment.predict.results import Prediction, PredictionSummary
from regraft.report.run_table import plain_cell

_MAX_CLASSES = 30
# Without a terminal's width, lines that a program can read.
_WIDTH = 160


def show(tally: PredictionSummary, *, is_kept: bool) -> None:
    """Prints the first pictures with their most probable classes; of many, how many there are of each class too.

    Args:
        tally: of all predictions.
        is_kept: whether a file has them all.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    if tally.first:
        console.print(_pictures(tally.first))
    num_more = tally.num - tally.num_bad - len(tally.first)
    if num_more:
        where = "the output file" if is_kept else "output=FILE.csv"
        _print(console, f"... and {counted(num_more, 'more picture')}; {where} has them all.")
        console.print(_classes(tally))


def show_rest(tally: PredictionSummary, notes: Iterable[str], console: Console) -> None:
    """Prints what couldn't be predicted and what was passed over."""
    if tally.num_bad and tally.num > 1:  # a single one's error is the command's
        _print(console, f"{tally.num_bad:,} of {counted(tally.num, 'picture')} couldn't be predicted:")
        for prediction in tally.bad:
            _print(console, f"  {readable(prediction.name or '')}: {prediction.error}")
        if tally.num_bad > len(tally.bad):
            _print(console, f"  ... and {tally.num_bad - len(tally.bad):,} more; the rows of an output file say which.")
    for note in notes:
        _print(console, note)


def _pictures(predictions: list[Prediction]) -> Table:
    table = Table(title="Predictions", title_justify="left")
    table.add_column("picture", overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right")
    has_more = len(predictions[0].top) > 1
    if has_more:
        table.add_column("then", overflow="fold")
    for prediction in predictions:
        best, *others = prediction.top
        then = ", ".join(f"{readable(guess.class_name)} {guess.probability:.4f}" for guess in others)
        cells = [readable(prediction.name or ""), readable(best.class_name), f"{best.probability:.4f}"]
        table.add_row(*map(plain_cell, [*cells, then] if has_more else cells))
    return table


def _classes(tally: PredictionSummary) -> Table:
    table = Table(title="Pictures of each class", title_justify="left")
    table.add_column("class", overflow="fold")
    for heading in ("pictures", "share", "mean probability"):
        table.add_column(heading, justify="right")
    num = tally.num - tally.num_bad
    shown = tally.counts.most_common(_MAX_CLASSES)
    for name, count in shown:
        mean = tally.confidences[name] / count
        table.add_row(plain_cell(readable(name)), f"{count:,}", f"{100 * count / num:.1f} %", f"{mean:.4f}")
    if len(tally.counts) > len(shown):
        rest = num - sum(count for _, count in shown)
        table.add_row(f"{len(tally.counts) - len(shown)} more classes", f"{rest:,}", f"{100 * rest / num:.1f} %", "")
    return table


def _print(console: Console, line: str) -> None:
    console.print(plain_cell(line), soft_wrap=True)
