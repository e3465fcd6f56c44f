"""Slurm's side of a run: which job it is part of, and how a preempted job gets back into the queue.

That a run is saved first is the business of `interrupts`; how the job that comes back finds it, of `arguments`.
"""

import logging
import os
import re
import subprocess

log = logging.getLogger(__name__)

_SECONDS = 10.0


def job() -> str | None:
    """Returns the number of the Slurm job that this process belongs to, `12` or `12_3` in an array; None outside."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    number = f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")
    return number if re.fullmatch(r"[0-9_]+", number) else None


def has_come_back() -> bool:
    """Whether Slurm has started this process's job before."""
    restarts = os.environ.get("SLURM_RESTART_COUNT", "")
    return job() is not None and restarts.isdigit() and int(restarts) > 0


def requeue() -> None:
    """Puts this process's job, if it is one, back into the queue; Slurm then ends it. The log says if Slurm refuses."""
    from pytorch_lightning.plugins.environments import SLURMEnvironment

    number = job()
    if number is None or not SLURMEnvironment.detect():  # none, or one that somebody works in
        return
    try:
        subprocess.run(["scontrol", "requeue", number], check=True, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or error
        log.warning("Slurm didn't take job %s back (%s). To go on by hand: scontrol requeue %s", number, reason, number)
    else:
        log.info("Slurm has taken job %s back; when it starts again, it goes on with this run.", number)
