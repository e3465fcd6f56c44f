"""Training on several devices: a process group of its own, started from a run's folder.

Lightning starts rank 1 and up by repeating the command line of rank 0. Inside a Hydra job that would repeat the whole
command, sweep included; so the job starts `python -m regraft _join RUN`, which knows nothing but the run.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import yaml

from regraft.core import launcher
from regraft.core.errors import ConfigError
from regraft.core.processes import process_id
from regraft.core.startup import Preempted
from regraft.runs import state as run_state
from regraft.runs.folder import Run
from regraft.runs.provenance import Session

FSDP = "fsdp"
"""The name of the strategy that divides a run's weights among its processes."""
HANDED_OVER = ".processes.yaml"
LAUNCHED_BY = "REGRAFT_LAUNCHED_BY"
_OF_A_GROUP = ("LOCAL_RANK", "NODE_RANK", "MASTER_PORT")
"""Variables that Lightning leaves in the environment of a process that has trained as part of a group."""
_PATIENCE_SECONDS = 25
"""More than a process takes to save and end (`callbacks.signals.DEADLINE_SECONDS`), less than schedulers wait: 30 s."""
_STOPPED = (130, 143)  # by Ctrl-C, by preemption
_TIMED_OUT = re.compile(r"timed?[ -]?out", re.IGNORECASE)
_GONE = re.compile(r"connection (closed|reset) by peer", re.IGNORECASE)
_GLOO = re.compile(r"\bgloo\b")
"""What torch's stores and gloo say, and a file of gloo's, whose errors have no type of their own."""


def num_processes(trainer: dict[str, Any]) -> int:
    """Returns how many processes the trainer config asks for."""
    devices, num_nodes = trainer["devices"], trainer["num_nodes"]
    if isinstance(devices, list) or "," in str(devices):
        return num_nodes * len(devices if isinstance(devices, list) else devices.replace(",", " ").split())
    if str(devices) in ("auto", "-1"):
        import torch

        return num_nodes * (1 if trainer["accelerator"] == "cpu" else max(torch.cuda.device_count(), 1))
    # Other values are refused where the trainer is built.
    return num_nodes * (int(devices) if str(devices).isdigit() else 1)


def needs_processes(trainer: dict[str, Any]) -> bool:
    """Whether the trainer config asks for more than one process."""
    return num_processes(trainer) > 1


def is_sharded(trainer: dict[str, Any]) -> bool:
    """Whether the processes of a trainer config divide the weights among them."""
    return trainer.get("strategy") == FSDP


def require_startable(trainer: dict[str, Any]) -> None:
    """Raises ConfigError if a run needs several nodes, and nothing has started its processes there."""
    num_nodes = trainer["num_nodes"]
    if num_nodes == 1 or launcher.place_in_training() is not None:
        return
    devices = num_processes(trainer) // num_nodes
    raise ConfigError(
        "trainer.num_nodes",
        "the processes of several nodes are started by torchrun or srun",
        got=num_nodes,
        fix=f"On each node: torchrun --nnodes={num_nodes} --nproc-per-node={devices} --rdzv-backend=c10d "
        f"--rdzv-endpoint=FIRST_NODE:29500 --rdzv-id=NAME -m regraft train ...; or in a job of Slurm: "
        f"srun --nodes={num_nodes} --ntasks-per-node={devices} regraft train ... "
        "On this one alone: trainer.num_nodes=1.",
    )


@contextmanager
def explaining_silence(trainer: dict[str, Any]) -> Iterator[None]:
    """Turns torch's errors of waiting for another process into ones that say so."""
    try:
        yield
    except RuntimeError as error:
        if not needs_processes(trainer) or not _is_of_processes(error):
            raise
        if _TIMED_OUT.search(str(error)):
            seconds = trainer.get("process_timeout")
            waited = "in time" if seconds is None else f"for {seconds:g} s"
            reason = f"another process of the run hasn't answered {waited}"
            fix = "Resume the run, with a longer time if the processes were busy."
            raise ConfigError("trainer.process_timeout", reason, fix=fix) from error
        if _GONE.search(str(error)):
            raise ConnectionError("another process of the run has ended; its own error, if any, is above.") from error
        raise


def _is_of_processes(error: RuntimeError) -> bool:
    """Whether an error is of torch's stores and groups, or of gloo, not of a source of data that says the same."""
    from torch.distributed import DistError

    return isinstance(error, DistError) or bool(_GLOO.search(str(error)))


def launch(config: dict[str, Any], run: Run, session: Session) -> None:
    """Trains the run in a process group of its own and waits for it.

    Raises:
        ChildProcessError: the group failed; its own error is printed above.
        SystemExit: a signal ended it.
        run_state.Pruned: a search pruned it.
    """
    handed_over = run.path / HANDED_OVER
    handed_over.write_text(yaml.safe_dump([config, session], sort_keys=False), encoding="utf-8")
    # With these, Lightning would wait for other processes instead of starting them.
    inherited = {name: value for name, value in os.environ.items() if name not in _OF_A_GROUP}
    # -m would look for modules in the current folder first, whatever lies there.
    environment = inherited | {"PYTHONSAFEPATH": "1", LAUNCHED_BY: process_id()}
    command = [sys.executable, "-m", "regraft", "_join", str(run.path)]
    # A group of their own, so that all of them can be ended, also those that were stopped and don't react to SIGTERM.
    group = subprocess.Popen(command, env=environment, start_new_session=True)
    exit_code = None
    try:
        exit_code = group.wait()
    except BaseException as error:
        # The group saves the run before it ends, and may want to know which signal it was.
        interrupt = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
        group.send_signal(error.signum if isinstance(error, Preempted) else interrupt)
        with suppress(subprocess.TimeoutExpired):
            exit_code = group.wait(timeout=_PATIENCE_SECONDS)
        raise
    finally:
        if exit_code != 0:
            with suppress(ProcessLookupError):
                os.killpg(group.pid, signal.SIGKILL)
        if exit_code is None:
            run_state.end_killed(run, "its processes didn't end, and were killed")
        handed_over.unlink()
    if exit_code in _STOPPED:
        raise SystemExit(exit_code)
    if exit_code:
        raise ChildProcessError(f"the training processes of {run.path} ended with exit code {exit_code}; see above.")
    state = run_state.read(run)
    if state.status == "pruned":
        raise run_state.Pruned(state.reason)
