"""The table of the heads that a probe compared, on the terminal, and that of its grid as CSV."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from regraft.core.text import write_csv
from regraft.report.console import plain_cell, print_line, wide_console
from regraft.tasks import Task, task_of

_NUM_TEXTS = 3
_WIDTH = 124


def show(results: Mapping[str, Any]) -> None:
    """Prints a row per head, the chosen one in bold, and notes on the estimates and the choice.

    Args:
        results: of the probe's run.
    """
    found = results["heads"]
    console = wide_console(_WIDTH)
    table = Table(title="Heads on frozen features", title_justify="left", box=box.SIMPLE_HEAD)
    for place, heading in enumerate(headings(results)):
        table.add_column(heading, justify="left" if place < _NUM_TEXTS else "right")
    for row in found["rows"]:
        table.add_row(*map(plain_cell, cells(row, results)), style="bold" if row["is_chosen"] else None)
    console.print(table)
    for note in found["notes"]:
        print_line(console, note)


def headings(results: Mapping[str, Any]) -> list[str]:
    """Returns those of the columns."""
    task, (metric, _, _) = _task(results), figure_of(_task(results))
    tested = "test, %" if task.has_classes else f"test/{task.headline}"
    return [
        "head",
        "stages",
        "estimate",
        f"{results.get('noun', 'image')}s",
        metric,
        task.loss_title,
        "seconds",
        tested,
    ]


def cells(row: Mapping[str, Any], results: Mapping[str, Any]) -> list[str]:
    """Returns the text of a row under `headings`; the chosen head alone has been tested."""
    name, (_, factor, digits) = _task(results).headline, figure_of(_task(results))
    tested = results.get("metrics", {}).get(f"test/{name}") if row["is_chosen"] else None
    shots = "" if row["shots"] is None else f"{row['shots']} shots"
    label = ", ".join(filter(None, [row["name"], row["settings"], shots]))
    if row["estimate"] is None:
        figures = ["none", "", "", ""]
    else:
        headline = f"{factor * row[name]:.{digits}f}{_error(row, f'{name}_error', factor, digits)}"
        loss = f"{row['loss']:.3f}{_error(row, 'loss_error', 1, 3)}"
        figures = [row["estimate"], f"{row['num_images']:,}", headline, loss]
    return [
        label,
        row["stages"],
        *figures,
        f"{row['seconds']:.2f}",
        "" if tested is None else f"{factor * tested:.{digits}f}",
    ]


def _task(results: Mapping[str, Any]) -> Task:
    return task_of(results["heads"]["task"])


def figure_of(task: Task) -> tuple[str, float, int]:
    """Returns the heading of the headline metric, what it is multiplied with, and its digits."""
    return ("accuracy, %", 100, 1) if task.has_classes else (task.headline, 1, 3)


def _error(row: Mapping[str, Any], key: str, factor: float, num_digits: int) -> str:
    return f" ± {factor * row[key]:.{num_digits}f}" if key in row else ""


def write_grid(path: Path, fits: Mapping[Any, Any], headline: str) -> None:
    """Writes a row per head in the grid's order as CSV; the numbers of a diverged one are blank.

    Args:
        fits: `HeadFit` by `GridPoint`.
        headline: the metric that chooses heads.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        figures = [f"val/{headline}", "val/loss", "train/loss", "best_epoch"]
        write_csv(file, [[*next(iter(fits))._fields, *figures], *(_grid_row(*each) for each in fits.items())])


def _grid_row(point: Any, fit: Any) -> list[Any]:
    figures = [fit.val_headline, fit.val_loss, fit.train_loss, fit.best_epoch]
    return [*point, *([""] * len(figures) if fit.is_diverged else figures)]
