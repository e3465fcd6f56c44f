"""Replaces Lightning's exits, and silences its messages, where they are wrong or irrelevant for a run."""

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from regraft.core.startup import quick_imports


@contextmanager
def interruptible(trainer: Any) -> Iterator[None]:
    """Turns Lightning's exit after Ctrl-C into a KeyboardInterrupt; Lightning exits as if the run had failed."""
    try:
        yield
    except SystemExit as error:
        # Lightning's own exit; another one, such as preemption's, is what it says.
        if not trainer.interrupted or error.code != 1:
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from None


def quiet_lightning() -> None:
    """Silences Lightning's notes, and its warnings about what is intended."""
    with quick_imports():
        import pytorch_lightning  # noqa: F401  # importing it enables its messages

    # Accelerators found, tips, files restored; the run's own tables say what matters.
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        # The run's folder is there before its loggers and checkpoints are: Hydra made it.
        r"Experiment logs directory .* exists and is not empty",
        r"Checkpoint directory .* exists and is not empty",
        # A callback that the command line left out of a resumed run.
        r"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",
        # Rows are logged once an epoch, whatever the number of its batches.
        r"The number of training batches \(\d+\) is smaller than the logging interval",
        # A batch that callbacks.nan=skip leaves out; how many there were is logged.
        r"`training_step` returned `None`",
        # How many loader processes there are is the user's to choose; data in memory is faster without any.
        r".*_dataloader' does not have many workers",
        # A machine that has Slurm, where a single process needs no task of it.
        r"The `srun` command is available on your system but is not used",
        # Lightning's own use of torch's pytrees.
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    ):
        warnings.filterwarnings("ignore", message=message)
