"""What became of a sweep's jobs, and the lines that say it."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from regraft.config.quoting import key_of
from regraft.runs import state as run_state
from regraft.runs.find import headline_of
from regraft.runs.folder import Run
from regraft.sweeps.manifest import Job, is_of_experiment

Word = Literal["ok", "pruned", "failed", "stopped", "skipped"]
_LONG_NUMBER = re.compile(r"(?<==)-?\d+\.\d{7,}(e[+-]?\d+)?$")


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        word: `pruned` if a search gave it up; `stopped` if it can go on; `skipped` if it didn't have to be run, or
            wasn't.
        text: its metric and seconds, or why it ended as it did.
    """

    word: Word
    text: str


TAKEN = Outcome("skipped", "another process runs it")
"""The outcome of a job that someone else who goes on with the sweep has."""


class SweepError(ValueError):
    """Jobs of a sweep have failed."""


def succeeded(value: Any) -> Outcome:
    """Returns the outcome of a job that returned a run, or an evaluation's metrics."""
    return Outcome("ok", _headline(value))


def failed(error: Exception | SystemExit) -> Outcome:
    """Returns the outcome of a job that raised, or asked its process to exit."""
    if isinstance(error, SystemExit):
        return Outcome("failed", run_state.exit_reason(error))
    return Outcome("failed", (str(error).strip() or type(error).__name__).splitlines()[0])


def skipped(reason: str, run: Run | None = None) -> Outcome:
    """Returns the outcome of a job that didn't run.

    Args:
        reason: why, for people.
        run: what it had come to before, if it had.
    """
    return Outcome("skipped", f"{_headline(run)}  {reason}" if run else reason)


def outcome_in(run: Run) -> Outcome | None:
    """Returns what a job's folder says, where its process can't; None if it was never started."""
    if not (run.path / "state.json").is_file():
        return None
    state = run_state.read(run)
    if state.state == "finished":
        try:
            return succeeded(run)
        except (OSError, ValueError, KeyError, TypeError) as error:
            return Outcome("stopped", f"its results.json can't be read ({error})")
    if state.state in ("failed", "pruned"):
        return Outcome(state.state, state.reason or "it doesn't say why")
    if state.state == "running":
        return Outcome("skipped", f"it runs as process {state.pid} on {state.host}")
    return Outcome("stopped", state.reason or "it doesn't say why")


def summary(
    jobs: Sequence[Job], outcomes: Mapping[int, Outcome], varied: Callable[[Job], Sequence[str]], folder: str
) -> str:
    """Returns a line for each job, below a line on the sweep itself.

    Args:
        jobs: of the sweep.
        outcomes: by number; a job without one wasn't started.
        varied: gives what is special of a job.
        folder: of the sweep, as people are told of it.
    """
    special = [shown(varied(job)) or "-" for job in jobs]
    found = [outcomes.get(job.number, Outcome("skipped", "not started")) for job in jobs]
    widths = [max(map(len, column), default=0) for column in (special, [outcome.word for outcome in found])]
    lines = [
        f"{job.number:>3}  {what:<{widths[0]}}  {outcome.word:<{widths[1]}}  {outcome.text}"
        for job, what, outcome in zip(jobs, special, found, strict=True)
    ]
    number = "1 job" if len(jobs) == 1 else f"{len(jobs)} jobs"
    return "\n".join([f"Sweep of {number} in {folder}: {counts_text(found)}", *lines])


def shown(overrides: Sequence[str]) -> str:
    """Returns overrides as people read them: numbers that were drawn with a few of their digits."""
    return " ".join(_LONG_NUMBER.sub(lambda found: f"{float(found[0]):.4g}", override) for override in overrides)


def counts_text(outcomes: Sequence[Outcome]) -> str:
    """Returns how many there are of each kind: `20 ok, 1 failed`."""
    counts = Counter(outcome.word for outcome in outcomes)
    return ", ".join(f"{counts[word]} {word}" for word in get_args(Word) if counts[word])


def varied_of(job: Job, jobs: Sequence[Job]) -> list[str]:
    """Returns the overrides that not all jobs of the sweep have, and that say what a job is, not how it is run."""
    in_all = set.intersection(*(set(each.overrides) for each in jobs)) if len(jobs) > 1 else set()
    return [each for each in job.overrides if each not in in_all and is_of_experiment(key_of(each) or "")]


def _headline(value: Any) -> str:
    """Returns the metric that a run, or an evaluation, goes by."""
    metrics = value.metrics if isinstance(value, Run) else value
    found = headline_of(metrics)
    headline = "done" if found is None else f"{found[0]} {found[1]:.4f}"
    return f"{headline}  {value.results['seconds']:.1f} s" if isinstance(value, Run) else headline
