"""Hydra's sweeper of ours: each job a run that survives the others, remembered in a manifest.

Which jobs there are is a search's to say; how they are launched and survive belongs in `launching`.
"""

import os
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from regraft.core.processes import mark_of_this_process
from regraft.sweeps import locks
from regraft.sweeps.grid_random import require_whole
from regraft.sweeps.launching import Launching
from regraft.sweeps.outcomes import TAKEN, Outcome, SweepError, summary
from regraft.sweeps.planning import Plan
from regraft.sweeps.search import Search

SWEEP_VARIABLE = "REGRAFT_SWEEP"
"""Environment variable by which a launcher's workers know the process that they work for."""


class SurvivingSweeper(Sweeper):
    """Runs a search's jobs; one that fails doesn't stop the others.

    Args:
        search: which jobs there are.
        n_jobs: how many the launcher is given at once; None for all, or of a search that learns as many as run at once.

    Attributes:
        search: as given.
    """

    def __init__(self, *, search: Search, n_jobs: int | None) -> None:
        if n_jobs is not None:
            require_whole("sweep.n_jobs", n_jobs, 1)
        self.search = search
        self._n_jobs = n_jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Takes what Hydra gives; see `Sweeper`."""
        self.config: DictConfig = config
        self.hydra_context: HydraContext = hydra_context
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Runs the jobs that aren't finished, and prints what became of each.

        Args:
            arguments: of the command, lists of values among them.

        Raises:
            SweepError: a job failed.
        """
        folder = Path(self.config.hydra.sweep.dir).resolve()
        fail_fast = bool(OmegaConf.select(self.config, "sweep.fail_fast"))
        launching = Launching(self.launcher, folder, self._n_jobs, fail_fast=fail_fast)
        at_once = 1 if launching.is_sequential else self._n_jobs or _workers(self.config)
        earlier = self.search.begin(Plan(folder, self.config, self.hydra_context, arguments), at_once)
        launching.outcomes |= earlier
        locks.start_over(folder)
        os.environ[SWEEP_VARIABLE] = mark_of_this_process()
        try:
            while not locks.is_to_stop(folder) and (jobs := self.search.ask()):
                launching.run(jobs, self.search)
                launching.outcomes |= {
                    job.number: self.search.tell(job, launching.outcomes[job.number]) for job in jobs
                }
        except BaseException:
            self._report(launching)
            print(f"To go on with the sweep: regraft resume run={folder}")
            raise
        self._report(launching)
        self._require_success({number: found for number, found in launching.outcomes.items() if number not in earlier})

    def _report(self, launching: Launching) -> None:
        # What others have taken, and what this process was stopped at, has gone on or ended since.
        for job in self.search.jobs:
            outcome = launching.outcomes.get(job.number, TAKEN)
            if outcome == TAKEN and (found := self.search.elsewhere(job)):
                launching.outcomes[job.number] = found
        print(summary(self.search.jobs, launching.outcomes, self.search.varied, str(launching.folder)))
        print(self.search.conclusion(), end="")

    def _require_success(self, outcomes: dict[int, Outcome]) -> None:
        failed = sum(outcome.word in ("failed", "stopped") for outcome in outcomes.values())
        if failed:
            raise SweepError(
                f"{failed} of {self.search.num_jobs} jobs failed; each one's traceback.txt says where. "
                f"To run again what isn't finished: regraft resume run={Path(self.config.hydra.sweep.dir).resolve()}"
            )


def _workers(config: DictConfig) -> int:
    """Returns how many jobs the configured launcher runs at once: what joblib is told, else this machine's cores."""
    n_jobs = config.hydra.launcher.get("n_jobs", -1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(n_jobs) if n_jobs > 0 else max(1, cores + 1 + n_jobs)
