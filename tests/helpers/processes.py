"""Processes that can be killed, forked from one that has imported everything: starting one anew takes seconds."""

import itertools
import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["regraft.training.from_config", "regraft.training.module", "regraft.training.plan", "sklearn.datasets"]
)


def start(function: Callable[..., None], *arguments: object) -> BaseProcess:
    """Returns a process that does this in the current folder, its output in `processes.log` there.

    Args:
        function: of a module's, as pickle finds it.
        arguments: given to it.
    """
    process = _CONTEXT.Process(target=_alone, args=(str(Path.cwd()), dict(os.environ), function, arguments))
    process.start()
    return process


def start_regraft(words: list[str]) -> BaseProcess:
    """Returns a process that runs `regraft` with these words."""
    return start(_regraft, words)


def write_checkpoints(path: Path) -> None:
    """Writes one checkpoint after the other to the same place, until it is killed."""
    import torch

    from regraft.runs import checkpoint_io

    for step in itertools.count():
        checkpoint_io.write(path, {"state_dict": torch.full((200_000,), float(step)), "global_step": step})


def _alone(folder: str, environment: dict[str, str], function: Callable[..., None], arguments: tuple[object]) -> None:
    os.chdir(folder)
    log = os.open("processes.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.environ.clear()
    os.environ.update(environment)
    function(*arguments)


def _regraft(words: list[str]) -> None:
    import torch

    from regraft.cli.main import main

    torch.set_num_threads(1)
    sys.argv = ["regraft", *words]
    main(words)
