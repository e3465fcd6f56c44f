"""What a run shows on the terminal: the table it starts with and the one it ends with."""

from typing import Any

from rich.console import Console
from rich.table import Table

from regraft.runs import Run


def show_metrics(metrics: dict[str, float], path: Any) -> None:
    """Prints metrics, one a line."""
    table = Table("metric", "value", title=str(path), title_justify="left")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4f}")
    Console().print(table)
