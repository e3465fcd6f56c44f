"""The table of an export on the terminal: its size, and how close it is to the model."""

from pathlib import Path

from rich.table import Table

from regraft.core.console import Console
from regraft.deployment.export.samples import SampleInputs
from regraft.deployment.export.verify import OutputComparison
from regraft.deployment.export.write import Exported
from regraft.report.console import print_line
from regraft.tasks import Task


def show(exported: Exported) -> None:
    """Prints the table and the path."""
    comparison, quantised, samples, task = exported.comparison, exported.quantised, exported.samples, exported.task
    table = Table("export", "", title="Exported", title_justify="left")
    table.add_row("size", f"{_size(exported.target) / 1e6:,.2f} MB")
    _add_comparison(table, "verified on", comparison, samples, "float32", task=task)
    if quantised is not None:
        samples = samples.spread(len(quantised.model))
        table.add_section()
        _add_comparison(table, "int8 measured on", quantised, samples, "int8", task=task)
        if samples.labels is None:
            lost = "accuracy lost" if task.has_classes else f"{task.headline} lost"
            table.add_row(lost, f"unknown: these {samples.what} have no labels")
        else:
            before, after = quantised.headlines(samples.labels, task)
            if task.has_classes:
                table.add_row("accuracy, float32 and int8", f"{100 * before:.2f} %, {100 * after:.2f} %")
                table.add_row("accuracy lost", f"{100 * (before - after):.2f} points")
            else:
                table.add_row(f"{task.headline}, float32 and int8", f"{before:.4f}, {after:.4f}")
                table.add_row(f"{task.headline} lost", f"{before - after:.4f}")
    console = Console()
    console.print(table)
    print_line(console, f"Wrote {exported.target}")


def _add_comparison(
    table: Table, title: str, found: OutputComparison, samples: SampleInputs, dtype: str, *, task: Task
) -> None:
    table.add_row(title, f"{len(found.model):,} {samples.what}")
    what = "logit" if task.has_confidences else "value"
    table.add_row(f"largest difference of a {what}, {dtype}", f"{found.difference:.2g}")
    if task.has_classes:
        table.add_row(f"the same class, {dtype}", f"{100 * found.agreement:.2f} %")


def _size(path: Path) -> int:
    """Returns the bytes of a file, or of the files in a folder."""
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size
