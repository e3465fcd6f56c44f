"""Rank configurations, and test whether the differences are more than chance: regraft compare [RUN | SWEEP]...

Reads files only.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.cli.command import Command
from regraft.cli.completion import run_references
from regraft.core.errors import ConfigError, MissingFileError, UnknownNameError
from regraft.core.remote import is_remote, output_at
from regraft.core.text import say
from regraft.data.findings import counted
from regraft.runs.arguments import output_dir

if TYPE_CHECKING:
    from regraft.evaluation.compare.leaderboard import Leaderboard

_FORMATS = ("table", "csv", "md", "html")


def run(arguments: Sequence[str]) -> None:
    """Prints or writes the leaderboard of some runs; see the command's help."""
    form, output, board = _compared(arguments, lambda step: say(f"{step} ...", is_error=True))
    if form == "table":
        from regraft.report.leaderboard import terminal as leaderboard

        leaderboard.show(board)
    elif output is None:
        say(_text(board, form, None).removesuffix("\n"))
    else:
        _write(board, form, output)
        say(f"Wrote {output if is_remote(output) else Path(output).expanduser().resolve()}")


def compare_once(arguments: "Sequence[str | Path]") -> "Leaderboard":
    """Returns the leaderboard of some runs, and writes it if `output=` is given; see `regraft.compare`."""
    form, output, board = _compared(list(map(str, arguments)), lambda step: None)
    if output is None and form != "table":
        raise ConfigError("format", "nothing is printed here", got=form, fix="Add output=FILE, or leave it out.")
    if output is not None:
        _write(board, form, output)
    return board


def _compared(arguments: Sequence[str], tell: Callable[[str], None]) -> tuple[str, str | None, "Leaderboard"]:
    """Returns the format, the output file, if any, and the leaderboard; `tell` is called when runs are read."""
    references, given = COMMAND.split(arguments)
    output = given.get("output")
    form = _format(given.get("format"), output)
    folder = Path(output_dir(arguments)).expanduser().resolve()
    references += [given["run"]] if "run" in given else []

    from regraft.evaluation.compare.finding import find_runs

    found = find_runs(references, folder)
    if not found:
        raise MissingFileError("compare", f"there is no run in {folder}", fix="output_dir=PATH looks elsewhere.")
    tell(f"Comparing {counted(len(found), 'run')}")

    from regraft.evaluation.compare.entries import read_entries
    from regraft.evaluation.compare.leaderboard import make_leaderboard

    return form, output, make_leaderboard(read_entries(found, folder), given.get("metric"))


def _format(given: str | None, output: str | None) -> str:
    """Returns the given format, else that of the file's name."""
    if given is not None and given not in _FORMATS:
        raise UnknownNameError("format", "format", given, _FORMATS)
    if output is None:
        return given or "table"
    form = given or Path(output).suffix.removeprefix(".")
    if form not in _FORMATS[1:]:
        raise ConfigError(
            "output", got=output, allowed="a name that ends in .csv, .md or .html, or another with format="
        )
    return form


def _text(board: "Leaderboard", form: str, folder: Path | None) -> str:
    from regraft.report.leaderboard import text as leaderboard_text
    from regraft.report.leaderboard.terminal import to_html

    if form == "html":
        return to_html(board, folder)
    return {"csv": leaderboard_text.to_csv, "md": leaderboard_text.to_markdown}[form](board)


def _write(board: "Leaderboard", form: str, output: str) -> None:
    from regraft.core.atomic import write_atomically

    with output_at(output, "output") as path:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _text(board, form, None if is_remote(output) else path.parent).encode())


COMMAND = Command(
    name="compare",
    run=run,
    usage=(
        "regraft compare [RUN | SWEEP | FOLDER | PART_OF_A_NAME]... [metric=val/loss] [format=table|csv|md|html] "
        "[output=FILE] [output_dir=PATH]"
    ),
    details="""Without a run, all runs are compared. Runs that differ only in their seeds are one configuration.
metric= ranks them; by default test/acc, else val/acc. output=FILE.html writes a page, .csv a table, .md Markdown;
without output= they are printed. output_dir=PATH is the folder of all runs.""",
    keys=("run", "metric", "format", "output", "output_dir"),
    words=run_references,
)
