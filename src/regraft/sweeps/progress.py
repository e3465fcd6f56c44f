"""How far a sweep is, while it runs: from what its jobs' folders say."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from regraft.runs import Run
from regraft.sweeps.manifest import Job
from regraft.sweeps.outcomes import Outcome, counts_text, outcome_in, shown

_LOOK_SECONDS = 2.0


def progress_line(
    num_jobs: int, outcomes: Mapping[int, Outcome], seconds_each: float | None, varied: Sequence[str]
) -> str:
    """Returns the line above a job that starts: `[3/24] optimizer.lr=0.1 (2 ok; about 40 s left)`.

    Args:
        num_jobs: of the sweep.
        outcomes: of those that have ended.
        seconds_each: that one took so far; None before there is one.
        varied: what is special of the one that starts.
    """
    left = _left(seconds_each, num_jobs - len(outcomes))
    said = [part for part in (counts_text(list(outcomes.values())), left) if part]
    notes = f" ({'; '.join(said)})" if said else ""
    return f"[{len(outcomes) + 1}/{num_jobs}] {shown(varied)}{notes}"


def _left(seconds_each: float | None, num_jobs: int) -> str:
    if seconds_each is None:
        return ""
    left = seconds_each * num_jobs
    return f"about {left:.0f} s left" if left < 120 else f"about {left / 60:.0f} min left"


class Watch:
    """Prints how many jobs have ended whenever that changes, for as long as the block lasts.

    Args:
        folder: of the sweep.
        jobs: its jobs.
        is_quiet: whether to print nothing, where jobs say themselves how far they are.
    """

    def __init__(self, folder: Path, jobs: Sequence[Job], *, is_quiet: bool) -> None:
        self._folder = folder
        self._jobs = jobs
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
        said = ""
        while not self._is_over.wait(_LOOK_SECONDS):
            found = [outcome_in(Run(self._folder / str(job.number))) for job in self._jobs]
            ended = [outcome for outcome in found if outcome is not None and outcome.word != "skipped"]
            running = sum(outcome is not None and outcome.word == "skipped" for outcome in found)
            line = f"{counts_text(ended) or '0 ok'}, {running} running, of {len(self._jobs)} jobs"
            if line != said:
                print(line, flush=True)
            said = line
