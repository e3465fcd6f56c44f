"""Runs one job of a sweep, in the process of any launcher: locks it, and skips it if it has finished."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from regraft.config import compose
from regraft.core.processes import exit_with_parent, process_id
from regraft.core.startup import Preempted, take_over_process
from regraft.runs.folder import Run
from regraft.runs.state import Pruned
from regraft.sweeps import locks
from regraft.sweeps.manifest import config_hash, is_done
from regraft.sweeps.outcomes import RUNNING_ELSEWHERE, JobResult, failed, skipped, succeeded
from regraft.sweeps.sweeper import SWEEP_VARIABLE


def run_sweep_job(config: DictConfig, job: Callable[[], Any]) -> JobResult:
    """Runs a job, unless it has finished, another process runs it, or the sweep is stopping; returns its result.

    An error becomes a result, as an exception might not reach the sweep's process.
    """
    folder = Path(HydraConfig.get().runtime.output_dir).resolve()
    _prepare_worker()
    with locks.job_lock(folder) as is_ours:
        if not is_ours:
            return RUNNING_ELSEWHERE
        if _is_done(Run(folder), config):
            return skipped("finished before", Run(folder))
        if locks.is_stop_requested(folder.parent):
            return skipped("not started, because a job had failed")
        try:
            return succeeded(job())
        except Pruned as pruned:
            return JobResult("pruned", str(pruned))
        except (KeyboardInterrupt, Preempted):
            raise
        except (Exception, SystemExit) as error:  # a library that exits ends only its own job
            if OmegaConf.select(config, "sweep.fail_fast"):
                locks.request_stop(folder.parent)
            return failed(error)


def _is_done(run: Run, config: DictConfig) -> bool:
    if not run.is_finished:  # most jobs, whose config is resolved where they are trained
        return False
    try:
        return is_done(run, config_hash(compose.plain(config, HydraConfig.get().overrides.task)))
    except ValueError:  # training reports it
        return False


def _prepare_worker() -> None:
    """Sets a launcher's worker up as the command `regraft` does its own process, and ends it with the sweep."""
    sweep = os.environ.get(SWEEP_VARIABLE, process_id())
    if sweep == process_id():
        return
    compose.register_resolvers()
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    # In another thread the process is the launcher's own; Python lets only the main thread handle signals, too.
    if threading.current_thread() is threading.main_thread():
        take_over_process()
        exit_with_parent(sweep)
