"""Resume a run, a sweep or a search in its own folder: regraft resume run=last."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from regraft.cli import commands
from regraft.cli.command import RUN_REFERENCE, Command
from regraft.cli.hydra_app import run_app
from regraft.core.errors import UnknownNameError
from regraft.core.text import say
from regraft.runs.arguments import folder_meant, to_resume, without_reference
from regraft.runs.folder import Run
from regraft.runs.searches import SearchCommand, command_of_search, find_search
from regraft.sweeps.find import to_resume_sweep


def run(arguments: list[str]) -> None:
    """Resumes the run, the sweep or the search that `run=` refers to."""
    search = _search_to_resume(arguments)
    if search is not None:
        from regraft.cli.commands.auto import search_again

        search_again(*search)
        return
    sweep = to_resume_sweep(arguments)
    if sweep is None:
        commands.find("train").run(to_resume(arguments))
        return
    if sweep.directory != Path.cwd():
        say(f"Resuming in {sweep.directory}, where the sweep was started.")
    with contextlib.chdir(sweep.directory):
        run_app(commands.find(sweep.command), sweep.arguments)


def resume_once(overrides: Sequence[str], config_dir: str | None) -> Run:
    """Resumes a run as the command line does; see `regraft.resume`."""
    from regraft.cli.commands.auto import search_again
    from regraft.cli.commands.train import train_once

    search = _search_to_resume(overrides, config_dir)
    return train_once(to_resume(overrides), config_dir) if search is None else search_again(*search)


def _search_to_resume(arguments: Sequence[str], config_dir: str | None = None) -> tuple[SearchCommand, Path] | None:
    """Returns the command of the search that `run=` refers to, with the other arguments, and its folder.

    None if it isn't a search.
    """
    folder = folder_meant(arguments, find_search, "a search")
    if folder is None:
        return None
    from regraft.cli.training_command import split_flags

    flags, words = split_flags(arguments)
    others = [*(word for word in words if word.startswith("-")), *(["-m"] if flags.multirun else [])]
    if others:
        raise UnknownNameError("resume", "flag", others[0], ["--config-dir"])
    return command_of_search(folder, without_reference(words), flags.config_dir or config_dir), folder


COMMAND = Command(
    name="resume",
    run=run,
    shares_work=True,
    usage="regraft resume run=RUN [trainer.max_epochs=N | key=value]... [resume.reset=[optimizer,scheduler]]",
    details=RUN_REFERENCE
    + """
Here the folder of a search means the search, which is continued; time=SECONDS sets another limit.""",
    config_name="train",
    takes_run=True,
)
