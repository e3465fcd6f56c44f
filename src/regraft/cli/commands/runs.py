"""`regraft runs`: which runs there are and how each stands; reads small files only and imports nothing heavy."""

from collections.abc import Sequence
from pathlib import Path

from regraft.config.compose import unknown
from regraft.runs.arguments import output_dir
from regraft.runs.find import all_runs

_USAGE = "regraft runs [WORD]... [output_dir=PATH]"


def runs(arguments: Sequence[str]) -> None:
    """Prints a row a run, the newest first.

    Args:
        arguments: words that a row must hold, all of them; `output_dir=PATH`, where runs are looked for.

    Raises:
        ValueError: something else.
    """
    from regraft.report import run_table

    if {"-h", "--help"} & set(arguments):
        print(f"usage: {_USAGE}\nWORDs choose the rows that hold all of them, such as `failed` or `resnet18 lp_ft`.")
        return
    for argument in arguments:
        key, is_given, _ = argument.partition("=")
        if is_given and key != "output_dir":
            raise ValueError(f"runs: {unknown('key', key, ['output_dir'])}")
        if argument.startswith("-"):
            raise ValueError(f"runs: got {argument!r}; allowed: {_USAGE}")
    folder = Path(output_dir(arguments)).expanduser().resolve()
    words = [argument.lower() for argument in arguments if "=" not in argument]
    rows = [run_table.row_of(run, folder) for run in all_runs(folder)]
    chosen = [row for row in rows if all(word in row.text for word in words)]
    run_table.show(chosen, num_all=len(rows), place=folder)
