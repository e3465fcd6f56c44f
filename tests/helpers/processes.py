"""Processes that can be killed, forked from the tests' own: importing everything again would take seconds."""

import itertools
import logging
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("fork")


def start(function: Callable[..., None], *arguments: object) -> BaseProcess:
    """Returns a process that does this in the current folder, its output in `processes.log` there.

    Args:
        function: called in the process.
        arguments: given to it.
    """
    process = _CONTEXT.Process(target=_alone, args=(function, arguments))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads, from Python 3.12 on
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


def _alone(function: Callable[..., None], arguments: tuple[object, ...]) -> None:
    """Calls a function with what pytest has changed in the process put back."""
    import torch

    torch.set_num_threads(1)  # a forked child waits for ever for threads that only its parent has
    log = os.open("processes.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", buffering=1, closefd=False) for descriptor in (1, 2))
    logging.root.handlers.clear()
    warnings.resetwarnings()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    function(*arguments)


def _regraft(words: list[str]) -> None:
    from regraft.cli.main import main

    sys.argv = ["regraft", *words]
    main(words)
