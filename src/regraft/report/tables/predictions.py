"""Predictions on the terminal: a row per input, and for many of them a row per class."""

from collections.abc import Iterable

from rich.table import Table

from regraft.core.console import Console
from regraft.data.findings import counted, readable
from regraft.deployment.predict.results import Prediction, PredictionSummary
from regraft.report.console import plain_cell, wide_console

_MAX_CLASSES = 30
_MAX_OUTPUTS = 8
_WIDTH = 160
_MAX_LETTERS = 1_000
"""Of a name, which may be a text of any length."""


def show(summary: PredictionSummary, noun: str, *, is_kept: bool) -> None:
    """Prints the first inputs with their most probable classes; for many also the number of each class."""
    console = wide_console(_WIDTH)
    if summary.first:
        has_classes = summary.first[0].outputs is None
        console.print(_first(summary.first, noun) if has_classes else _outputs(summary.first, noun))
    num_more = summary.num - summary.num_bad - len(summary.first)
    if num_more:
        where = "the output file" if is_kept else "output=FILE.csv"
        _print(console, f"... and {counted(num_more, f'more {noun}')}; {where} has them all.")
        if summary.counts:
            console.print(_classes(summary, noun))


def show_rest(summary: PredictionSummary, noun: str, notes: Iterable[str], console: Console) -> None:
    """Prints which inputs couldn't be predicted, and the notes."""
    if summary.num_bad and summary.num > 1:  # a single one's error is the command's
        _print(console, f"{summary.num_bad:,} of {counted(summary.num, noun)} couldn't be predicted:")
        for prediction in summary.bad:
            _print(console, f"  {_name(prediction)}: {prediction.error}")
        if summary.num_bad > len(summary.bad):
            num_more = summary.num_bad - len(summary.bad)
            _print(console, f"  ... and {num_more:,} more; the rows of an output file list them.")
    for note in notes:
        _print(console, note)


def _first(predictions: list[Prediction], noun: str) -> Table:
    table = Table(title="Predictions", title_justify="left")
    table.add_column(noun, overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right")
    has_more = len(predictions[0].top) > 1
    if has_more:
        table.add_column("then", overflow="fold")
    for prediction in predictions:
        best, *others = prediction.top
        then = ", ".join(f"{readable(guess.class_name)} {guess.probability:.4f}" for guess in others)
        cells = [_name(prediction), readable(best.class_name), f"{best.probability:.4f}"]
        table.add_row(*map(plain_cell, [*cells, then] if has_more else cells))
    return table


def _outputs(predictions: list[Prediction], noun: str) -> Table:
    """Returns a row for each input: the predicted labels if there are any, and the first outputs."""
    first = predictions[0].outputs or {}
    names = list(first)[:_MAX_OUTPUTS]
    has_labels = predictions[0].labels is not None
    title = "Predictions" if len(names) == len(first) else f"Predictions, {len(names)} of {len(first)} columns"
    table = Table(title=title, title_justify="left")
    table.add_column(noun, overflow="fold")
    if has_labels:
        table.add_column("labels", overflow="fold")
    for name in names:
        table.add_column(plain_cell(readable(name)), justify="right")
    for prediction in predictions:
        labels = [", ".join(map(readable, prediction.labels or ())) or "none"] if has_labels else []
        numbers = [f"{(prediction.outputs or {})[name]:.5g}" for name in names]
        table.add_row(*map(plain_cell, [_name(prediction), *labels, *numbers]))
    return table


def _classes(summary: PredictionSummary, noun: str) -> Table:
    table = Table(title=f"{noun.capitalize()}s of each class", title_justify="left")
    table.add_column("class", overflow="fold")
    for heading in (f"{noun}s", "share", "mean probability"):
        table.add_column(heading, justify="right")
    num = summary.num - summary.num_bad
    shown = summary.counts.most_common(_MAX_CLASSES)
    for name, count in shown:
        mean = summary.confidences[name] / count
        table.add_row(plain_cell(readable(name)), f"{count:,}", f"{100 * count / num:.1f} %", f"{mean:.4f}")
    if len(summary.counts) > len(shown):
        rest = num - sum(count for _, count in shown)
        table.add_row(f"{len(summary.counts) - len(shown)} more classes", f"{rest:,}", f"{100 * rest / num:.1f} %", "")
    return table


def _name(prediction: Prediction) -> str:
    """Returns a path, or the start of a long text."""
    name = prediction.name or ""
    return readable(name if len(name) <= _MAX_LETTERS else f"{name[:_MAX_LETTERS]}...")


def _print(console: Console, line: str) -> None:
    console.print(plain_cell(line), soft_wrap=True)
