"""Jobs handed to a launcher, and what became of them, also where the launcher or a process fails."""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hydra.plugins.launcher import Launcher

from regraft.config.hydra_internals import BASIC_LAUNCHER, is_basic_launcher
from regraft.config.quoting import quoted
from regraft.runs.folder import Run
from regraft.sweeps import locks
from regraft.sweeps.manifest import Job
from regraft.sweeps.outcomes import Outcome, outcome_in
from regraft.sweeps.progress import Watch, progress_line
from regraft.sweeps.search import Search

log = logging.getLogger(__name__)

_SHOWN_LETTERS = 200
_LOOK_SECONDS = 2.0
_QUIET_LOOKS = 3
"""Without a running job: between two of them a worker is quiet for a moment."""
_MOST_TRIES = 3
"""Of a job whose process vanished; the last one alone, because it may have been another one's fault."""


class Launching:
    """Runs jobs, and remembers what became of them.

    Args:
        launcher: Hydra's, or of a plugin.
        folder: of the sweep.
        n_jobs: how many the launcher is given at once; None for all.
        fail_fast: whether a job whose process is lost for good stops those that haven't started.

    Attributes:
        folder: of the sweep.
        outcomes: by number of the job.
        is_sequential: whether jobs run in this process, one after the other.
    """

    def __init__(self, launcher: Launcher, folder: Path, n_jobs: int | None, *, fail_fast: bool = False) -> None:
        self._launcher = launcher
        self._fail_fast = fail_fast
        self.folder = folder
        self._seconds: list[float] = []
        self.outcomes: dict[int, Outcome] = {}
        self.is_sequential = is_basic_launcher(launcher)
        self._at_once = 1 if self.is_sequential else n_jobs
        # `progress_line` says it better.
        logging.getLogger(BASIC_LAUNCHER).setLevel(logging.WARNING)

    def run(self, batch: Sequence[Job], search: Search) -> None:
        """Runs some jobs: one by one in this process, together where the launcher has several.

        Args:
            batch: what to run.
            search: that they are of.
        """
        tries, pending = Counter[int](), list(batch)
        while pending:
            part = [job for job in pending if tries[job.number] < _MOST_TRIES - 1][: self._at_once] or pending[:1]
            each = sum(self._seconds) / len(self._seconds) if self._seconds else None
            if self.is_sequential:
                print(progress_line(search.num_jobs, self.outcomes, each, search.varied(part[0])))
            started = time.monotonic()
            with Watch(self.folder, search.jobs, search.num_jobs, each, is_quiet=self.is_sequential):
                found = self._launch(part)
            num_run = sum(outcome.word != "skipped" for outcome in found.values())
            self._seconds += [(time.monotonic() - started) / num_run] * num_run if num_run else []
            again = self._to_run_again(part, found, tries)
            self.outcomes |= found
            for job in again:
                del self.outcomes[job.number]
            if again:
                log.warning("A process was lost; the %d jobs that it had, or that waited for it, go on.", len(again))
            pending = [*again, *(job for job in pending if job not in part)]

    def _to_run_again(self, jobs: Sequence[Job], found: dict[int, Outcome], tries: Counter[int]) -> list[Job]:
        lost = [job for job in jobs if found[job.number].word == "stopped"]
        begun = [job.number for job in lost if locks.is_begun(self.folder / str(job.number))]
        # Those that waited for another one's process haven't had their turn, unless no process came up at all.
        tries.update(begun or [job.number for job in lost])
        # What could be launched by none of two tries would by itself be neither.
        again = [job for job in lost if tries[job.number] < _MOST_TRIES - (job.number not in begun)]
        if self._fail_fast and len(again) < len(lost):
            # A job that raises says so itself.
            locks.ask_to_stop(self.folder)
        return again

    def _launch(self, batch: Sequence[Job]) -> dict[int, Outcome]:
        """Returns what became of some jobs; a launcher that fails as a whole leaves it to their folders to say."""
        # A worker may not know the resolvers that name the folder.
        place = f"hydra.sweep.dir={quoted(self.folder)}"
        overrides = [[*job.overrides, place, f"hydra.sweep.subdir={job.number}"] for job in batch]
        try:
            returns = self._launcher.launch(overrides, initial_job_idx=batch[0].number)
            return {job.number: found.return_value for job, found in zip(batch, returns, strict=True)}
        except Exception as error:
            reason = " ".join(str(error).split())[:_SHOWN_LETTERS]
            if self.is_sequential:  # the process is this one: a folder that can't be made, a full disk
                return {job.number: Outcome("failed", reason) for job in batch}
            self._wait_for_the_rest(batch)
            return {job.number: self._left_by(job, reason) for job in batch}

    def _wait_for_the_rest(self, batch: Sequence[Job]) -> None:
        """Waits until none of the jobs runs: some launchers fail with the first job, while others go on."""
        num_quiet = 0
        while num_quiet < _QUIET_LOOKS:
            time.sleep(_LOOK_SECONDS)
            found = [outcome_in(Run(self.folder / str(job.number))) for job in batch]
            is_any_running = any(outcome is not None and outcome.word == "skipped" for outcome in found)
            num_quiet = 0 if is_any_running else num_quiet + 1

    def _left_by(self, job: Job, reason: str) -> Outcome:
        """Returns what a job's folder says of it once its launcher has failed."""
        folder = self.folder / str(job.number)
        what = "its process was lost" if locks.is_begun(folder) else "it wasn't launched"
        return outcome_in(Run(folder)) or Outcome("stopped", f"{what} ({reason})")
