"""Training on several devices: a process group of its own, started from a run's folder.

Lightning starts rank 1 and up by repeating the command line of rank 0. Inside a Hydra job that would repeat the whole
command, sweep included; so the job starts `python -m regraft _join RUN`, which knows nothing but the run.
"""

import os
import signal
import subprocess
import sys
from typing import Any

import yaml

from regraft.core.processes import process_id
from regraft.core.startup import Preempted
from regraft.runs import state as run_state
from regraft.runs.folder import Run
from regraft.runs.provenance import Session

HANDED_OVER = ".processes.yaml"
LAUNCHED_BY = "REGRAFT_LAUNCHED_BY"
_OF_A_GROUP = ("LOCAL_RANK", "NODE_RANK", "MASTER_PORT")
"""Variables that Lightning leaves in the environment of a process that has trained as part of a group."""
_PATIENCE_SECONDS = 30
_STOPPED = (130, 143)  # by Ctrl-C, by preemption


def needs_processes(trainer: dict[str, Any]) -> bool:
    """Whether the trainer config asks for more than one process."""
    devices = trainer["devices"]
    if trainer["num_nodes"] > 1:
        return True
    if isinstance(devices, list) or "," in str(devices):
        return len(devices if isinstance(devices, list) else devices.replace(",", " ").split()) > 1
    if str(devices) in ("auto", "-1"):
        import torch

        return bool(trainer["accelerator"] != "cpu" and torch.cuda.device_count() > 1)
    # Other values are refused where the trainer is built.
    return str(devices).isdigit() and int(devices) > 1


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
    group = subprocess.Popen([sys.executable, "-m", "regraft", "_join", str(run.path)], env=environment)
    try:
        exit_code = group.wait()
    except BaseException as error:
        # A signal to this process alone; the group saves the run before it ends, and may want to know which it was.
        group.send_signal(error.signum if isinstance(error, Preempted) else signal.SIGTERM)
        try:
            group.wait(timeout=_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            group.kill()
        raise
    finally:
        handed_over.unlink()
    if exit_code in _STOPPED:
        raise SystemExit(exit_code)
    if exit_code:
        raise ChildProcessError(f"the training processes of {run.path} ended with exit code {exit_code}; see above.")
    state = run_state.read(run)
    if state.status == "pruned":
        raise run_state.Pruned(state.reason)
