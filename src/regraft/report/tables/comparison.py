"""The table of a run's metrics and those of its reproduction."""

from rich.table import Table

from regraft.core.console import Console
from regraft.report.console import print_line
from regraft.runs.folder import Run


def show(source: Run, again: Run) -> None:
    """Prints a row per metric: both values, and whether they are identical to the last bit."""
    table = Table("metric", "then", "now", "identical", title="Reproduced", title_justify="left")
    then, now = source.metrics, again.metrics
    for name in [*then, *(name for name in now if name not in then)]:
        values = [metrics.get(name) for metrics in (then, now)]
        is_identical = repr(values[0]) == repr(values[1])
        cells = ["-" if value is None else f"{value:.4f}" if is_identical else repr(value) for value in values]
        table.add_row(name, *cells, "yes" if is_identical else "no")
    console = Console()
    console.print(table)
    for word, run in (("then", source), ("now", again)):
        print_line(console, f"{word}: {run.path}")
