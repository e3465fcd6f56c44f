"""Passes jobs to a Hydra launcher and collects their results, also if the launcher or a process fails."""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from hydra.plugins.launcher import Launcher

from regraft.config.hydra_internals import BASIC_LAUNCHER, is_basic_launcher
from regraft.config.quoting import quoted
from regraft.core.text import say
from regraft.sweeps import locks
from regraft.sweeps.manifest import Job
from regraft.sweeps.outcomes import JobResult, result_in
from regraft.sweeps.progress import print_progress, progress_line
from regraft.sweeps.search import Search

log = logging.getLogger(__name__)

_MAX_REASON_LENGTH = 200
_LOOK_SECONDS = 2.0
_QUIET_LOOKS = 3
"""Checks in a row without a running job: between two jobs a worker is idle for a moment."""
_MAX_TRIES = 3
"""For a job whose process was lost; the last try is alone, as another job may have been the cause."""


class JobLauncher:
    """Runs jobs, and keeps their results.

    Args:
        n_jobs: how many jobs the launcher gets at once; None for all.
        fail_fast: whether a job whose process is lost at each try stops those that haven't started.

    Attributes:
        is_sequential: whether jobs run in this process, one after the other.
    """

    def __init__(self, launcher: Launcher, folder: Path, n_jobs: int | None, *, fail_fast: bool = False) -> None:
        self._launcher = launcher
        self._fail_fast = fail_fast
        self.folder = folder
        self._seconds: list[float] = []
        self.results: dict[int, JobResult] = {}
        self.is_sequential = is_basic_launcher(launcher)
        self._at_once = 1 if self.is_sequential else n_jobs
        # `progress_line` is shown instead.
        logging.getLogger(BASIC_LAUNCHER).setLevel(logging.WARNING)

    def run(self, batch: Sequence[Job], search: Search) -> None:
        """Runs jobs of a search: one by one in this process, or as many at once as the launcher can."""
        tries, pending = Counter[int](), list(batch)
        while pending:
            part = [job for job in pending if tries[job.number] < _MAX_TRIES - 1][: self._at_once] or pending[:1]
            each = sum(self._seconds) / len(self._seconds) if self._seconds else None
            if self.is_sequential:
                say(progress_line(search.num_jobs, self.results, each, search.varied(part[0])))
            started = time.monotonic()
            shown = print_progress(self.folder, search.jobs, search.num_jobs, each)
            with nullcontext() if self.is_sequential else shown:  # a job in this process shows its own progress
                found = self._launch(part)
            num_run = sum(outcome.status != "skipped" for outcome in found.values())
            self._seconds += [(time.monotonic() - started) / num_run] * num_run if num_run else []
            again = self._to_run_again(part, found, tries)
            self.results |= found
            for job in again:
                del self.results[job.number]
            if again:
                log.warning("A process was lost; the %d jobs that it had, or that waited for it, continue.", len(again))
            pending = [*again, *(job for job in pending if job not in part)]

    def _to_run_again(self, jobs: Sequence[Job], found: dict[int, JobResult], tries: Counter[int]) -> list[Job]:
        lost = [job for job in jobs if found[job.number].status == "stopped"]
        begun = [job.number for job in lost if locks.was_started(job.run(self.folder).path)]
        # Jobs that waited for a lost process haven't had their turn, unless no process came up at all.
        tries.update(begun or [job.number for job in lost])
        # A job that two tries couldn't launch won't be launched by a third.
        again = [job for job in lost if tries[job.number] < _MAX_TRIES - (job.number not in begun)]
        if self._fail_fast and len(again) < len(lost):
            # A job that raises an error requests the stop itself.
            locks.request_stop(self.folder)
        return again

    def _launch(self, batch: Sequence[Job]) -> dict[int, JobResult]:
        """Returns the results of jobs; if the launcher fails as a whole, those in the jobs' folders."""
        # A worker may not have the resolvers in the folder's name.
        folder = f"hydra.sweep.dir={quoted(self.folder)}"
        overrides = [[*job.overrides, folder, f"hydra.sweep.subdir={job.number}"] for job in batch]
        try:
            returns = self._launcher.launch(overrides, initial_job_idx=batch[0].number)
            return {job.number: found.return_value for job, found in zip(batch, returns, strict=True)}
        except Exception as error:
            reason = " ".join(str(error).split())[:_MAX_REASON_LENGTH]
            if self.is_sequential:  # in this process: a folder that can't be made, a full disk
                return {job.number: JobResult("failed", reason) for job in batch}
            self._wait_for_the_rest(batch)
            return {job.number: self._left_by(job, reason) for job in batch}

    def _wait_for_the_rest(self, batch: Sequence[Job]) -> None:
        """Waits until no job runs: some launchers raise at the first failure, while other jobs still run."""
        num_quiet = 0
        while num_quiet < _QUIET_LOOKS:
            time.sleep(_LOOK_SECONDS)
            found = [result_in(job.run(self.folder)) for job in batch]
            is_any_running = any(outcome is not None and outcome.is_running for outcome in found)
            num_quiet = 0 if is_any_running else num_quiet + 1

    def _left_by(self, job: Job, reason: str) -> JobResult:
        run = job.run(self.folder)
        what = "its process was lost" if locks.was_started(run.path) else "it wasn't launched"
        return result_in(run) or JobResult("stopped", f"{what} ({reason})")
