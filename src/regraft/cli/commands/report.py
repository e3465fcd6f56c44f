"""Write a run's report again, with what mattered in its mistakes: regraft report run=last."""

from collections.abc import Sequence
from pathlib import Path

from regraft.cli.command import RUN_REFERENCE, Command
from regraft.config.quoting import value_of
from regraft.config.trust import look_beside, named_in
from regraft.core.console import steps_shown
from regraft.core.errors import ConfigError, MissingFileError
from regraft.core.startup import quick_imports
from regraft.core.text import say
from regraft.report.run.mistakes import thorough
from regraft.runs.arguments import output_dir, reference_in
from regraft.runs.find import find_run


def run(arguments: Sequence[str]) -> None:
    """Writes the report of a run, with all mistakes and what mattered in them; see the command's help."""
    COMMAND.require_keys(arguments)
    source = find_run(reference_in(arguments), output_dir(arguments), needs_checkpoint=False)
    root = value_of("data.root", arguments)
    if root is not None and not Path(root).exists():
        raise MissingFileError("data.root", "there is no such folder", got=root)
    trust = named_in(arguments)
    look_beside(trust)
    try:
        with steps_shown() as tell:
            tell(f"Writing the report of {source.path}, with what mattered in its mistakes")
            with quick_imports():
                from regraft.report.run.writing import findings_of, write_report

            page = write_report(findings_of(source), thorough(source, root, trust))
    except OSError as error:
        raise ConfigError("report", f"it can't be written into {source.path} ({error.strerror or error})") from error
    say(f"Wrote {page}, and report.md beside it")


COMMAND = Command(
    name="report",
    run=run,
    usage="regraft report run=RUN [data.root=PATH] [trust=[...]]",
    details=RUN_REFERENCE,
    keys=("run", "output_dir", "data.root", "trust"),
    takes_run=True,
)
