"""Trains a run as one process of the group that `training.multi_process` started."""

import os
import sys
from contextlib import suppress

from regraft.cli.command import Command
from regraft.config import safe_yaml
from regraft.config.trust import look_beside
from regraft.core.processes import exit_with_parent
from regraft.core.text import LogFormatter
from regraft.runs import state as run_state
from regraft.runs.folder import Run
from regraft.training.fit.multi_process import HANDED_OVER, LAUNCHED_BY


def run(arguments: list[str]) -> None:
    """Trains the run in a folder, as one process of its group; Lightning starts the other ones."""
    import logging
    from pathlib import Path

    from regraft.report.run.finish import RunDisplay
    from regraft.training.fit.train import fit
    from regraft.training.lightning import quiet_lightning
    from regraft.training.plan import TrainingJob

    exit_with_parent(os.environ[LAUNCHED_BY])
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(LogFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    quiet_lightning()
    joined = Run(Path(arguments[0]))
    config, session = safe_yaml.load(joined.path / HANDED_OVER)
    look_beside(config["trust"])
    with suppress(run_state.Pruned):  # its state has been written
        fit(TrainingJob(config, joined, is_locked=True), session, RunDisplay())


COMMAND = Command(name="_join", run=run, usage="regraft _join FOLDER", shares_work=True)
