"""The table of the heads that a probe compared, on the terminal, and that of its grid as CSV."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from regraft.core.text import write_csv
from regraft.report.console import plain_cell, print_line, wide_console

HEADINGS = ("head", "stages", "estimate", "images", "accuracy, %", "log loss", "seconds", "test, %")
_NUM_TEXTS = 3
_WIDTH = 124
_FIGURES = ("val/acc", "val/loss", "train/loss", "best_epoch")


def show(results: Mapping[str, Any]) -> None:
    """Prints a row per head, the chosen one in bold, and notes on the estimates and the choice.

    Args:
        results: of the probe's run.
    """
    found = results["heads"]
    console = wide_console(_WIDTH)
    table = Table(title="Heads on frozen features", title_justify="left", box=box.SIMPLE_HEAD)
    for place, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if place < _NUM_TEXTS else "right")
    for row in found["rows"]:
        table.add_row(*map(plain_cell, cells(row, results)), style="bold" if row["is_chosen"] else None)
    console.print(table)
    for note in found["notes"]:
        print_line(console, note)


def cells(row: Mapping[str, Any], results: Mapping[str, Any]) -> list[str]:
    """Returns the text of a row under `HEADINGS`; the chosen head alone has been tested."""
    tested = results.get("metrics", {}).get("test/acc") if row["is_chosen"] else None
    shots = "" if row["shots"] is None else f"{row['shots']} shots"
    name = ", ".join(filter(None, [row["name"], row["settings"], shots]))
    if row["estimate"] is None:
        figures = ["none", "", "", ""]
    else:
        accuracy = f"{100 * row['acc']:.1f}{_error(row, 'acc_error', 100, 1)}"
        loss = f"{row['loss']:.3f}{_error(row, 'loss_error', 1, 3)}"
        figures = [row["estimate"], f"{row['num_images']:,}", accuracy, loss]
    return [
        name,
        row["stages"],
        *figures,
        f"{row['seconds']:.2f}",
        "" if tested is None else f"{100 * tested:.1f}",
    ]


def _error(row: Mapping[str, Any], key: str, factor: float, num_digits: int) -> str:
    return f" ± {factor * row[key]:.{num_digits}f}" if key in row else ""


def write_grid(path: Path, fits: Mapping[Any, Any]) -> None:
    """Writes a row per head in the grid's order as CSV; the numbers of a diverged one are blank.

    Args:
        fits: `HeadFit` by `GridPoint`.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        write_csv(file, [[*next(iter(fits))._fields, *_FIGURES], *(_grid_row(*each) for each in fits.items())])


def _grid_row(point: Any, fit: Any) -> list[Any]:
    figures = [fit.val_acc, fit.val_loss, fit.train_loss, fit.best_epoch]
    return [*point, *([""] * len(figures) if fit.is_diverged else figures)]
