"""The progress of a running sweep, from the files in its jobs' folders."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from regraft.core.text import say
from regraft.sweeps.manifest import Job
from regraft.sweeps.outcomes import JobResult, counts_text, result_in, shortened

_LOOK_SECONDS = 2.0


def progress_line(
    num_jobs: int, outcomes: Mapping[int, JobResult], seconds_each: float | None, varied: Sequence[str]
) -> str:
    """Returns the line above a job that starts: `[3/24] optimizer.lr=0.1 (2 ok; about 40 s left)`."""
    left = _left(seconds_each, num_jobs - len(outcomes))
    parts = [part for part in (counts_text(list(outcomes.values())), left) if part]
    notes = f" ({'; '.join(parts)})" if parts else ""
    return f"[{len(outcomes) + 1}/{num_jobs}] {shortened(varied)}{notes}"


def counts_line(num_jobs: int, found: Sequence[JobResult | None]) -> tuple[str, int]:
    """Returns a line, `2 ok, 1 failed, 2 running, of 24 jobs`, and how many jobs have ended."""
    ended = [outcome for outcome in found if outcome is not None and outcome.status != "skipped"]
    running = sum(outcome is not None and outcome.status == "skipped" for outcome in found)
    return f"{counts_text(ended) or '0 ok'}, {running} running, of {num_jobs} jobs", len(ended)


def _left(seconds_each: float | None, num_jobs: int) -> str:
    if seconds_each is None or num_jobs == 0:
        return ""
    left = seconds_each * num_jobs
    return f"about {left:.0f} s left" if left < 120 else f"about {left / 60:.0f} min left"


@contextmanager
def print_progress(folder: Path, jobs: Sequence[Job], num_jobs: int, seconds_each: float | None) -> Iterator[None]:
    """Prints how many jobs have ended whenever that changes, inside the block.

    Args:
        jobs: the sweep's jobs so far, of `num_jobs`.
        seconds_each: mean seconds of a job so far; None before one has ended.
    """
    is_over = threading.Event()

    def counts() -> tuple[str, int]:
        return counts_line(num_jobs, [result_in(job.run(folder)) for job in jobs])

    def look() -> None:
        each, started, (printed, num_before) = seconds_each, time.monotonic(), counts()
        while not is_over.wait(_LOOK_SECONDS):
            line, num_ended = counts()
            if line == printed:
                continue
            printed = line
            if num_ended > num_before:
                each = (time.monotonic() - started) / (num_ended - num_before)
            left = _left(each, num_jobs - num_ended)
            say(f"{line}{'; ' if left else ''}{left}")

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
