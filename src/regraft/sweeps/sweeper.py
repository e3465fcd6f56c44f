"""Hydra's sweeper of ours: every combination, each a run that survives the others, remembered in a manifest."""

import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from regraft import composition
from regraft.arguments import quoted
from regraft.atomic import write_atomically
from regraft.run_state import mark_of_this_process
from regraft.runs import Run
from regraft.sweeps import claims, manifest
from regraft.sweeps.manifest import COMMAND, Job
from regraft.sweeps.outcomes import Outcome, SweepError, outcome_in, outcome_of, summary, varied_of
from regraft.sweeps.progress import Watch, progress_line

log = logging.getLogger(__name__)

SWEEP_VARIABLE = "REGRAFT_SWEEP"
"""Environment variable by which a launcher's workers know the process that they work for."""

_MOST_TRIES = 2
"""Of a job whose process vanished: it may have been another one's fault."""


class GridSweeper(Sweeper):
    """Every combination of what the command lists; a job that fails doesn't stop the others.

    Args:
        fail_fast: whether the first failure stops what hasn't started.
    """

    def __init__(self, *, fail_fast: bool) -> None:
        self._fail_fast = fail_fast

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
        jobs = self._planned(folder, arguments)
        claims.start_over(folder)
        os.environ[SWEEP_VARIABLE] = mark_of_this_process()
        outcomes: dict[int, Outcome] = {}
        try:
            self._run(folder, jobs, outcomes)
        finally:
            print(summary(jobs, outcomes, str(folder)))
        failed = sum(outcome.word in ("failed", "stopped") for outcome in outcomes.values())
        if failed:
            raise SweepError(
                f"{failed} of {len(jobs)} jobs failed; each one's traceback.txt says where. "
                f"To run again what isn't finished: regraft resume run={folder}"
            )

    def _planned(self, folder: Path, arguments: list[str]) -> list[Job]:
        """Returns the jobs, numbered as before where the folder is a sweep already, and keeps its manifest."""
        wanted = [self._job(overrides) for overrides in self._expanded(arguments)]
        earlier = manifest.read(folder)
        if earlier is None and (folder / manifest.MANIFEST).exists():
            log.warning("%s is damaged; it is made anew from the folders of the jobs.", folder / manifest.MANIFEST)
        known = manifest.jobs_in(folder) if earlier is None else earlier
        jobs = manifest.numbered(wanted, known)
        if known:
            _say_changes(jobs, known)
        # What the sweep no longer wants keeps its number, so that no other job takes its folder.
        wanted_digests = {job.digest for job in jobs}
        manifest.write(folder, [*jobs, *(job for job in known if job.digest not in wanted_digests)])
        write_atomically(folder / COMMAND, OmegaConf.to_yaml(self.config).encode())
        return jobs

    def _expanded(self, arguments: list[str]) -> list[list[str]]:
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        (batch,) = BasicSweeper.split_arguments(parser.parse_overrides(arguments), None)
        return batch

    def _job(self, overrides: Sequence[str]) -> Job:
        """Returns a job by the config that it composes to, which also finds mistakes before anything runs."""
        composed = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with composition.as_current(composed):
            OmegaConf.set_readonly(composed.hydra, False)
            return Job(0, tuple(overrides), manifest.digest_of(composition.plain(composed)))

    def _run(self, folder: Path, jobs: Sequence[Job], outcomes: dict[int, Outcome]) -> None:
        """Launches what isn't finished: job by job in this process, all together where the launcher has several."""
        started, tries = time.monotonic(), Counter[int]()
        pending = list(jobs)
        is_sequential = isinstance(self.launcher, BasicLauncher)
        # `progress_line` says it better.
        logging.getLogger(BasicLauncher.__module__).setLevel(logging.WARNING)
        while pending:
            batch = pending[:1] if is_sequential else pending
            if is_sequential:
                print(progress_line(jobs, outcomes, time.monotonic() - started, varied_of(batch[0], jobs)))
            with Watch(folder, jobs, is_quiet=is_sequential):
                found = self._launch(folder, batch)
            lost = [job for job in batch if found[job.number].word == "stopped"]
            begun = [job.number for job in lost if (folder / str(job.number)).exists()]
            # Those that waited for another one's process haven't had their turn, unless no process came up at all.
            tries.update(begun or [job.number for job in lost])
            again = [job for job in lost if tries[job.number] < _MOST_TRIES]
            outcomes.update({job.number: found[job.number] for job in batch})
            if again:
                log.warning("%d jobs lost their process; they go on.", len(again))
            pending = [*again, *pending[len(batch) :]]

    def _launch(self, folder: Path, batch: Sequence[Job]) -> dict[int, Outcome]:
        """Returns what became of some jobs; a launcher that fails as a whole leaves it to their folders to say."""
        # A worker may not know the resolvers that name the folder.
        place = f"hydra.sweep.dir={quoted(folder)}"
        overrides = [[*job.overrides, place, f"hydra.sweep.subdir={job.number}"] for job in batch]
        try:
            returns = self.launcher.launch(overrides, initial_job_idx=batch[0].number)
            return {job.number: outcome_of(found.return_value) for job, found in zip(batch, returns, strict=True)}
        except Exception as error:
            found = {job.number: outcome_in(Run(folder / str(job.number))) for job in batch}
            lost = Outcome("stopped", f"its process was lost ({' '.join(str(error).split())[:200]})")
            return {number: outcome or lost for number, outcome in found.items()}


def _say_changes(jobs: Sequence[Job], known: Sequence[Job]) -> None:
    digests, known_digests = ({job.digest for job in group} for group in (jobs, known))
    for word, group, others in (("added", jobs, known_digests), ("removed", known, digests)):
        for job in group:
            if job.digest not in others:
                print(f"{word}: job {job.number}, {' '.join(varied_of(job, [*jobs, *known])) or 'as it was'}")
