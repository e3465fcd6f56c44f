"""What became of a sweep's jobs, and the lines that say it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from regraft import run_state
from regraft.runs import Run
from regraft.sweeps.manifest import Job

Word = Literal["ok", "failed", "stopped", "skipped"]
_HEADLINES = ("test/acc", "val/acc")


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        word: `skipped` if it didn't have to be run, or wasn't; `stopped` if it can go on.
        text: its metric and seconds, or why it ended as it did.
    """

    word: Word
    text: str


@dataclass(frozen=True)
class Skipped:
    """What a job returns that didn't run.

    Attributes:
        reason: why, for people.
        run: what it had come to before, if it had.
    """

    reason: str
    run: Run | None = None


class SweepError(ValueError):
    """Jobs of a sweep have failed."""


def outcome_of(value: Any) -> Outcome:
    """Returns what a job's return value says: a run, an evaluation's metrics, that it was left out, or an error."""
    if isinstance(value, Exception):
        return Outcome("failed", _first_line(value))
    if isinstance(value, Skipped):
        return Outcome("skipped", f"{_headline(value.run)}  {value.reason}" if value.run else value.reason)
    return Outcome("ok", _headline(value))


def outcome_in(run: Run) -> Outcome | None:
    """Returns what a job's folder says, where its process can't; None if it was never started."""
    if not (run.path / "state.json").is_file():
        return None
    state = run_state.read(run)
    if state.state == "finished":
        return Outcome("ok", _headline(run))
    if state.state == "failed":
        return Outcome("failed", state.reason or "it doesn't say why")
    if state.state == "running":
        return Outcome("skipped", f"it runs as process {state.pid} on {state.host}")
    return Outcome("stopped", state.reason or "it doesn't say why")


def summary(jobs: Sequence[Job], outcomes: Mapping[int, Outcome], folder: str) -> str:
    """Returns a line for each job, below a line on the sweep itself.

    Args:
        jobs: of the sweep.
        outcomes: by number; a job without one wasn't started.
        folder: of the sweep, as people are told of it.
    """
    varied = [" ".join(varied_of(job, jobs)) or "-" for job in jobs]
    found = [outcomes.get(job.number, Outcome("skipped", "not started")) for job in jobs]
    widths = [max(map(len, column), default=0) for column in (varied, [outcome.word for outcome in found])]
    lines = [
        f"{job.number:>3}  {what:<{widths[0]}}  {outcome.word:<{widths[1]}}  {outcome.text}"
        for job, what, outcome in zip(jobs, varied, found, strict=True)
    ]
    return "\n".join([f"Sweep of {len(jobs)} jobs in {folder}: {counts_text(found)}", *lines])


def counts_text(outcomes: Sequence[Outcome]) -> str:
    """Returns how many there are of each kind: `20 ok, 1 failed`."""
    counts = Counter(outcome.word for outcome in outcomes)
    return ", ".join(f"{counts[word]} {word}" for word in ("ok", "failed", "stopped", "skipped") if counts[word])


def varied_of(job: Job, jobs: Sequence[Job]) -> list[str]:
    """Returns the overrides that not all jobs of the sweep have."""
    in_all = set.intersection(*(set(each.overrides) for each in jobs)) if len(jobs) > 1 else set()
    return [override for override in job.overrides if override not in in_all and not override.startswith("hydra.")]


def _headline(value: Any) -> str:
    """Returns the metric that a run, or an evaluation, goes by."""
    metrics = value.metrics if isinstance(value, Run) else value
    name = next((name for name in _HEADLINES if name in metrics), None)
    headline = f"{name} {metrics[name]:.4f}" if name else "done"
    return f"{headline}  {value.results['seconds']:.1f} s" if isinstance(value, Run) else headline


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
