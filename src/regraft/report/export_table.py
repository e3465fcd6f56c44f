"""What an export shows on the terminal: where it lies, how large it is, how near to the model."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from regraft.deployment.export.sample_images import SampleImages
from regraft.deployment.export.verify import OutputComparison
from regraft.deployment.export.write import Exported


def show(exported: Exported) -> None:
    """Prints the table."""
    answers, measured, pictures = exported.answers, exported.measured, exported.pictures
    table = Table("export", "", title="Exported", title_justify="left")
    table.add_row("size", f"{_size(exported.target) / 1e6:,.2f} MB")
    table.add_row("checked on", f"{len(answers.model):,} {pictures.what}")
    table.add_row("largest difference of a logit, float32", f"{answers.difference:.2g}")
    table.add_row("the same class, float32", f"{100 * answers.agreement:.2f} %")
    if measured is not None:
        _add_measured(table, measured, pictures.spread(len(measured.model)))
    console = Console()
    console.print(table)
    console.print(f"Wrote {exported.target}", soft_wrap=True, highlight=False, markup=False)


def _add_measured(table: Table, measured: OutputComparison, pictures: SampleImages) -> None:
    table.add_section()
    table.add_row("int8 measured on", f"{pictures.num:,} {pictures.what}")
    table.add_row("largest difference of a logit, int8", f"{measured.difference:.2g}")
    table.add_row("the same class, int8", f"{100 * measured.agreement:.2f} %")
    if pictures.labels is None:
        table.add_row("accuracy lost", "unknown: these images have no labels")
        return
    before, after = measured.accuracies(pictures.labels)
    table.add_row("accuracy, float32 and int8", f"{100 * before:.2f} %, {100 * after:.2f} %")
    table.add_row("accuracy lost", f"{100 * (before - after):.2f} points")


def _size(path: Path) -> int:
    """Returns the bytes of a file, or of the files in a folder."""
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size
