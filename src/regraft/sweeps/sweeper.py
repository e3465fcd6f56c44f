"""The Hydra sweeper: runs the jobs that a search decides; each is a run that survives the failure of others."""

import os
import shlex
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from regraft.config.quoting import key_of
from regraft.config.recorded import typed_again
from regraft.core.processes import process_id
from regraft.core.text import say
from regraft.sweeps import locks
from regraft.sweeps.find import REPLACED
from regraft.sweeps.grid_random import require_integer
from regraft.sweeps.launching import JobLauncher
from regraft.sweeps.manifest import COMMAND
from regraft.sweeps.outcomes import RUNNING_ELSEWHERE, JobResult, SweepError, summary
from regraft.sweeps.planning import SweepPlan
from regraft.sweeps.search import Search

SWEEP_VARIABLE = "REGRAFT_SWEEP"
"""Environment variable with the `process_id` of the sweep, for a launcher's workers."""


class SearchSweeper(Sweeper):
    """Runs the jobs of a search; one that fails doesn't stop the others.

    Args:
        n_jobs: how many jobs the launcher gets at once; None for all, or with Optuna for as many as run at once.
    """

    def __init__(self, *, search: Search, n_jobs: int | None) -> None:
        if n_jobs is not None:
            require_integer("sweep.n_jobs", n_jobs, 1)
        self.search = search
        self._n_jobs = n_jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Creates the launcher; Hydra calls it before `sweep`."""
        self.config: DictConfig = config
        self.hydra_context: HydraContext = hydra_context
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Runs the jobs that haven't finished, and prints their results; raises SweepError if a job failed."""
        folder = Path(self.config.hydra.sweep.dir).resolve()
        fail_fast = bool(OmegaConf.select(self.config, "sweep.fail_fast"))
        launching = JobLauncher(self.launcher, folder, self._n_jobs, fail_fast=fail_fast)
        at_once = 1 if launching.is_sequential else self._n_jobs or _workers(self.config)
        earlier = self.search.begin(SweepPlan(folder, self.config, self.hydra_context, arguments), at_once)
        launching.results |= earlier
        locks.clear_stop(folder)
        os.environ[SWEEP_VARIABLE] = process_id()
        try:
            while not locks.is_stop_requested(folder) and (jobs := self.search.ask()):
                launching.run(jobs, self.search)
                launching.results |= {job.number: self.search.tell(job, launching.results[job.number]) for job in jobs}
        except BaseException:
            self._report(launching)
            say(f"To resume the sweep: {self._resuming()}")
            raise
        self._report(launching)
        self._require_success({number: found for number, found in launching.results.items() if number not in earlier})

    def _report(self, launching: JobLauncher) -> None:
        # Jobs of other processes, and those that this process was stopped at, may have ended since.
        for job in self.search.jobs:
            outcome = launching.results.get(job.number, RUNNING_ELSEWHERE)
            if outcome.is_running and (found := self.search.current_result(job)):
                launching.results[job.number] = found
        say(summary(self.search.jobs, launching.results, self.search.varied, str(launching.folder)))
        if report := self.search.report():
            say(report.removesuffix("\n"))

    def _require_success(self, outcomes: dict[int, JobResult]) -> None:
        failed = sum(outcome.status in ("failed", "stopped") for outcome in outcomes.values())
        if failed:
            raise SweepError(
                f"{failed} of {self.search.num_jobs} jobs failed; each one's traceback.txt says where. "
                f"To run again what isn't finished: {self._resuming()}"
            )

    def _resuming(self) -> str:
        """Returns the command that resumes the sweep, with what only a command line may say."""
        folder = Path(self.config.hydra.sweep.dir).resolve()
        recorded = map(str, [*self.config.hydra.overrides.hydra, *self.config.hydra.overrides.task])
        again = [each for each in recorded if key_of(each) not in REPLACED]
        return shlex.join(["regraft", "resume", f"run={folder}", *typed_again(again, folder / COMMAND)])


def _workers(config: DictConfig) -> int:
    """Returns how many jobs the launcher runs at once: joblib's `n_jobs`, or else the number of cores."""
    n_jobs = config.hydra.launcher.get("n_jobs", -1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(n_jobs) if n_jobs > 0 else max(1, cores + 1 + n_jobs)
