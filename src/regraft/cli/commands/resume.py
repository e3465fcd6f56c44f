"""Resume a run or a sweep in its own folder: regraft resume run=last."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from regraft.cli import commands
from regraft.cli.command import RUN_REFERENCE, Command
from regraft.cli.hydra_app import run_app
from regraft.runs.arguments import to_resume
from regraft.runs.folder import Run
from regraft.sweeps.find import to_resume_sweep


def run(arguments: list[str]) -> None:
    """Resumes the run or the sweep that `run=` refers to."""
    sweep = to_resume_sweep(arguments)
    if sweep is None:
        commands.find("train").run(to_resume(arguments))
        return
    if sweep.directory != Path.cwd():
        print(f"Resuming in {sweep.directory}, where the sweep was started.")
    with contextlib.chdir(sweep.directory):
        run_app(commands.find(sweep.command), sweep.arguments)


def resume_once(overrides: Sequence[str], config_dir: str | None) -> Run:
    """Resumes a run as the command line does; see `regraft.resume`."""
    from regraft.cli.commands.train import train_once

    return train_once(to_resume(overrides), config_dir)


COMMAND = Command(
    name="resume",
    run=run,
    usage="regraft resume run=RUN [trainer.max_epochs=N | key=value]... [resume.reset=[optimizer,scheduler]]",
    details=RUN_REFERENCE,
    config_name="train",
    takes_run=True,
)
