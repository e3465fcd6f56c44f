"""List runs and how each stands: regraft runs [WORD]...

It reads small files only and imports nothing heavy.
"""

from collections.abc import Sequence
from pathlib import Path

from regraft.cli.command import Command
from regraft.core.errors import ConfigError, UnknownNameError
from regraft.runs.arguments import output_dir
from regraft.runs.find import all_runs


def run(arguments: Sequence[str]) -> None:
    """Prints a row a run, the newest first.

    Args:
        arguments: words that a row must hold, all of them; `output_dir=PATH`, where runs are looked for.

    Raises:
        ValueError: something else.
    """
    from regraft.report import run_table

    for argument in arguments:
        key, is_given, _ = argument.partition("=")
        if is_given and key != "output_dir":
            raise UnknownNameError("runs", "key", key, ["output_dir"])
        if argument.startswith("-"):
            raise ConfigError("runs", got=argument, allowed=COMMAND.usage)
    folder = Path(output_dir(arguments)).expanduser().resolve()
    words = [argument.lower() for argument in arguments if "=" not in argument]
    rows = [run_table.row_of(run, folder) for run in all_runs(folder)]
    chosen = [row for row in rows if all(word in row.text for word in words)]
    run_table.show(chosen, num_all=len(rows), folder=folder)


COMMAND = Command(
    name="runs",
    run=run,
    usage="regraft runs [WORD]... [output_dir=PATH]",
    details="WORDs choose the rows that hold all of them, such as `failed` or `resnet18 lp_ft`.",
)
