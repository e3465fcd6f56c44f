"""The progress of a running sweep, from the files in its jobs' folders."""

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from regraft.runs.folder import Run
from regraft.sweeps.manifest import Job
from regraft.sweeps.outcomes import JobResult, counts_text, result_in, shortened

_LOOK_SECONDS = 2.0


def progress_line(
    num_jobs: int, outcomes: Mapping[int, JobResult], seconds_each: float | None, varied: Sequence[str]
) -> str:
    """Returns the line above a job that starts: `[3/24] optimizer.lr=0.1 (2 ok; about 40 s left)`.

    Args:
        num_jobs: in the sweep.
        outcomes: those of ended jobs.
        seconds_each: mean seconds of a job; None before one has ended.
        varied: the job's overrides that differ between jobs.
    """
    left = _left(seconds_each, num_jobs - len(outcomes))
    parts = [part for part in (counts_text(list(outcomes.values())), left) if part]
    notes = f" ({'; '.join(parts)})" if parts else ""
    return f"[{len(outcomes) + 1}/{num_jobs}] {shortened(varied)}{notes}"


def counts_line(num_jobs: int, found: Sequence[JobResult | None]) -> tuple[str, int]:
    """Returns a line, `2 ok, 1 failed, 2 running, of 24 jobs`, and how many jobs have ended.

    Args:
        num_jobs: in the sweep.
        found: the result in each job's folder, None if it wasn't started.
    """
    ended = [outcome for outcome in found if outcome is not None and outcome.status != "skipped"]
    running = sum(outcome is not None and outcome.status == "skipped" for outcome in found)
    return f"{counts_text(ended) or '0 ok'}, {running} running, of {num_jobs} jobs", len(ended)


def _left(seconds_each: float | None, num_jobs: int) -> str:
    if seconds_each is None or num_jobs == 0:
        return ""
    left = seconds_each * num_jobs
    return f"about {left:.0f} s left" if left < 120 else f"about {left / 60:.0f} min left"


class SweepProgress:
    """Prints how many jobs have ended whenever that changes, inside the block.

    Args:
        folder: the sweep's folder.
        jobs: its jobs so far.
        num_jobs: how many it will have.
        seconds_each: mean seconds of a job so far; None before one has ended.
        is_quiet: prints nothing, for jobs that show their own progress.
    """

    def __init__(
        self, folder: Path, jobs: Sequence[Job], num_jobs: int, seconds_each: float | None, *, is_quiet: bool
    ) -> None:
        self._folder = folder
        self._jobs = jobs
        self._num_jobs = num_jobs
        self._seconds_each = seconds_each
        self._is_over = threading.Event()
        self._thread = None if is_quiet else threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        started, (printed, num_before) = time.monotonic(), self._counts()
        while not self._is_over.wait(_LOOK_SECONDS):
            line, num_ended = self._counts()
            if line == printed:
                continue
            printed = line
            if num_ended > num_before:
                self._seconds_each = (time.monotonic() - started) / (num_ended - num_before)
            left = _left(self._seconds_each, self._num_jobs - num_ended)
            print(f"{line}{'; ' if left else ''}{left}", flush=True)

    def _counts(self) -> tuple[str, int]:
        return counts_line(self._num_jobs, [result_in(Run(self._folder / str(job.number))) for job in self._jobs])
