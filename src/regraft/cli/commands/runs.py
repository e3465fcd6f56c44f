"""List runs with their states and metrics: regraft runs [WORD]...

Nothing heavy is imported.
"""

from collections.abc import Sequence
from pathlib import Path

from regraft.cli.command import Command
from regraft.runs.arguments import output_dir
from regraft.runs.find import all_runs


def run(arguments: Sequence[str]) -> None:
    """Prints a row per run, the newest first."""
    from regraft.report.tables import runs as run_table

    words, _ = COMMAND.split(arguments)
    folder = Path(output_dir(arguments)).expanduser().resolve()
    rows = [run_table.row_of(run, folder) for run in all_runs(folder)]
    chosen = [row for row in rows if all(word.lower() in row.searchable for word in words)]
    run_table.show(chosen, num_all=len(rows), folder=folder)


COMMAND = Command(
    name="runs",
    run=run,
    usage="regraft runs [WORD]... [output_dir=PATH]",
    details="WORDs choose the rows that contain all of them, such as `failed` or `resnet18 lp_ft`.",
    keys=("output_dir",),
)
