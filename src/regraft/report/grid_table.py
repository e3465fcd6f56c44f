"""The table of a probe's heads, on the terminal and as CSV."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_COLUMNS = ("val/acc", "val/loss", "train/loss", "best epoch")


def show(fits: Mapping[Any, Any], best: Any) -> None:
    """Prints a row per head, the best first; `fits` has a `HeadFit` by `GridPoint`."""
    axes = best._fields
    table = Table(
        *(axis.replace("_", " ") for axis in axes),
        title="Linear heads, by validation accuracy",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for heading in _COLUMNS:
        table.add_column(heading.replace("/", " "), justify="right")
    ranked = sorted(fits.items(), key=lambda item: (item[1].is_diverged, -item[1].val_acc, item[1].val_loss))
    for point, fit in ranked:
        cells = ["all" if value is None else f"{value:g}" for value in point]
        values = [f"{fit.val_acc:.4f}", f"{fit.val_loss:.4f}", f"{fit.train_loss:.4f}", str(fit.best_epoch)]
        values = ["diverged", "", "", ""] if fit.is_diverged else values
        table.add_row(*cells, *values, style="bold" if point == best else None)
    Console().print(table)


def write(path: Path, fits: Mapping[Any, Any]) -> None:
    """Writes a row per head in the grid's order as CSV; the numbers of a diverged one are blank."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*next(iter(fits))._fields, *(name.replace(" ", "_") for name in _COLUMNS)])
        for point, fit in fits.items():
            figures = [fit.val_acc, fit.val_loss, fit.train_loss, fit.best_epoch]
            writer.writerow([*point, *([""] * len(figures) if fit.is_diverged else figures)])
