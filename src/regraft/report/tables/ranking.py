"""The table of ranked candidates, on the terminal and as CSV."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from regraft.core.text import write_csv
from regraft.report.console import plain_cell, print_line, wide_console
from regraft.report.tables.heads import figure_of
from regraft.tasks import Task
from regraft.training.auto.ranking import Ranked

_WIDTH = 100


def show(found: Sequence[Ranked], left_out: Mapping[str, str], num_images: int, task: Task) -> None:
    """Prints a row per candidate, and why others were left out.

    Args:
        found: the best first.
        left_out: why others couldn't be compared, by name.
        num_images: that were left out one by one.
    """
    console = wide_console(_WIDTH)
    console.print(_table(found, num_images, task))
    print_line(
        console, f"= cannot be told from the first: their {task.loss_title} differs by less than two standard errors."
    )
    for name, reason in left_out.items():
        print_line(console, f"Left out: {name}: {reason}")


def _table(found: Sequence[Ranked], num_images: int, task: Task) -> Table:
    spec = found[0].spec
    how = "with its group" if found[0].score.is_grouped else "in turn"
    table = Table(
        title=f"Heads in closed form on frozen features: each of {num_images:,} {spec.nouns} left out {how}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    metric, factor, digits = figure_of(task)
    unit = ", %" if task.has_classes else ""
    for heading in ("", "model", spec.size_unit, metric, task.loss_title, f"neighbours{unit}", f"ms {spec.one}"):
        table.add_column(heading, justify="left" if heading in ("", "model") else "right")
    for each in found:
        score, seconds = each.score, each.seconds_per_image
        table.add_row(
            "" if each.is_beaten else "=",
            plain_cell(each.model),
            str(each.spec.size),
            f"{factor * score.headline:.{digits}f} ± {factor * score.headline_error:.{digits}f}",
            f"{score.loss:.3f} ± {score.loss_error:.3f}",
            f"{factor * each.neighbours:.{digits}f}",
            "" if seconds is None else f"{1000 * seconds:.1f}",
            style="bold" if each is found[0] else None,
        )
    return table


def write(path: Path, found: Sequence[Ranked], task: Task) -> None:
    """Writes a row per candidate as CSV, the best first."""
    with path.open("w", newline="", encoding="utf-8") as file:
        name = task.headline
        of_score = (f"loo_{name}", f"loo_{name}_error", "loo_loss", "loo_loss_error", f"neighbours_{name}")
        columns = ("model", found[0].spec.size_key, *of_score, "seconds_per_image", "is_beaten")
        write_csv(file, [columns, *map(_row, found)])


def _row(each: Ranked) -> list[Any]:
    score = each.score
    figures = [score.headline, score.headline_error, score.loss, score.loss_error, each.neighbours]
    seconds = "" if each.seconds_per_image is None else each.seconds_per_image
    return [each.model, each.spec.size, *figures, seconds, each.is_beaten]
