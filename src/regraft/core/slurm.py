"""The Slurm job that a run is part of, and how a preempted job is requeued."""

import logging
import os
import re
import subprocess

log = logging.getLogger(__name__)

NUM_TASKS = "SLURM_STEP_NUM_TASKS"
_SECONDS = 10.0


def job_id() -> str | None:
    """Returns the id of the Slurm job of this process, `12`, or `12_3` in an array; None outside Slurm."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    number = f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")
    return number if re.fullmatch(r"[0-9_]+", number) else None


def num_tasks() -> int:
    """Returns how many tasks the job step of this process has, which all run the same command; 1 outside Slurm."""
    tasks = os.environ.get(NUM_TASKS, "")
    return int(tasks) if job_id() is not None and tasks.isdigit() else 1


def was_requeued() -> bool:
    """Whether Slurm has started the job of this process before."""
    restarts = os.environ.get("SLURM_RESTART_COUNT", "")
    return job_id() is not None and restarts.isdigit() and int(restarts) > 0


def requeue() -> None:
    """Requeues the Slurm job of this process, if there is one; Slurm then ends it. A refusal is logged."""
    from pytorch_lightning.plugins.environments import SLURMEnvironment

    number = job_id()
    if number is None or not SLURMEnvironment.detect():  # no job, or an interactive one
        return
    try:
        subprocess.run(["scontrol", "requeue", number], check=True, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or error
        log.warning("Slurm didn't requeue job %s (%s). To do it by hand: scontrol requeue %s", number, reason, number)
    else:
        log.info("Slurm has requeued job %s; when it starts again, it resumes this run.", number)
