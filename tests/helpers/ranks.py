"""Commands in two processes that meet as torchrun's do, forked from the tests' own: torchrun itself takes seconds."""

import os
import socket
from multiprocessing.process import BaseProcess

from helpers.processes import start


def start_ranks(commands: list[list[str]], *, stop_at: int | None = None) -> list[BaseProcess]:
    """Returns two processes that train the commands' runs, one after the other.

    Args:
        commands: the overrides of each.
        stop_at: the step after which the last one ends with an error, once its checkpoint is written.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [start(_train_all, rank, port, commands, stop_at) for rank in (0, 1)]


def train_by_ranks(commands: list[list[str]], *, stop_at: int | None = None) -> None:
    """Trains the commands' runs in two processes; see `start_ranks`."""
    processes = start_ranks(commands, stop_at=stop_at)
    for process in processes:
        process.join(timeout=300)
    assert [process.exitcode for process in processes] == ([0, 0] if stop_at is None else [1, 1])


def _train_all(rank: int, port: int, commands: list[list[str]], stop_at: int | None) -> None:
    import regraft

    os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": f"{port}"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}", "TORCHELASTIC_USE_AGENT_STORE": "False"}
    for number, command in enumerate(commands, start=1):
        if number == len(commands) and stop_at is not None:
            _stop_at(stop_at)
        regraft.train(command)


def _stop_at(step: int) -> None:
    from regraft.training.callbacks.checkpoint import LastCheckpoint

    write = LastCheckpoint.on_train_batch_end

    def write_and_stop(self, trainer, *arguments):
        write(self, trainer, *arguments)
        if trainer.global_step == step:
            raise OSError("stopped")

    LastCheckpoint.on_train_batch_end = write_and_stop
