"""One job of a sweep, in whatever process a launcher runs it: claimed, left out if it is done, watched over."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from regraft.config import compose
from regraft.core.processes import end_with, mark_of_this_process
from regraft.core.startup import Preempted, exit_when_preempted, limit_spinning
from regraft.runs.folder import Run
from regraft.runs.state import Pruned
from regraft.sweeps import locks
from regraft.sweeps.manifest import digest_of, is_done
from regraft.sweeps.outcomes import TAKEN, Outcome, failed, skipped, succeeded
from regraft.sweeps.sweeper import SWEEP_VARIABLE


def run_job_of_sweep(config: DictConfig, job: Callable[[], Any]) -> Outcome:
    """Runs a job, unless it is done, another process has it, or the sweep is to stop; returns what became of it.

    An error is an outcome too: as an exception it might not get through to the sweep's process.

    Args:
        config: of the job.
        job: runs it.
    """
    folder = Path(HydraConfig.get().runtime.output_dir).resolve()
    _join_the_sweep()
    with locks.claimed(folder) as is_ours:
        if not is_ours:
            return TAKEN
        if _is_done(Run(folder), config):
            return skipped("finished before", Run(folder))
        if locks.is_to_stop(folder.parent):
            return skipped("not started, because a job had failed")
        try:
            return succeeded(job())
        except Pruned as pruned:
            return Outcome("pruned", str(pruned))
        except (KeyboardInterrupt, Preempted):
            raise
        except (Exception, SystemExit) as error:  # a library that exits ends its own job alone
            if OmegaConf.select(config, "sweep.fail_fast"):
                locks.ask_to_stop(folder.parent)
            return failed(error)


def _is_done(run: Run, config: DictConfig) -> bool:
    """Whether a folder holds this very job, finished."""
    try:
        asked = compose.plain(config, HydraConfig.get().overrides.task)
    except ValueError:  # which is said where it is trained
        return False
    return is_done(run, digest_of(asked))


def _join_the_sweep() -> None:
    """Makes a launcher's worker what `regraft` makes of its own process, and has it end with the sweep."""
    sweep = os.environ.get(SWEEP_VARIABLE, mark_of_this_process())
    if sweep == mark_of_this_process() or threading.current_thread() is not threading.main_thread():
        return
    compose.register_resolvers()
    limit_spinning()
    exit_when_preempted()
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    end_with(sweep)
