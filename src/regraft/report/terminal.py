"""The tables of a run on the terminal: one at its start, one at its end."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from regraft.core.console import Console
from regraft.data.findings import readable
from regraft.report.console import print_line
from regraft.report.next_steps import accuracy_note, next_commands, nouns_of, tested_weights
from regraft.runs.folder import Run
from regraft.tasks import TASKS, Task
from regraft.training.stage_table import StageRow, render

_MAX_NAMES = 10
_VALIDATED = ("val/loss", *(f"val/{task.headline}" for task in TASKS.values()))


def show_start(
    rows: Sequence[StageRow], sizes: Mapping[str, int], class_names: Sequence[str], run: Run, task: Task, nouns: str
) -> None:
    """Prints the stages and when they train, the data's classes and splits, and the run's folder."""
    console = Console()
    print_line(console, sizes_text(sizes, class_names, task, nouns))
    console.print(render(rows))
    print_line(console, f"run: {run.path}")


def sizes_text(sizes: Mapping[str, int], class_names: Sequence[str], task: Task, nouns: str) -> str:
    """Returns the classes, labels or targets, and the images or texts of each split, on one line."""
    numbers = ", ".join(f"{size:,} {split}" for split, size in sizes.items())
    names = ", ".join(map(readable, class_names[:_MAX_NAMES])) + (", ..." if len(class_names) > _MAX_NAMES else "")
    noun = task.noun if len(class_names) == 1 else task.nouns
    return f"{len(class_names)} {noun} ({names}); {nouns}: {numbers}"


def show_results(results: Mapping[str, Any], run: Run) -> None:
    """Prints the results of a finished run, and its folder."""
    table = Table("result", "", title="Done", title_justify="left")
    cross_validation = results.get("cross_validation", {})
    for name in filter(cross_validation.__contains__, _VALIDATED):
        table.add_row(f"{name}, {results['validation']}", f"{cross_validation[name]:.4f}")
    for name, value in results["metrics"].items():
        table.add_row(name, f"{value:.4f}{accuracy_note(run, name, nouns_of(results))}")
    table.add_row("tested weights", tested_weights(results, run))
    share = 100 * results["num_trained_parameters"] / results["num_parameters"]
    table.add_row("trained parameters", f"{results['num_trained_parameters']:,} ({share:.3g} %)")
    table.add_row("epochs, steps", f"{results['num_epochs']}, {results['num_steps']}")
    if "limit" in results:
        table.add_row("ended by", results["limit"])
    table.add_row("seconds", f"{results['seconds']:.1f}")
    console = Console()
    console.print(table)
    print_line(console, f"run: {run.path}")
    if (run.path / "report.html").is_file():
        print_line(console, f"report: {run.path / 'report.html'}")
    for command in next_commands(results, run):
        print_line(console, f"  {command}")
