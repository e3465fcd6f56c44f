"""The place of this process among those that torchrun, or Slurm's srun, has started with one command.

Lightning has the same in its environments, which need torch; this is read before anything heavy is imported.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from regraft.core import slurm
from regraft.core.errors import ConfigError
from regraft.core.processes import start_ticks

_RUN_ID = "TORCHELASTIC_RUN_ID"
_OF_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")
_OF_SRUN = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")
_PER_NODE, _PER_NODE_OPTION = "SLURM_NTASKS_PER_NODE", "--ntasks-per-node"
_OF_A_GROUP = (_RUN_ID, *_OF_TORCHRUN, "NODE_RANK", *_OF_SRUN, "SLURM_NTASKS", slurm.NUM_TASKS)
"""Variables by which Lightning, too, takes this process for one of several."""
_CLOCKS = "torchrun's c10d also loses nodes whose clocks are 15 s apart: set them, or use --rdzv-backend=static."
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Variables of which Lightning takes the first that is set for this process's rank, whatever started it."""
_UNNAMED = "none"
"""torchrun's `--rdzv-id` where none is given."""


@dataclass(frozen=True)
class Place:
    """The place of a process in its group.

    Attributes:
        rank: from 0, over all nodes.
        local_rank: from 0, on this node.
        num_local: processes on this node.
        node: from 0.
    """

    launcher: Literal["torchrun", "srun"]
    rank: int
    num_processes: int
    local_rank: int
    num_local: int
    node: int
    num_nodes: int

    @property
    def overrides(self) -> list[str]:
        """The keys of the trainer that say how many processes there are."""
        return [f"trainer.devices={self.num_local}", f"trainer.num_nodes={self.num_nodes}"]

    @property
    def is_lone(self) -> bool:
        """Whether there is no other process."""
        return self.num_processes == 1

    def __str__(self) -> str:
        return f"rank {self.rank} on {socket.gethostname()}"


def place() -> Place | None:
    """Returns the place of this process; None if it was started alone."""
    if _RUN_ID in os.environ:  # first, as Slurm may have started torchrun
        return Place("torchrun", *(int(os.environ[name]) for name in _OF_TORCHRUN))
    num_tasks = slurm.num_tasks()
    return _of_srun(num_tasks) if num_tasks > 1 else None


def place_in_training() -> Place | None:
    """Returns the place of this process in a training; None if it was started alone.

    Raises:
        ConfigError: nodes have different numbers of processes, or Slurm doesn't say how many each has.
    """
    found = place()
    if found is None:
        _require_first()
        return None
    if found.launcher == "srun" and _number(_PER_NODE) is None:  # Lightning's environment needs it
        fix = f"Start the tasks with {_PER_NODE_OPTION}={found.num_local}."
        reason = f"srun has started {found.num_processes} tasks, but not how many a node"
        raise ConfigError("trainer.devices", reason, fix=fix)
    if found.num_local * found.num_nodes != found.num_processes:
        same = f"{_PER_NODE_OPTION}." if found.launcher == "srun" else f"--nproc-per-node. {_CLOCKS}"
        reason = f"{found.num_processes} processes on {found.num_nodes} nodes, {found.num_local} of them on this one"
        raise ConfigError("trainer.devices", reason, fix=f"Start as many on each node: {same}")
    return found


def require_alone() -> None:
    """Raises ConfigError if torchrun or Slurm, or something unknown, runs this command several times at once."""
    found = place()
    if found is None:
        _require_first()
    elif not found.is_lone:
        started = f"{found.launcher} has started {found.num_processes} processes of this command"
        fix = "Start one; regraft train, resume and fill alone share their work."
        raise ConfigError(None, f"{started}, each of which would do all of it", fix=fix)


@contextmanager
def alone() -> Iterator[None]:
    """Hides from Lightning inside the block that this process is one of several, which don't train together."""
    hidden = {name: os.environ.pop(name) for name in _OF_A_GROUP if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _require_first() -> None:
    """Raises ConfigError if this process, started alone, has the rank of another one in its environment."""
    name = next((name for name in _RANKS if name in os.environ), "")
    if (_number(name) or 0) > 0:
        reason = f"{name}={os.environ[name]} says that this is one of several processes"
        fix = f"Start them with one of these, or this one alone: unset {name}."
        raise ConfigError(None, f"{reason}, which neither torchrun nor srun has started", fix=fix)


def _of_srun(num_tasks: int) -> Place:
    num_nodes = _number("SLURM_STEP_NUM_NODES", "SLURM_NNODES") or 1
    per_node = _number(_PER_NODE) or num_tasks // num_nodes or 1
    rank, local_rank, node = (_number(name) or 0 for name in _OF_SRUN)
    return Place("srun", rank, num_tasks, local_rank, per_node, node, num_nodes)


def _number(*names: str) -> int | None:
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()), None)


def job_id() -> str | None:
    """Returns an identifier of the job that may start this process's command again; None if nothing does.

    It is the id of a Slurm job, or that of torchrun, or of its process where it has none.
    """
    job = slurm.job_id()
    if job is not None or _RUN_ID not in os.environ:
        return job
    name = os.environ[_RUN_ID]
    return f"torchrun {name}" if name != _UNNAMED else f"torchrun {agent()}"


def name_job(job: str) -> None:
    """Gives the job of torchrun an identifier, such as that of another node, where it has none."""
    if os.environ.get(_RUN_ID) == _UNNAMED:
        os.environ[_RUN_ID] = job.removeprefix("torchrun ")


def is_new(*, has_ended: bool) -> bool:
    """Whether the command of this process can't have been started before in its job.

    Args:
        has_ended: whether all that it was started for before is done.
    """
    if slurm.was_requeued():
        return False
    # torchrun counts only those restarts that it makes because of this node.
    return _RUN_ID not in os.environ or (has_ended and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0")


def agent() -> str:
    """Returns the `processes.process_id` of the process that has started this one."""
    return f"{socket.gethostname()} {os.getppid()} {start_ticks(os.getppid())}"
