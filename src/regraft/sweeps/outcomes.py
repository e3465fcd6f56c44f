"""The results of a sweep's jobs, and the lines that show them."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from regraft.config.quoting import key_of
from regraft.runs import state as run_state
from regraft.runs.find import headline_of
from regraft.runs.folder import Run
from regraft.sweeps.manifest import Job, is_experiment_key

JobStatus = Literal["ok", "pruned", "failed", "stopped", "skipped"]
_LONG_NUMBER = re.compile(r"(?<==)-?\d+\.\d{7,}(e[+-]?\d+)?$")


@dataclass(frozen=True)
class JobResult:
    """The result of a job.

    Attributes:
        status: `ok`, `pruned` by a search, `failed`, `stopped` (it can be resumed), or `skipped` (it wasn't run).
        text: its metric and seconds, or why it ended as it did.
        is_running: whether another process, which resumes the same sweep, runs it.
    """

    status: JobStatus
    text: str
    is_running: bool = False


RUNNING_ELSEWHERE = JobResult("skipped", "another process runs it", is_running=True)
"""The result of a job that another process runs, which resumes the same sweep."""


class SweepError(ValueError):
    """Jobs of a sweep have failed."""


def succeeded(value: Any) -> JobResult:
    """Returns the result of a job that returned a run, or the metrics of an evaluation."""
    return JobResult("ok", _headline(value))


def failed(error: Exception | SystemExit) -> JobResult:
    """Returns the result of a job that raised an error, or exited."""
    if isinstance(error, SystemExit):
        return JobResult("failed", run_state.exit_reason(error))
    return JobResult("failed", (str(error).strip() or type(error).__name__).splitlines()[0])


def skipped(reason: str, run: Run | None = None) -> JobResult:
    """Returns the result of a job that wasn't run, for a reason; `run` is what it has finished before, if anything."""
    return JobResult("skipped", f"{_headline(run)}  {reason}" if run else reason)


def result_in(run: Run) -> JobResult | None:
    """Returns the result of a job from the files in its folder; None if it was never started."""
    if not (run.path / "state.json").is_file():
        return None
    state = run_state.read(run)
    if state.is_finished:
        try:
            return succeeded(run)
        except (OSError, ValueError, KeyError, TypeError) as error:
            return JobResult("stopped", f"its results.json can't be read ({error})")
    if state.status in ("failed", "pruned"):
        return JobResult(state.status, state.reason or "no reason is known")
    if state.status == "running":
        return JobResult("skipped", f"it runs as process {state.pid} on {state.host}", is_running=True)
    return JobResult("stopped", state.reason or "no reason is known")


def summary(
    jobs: Sequence[Job], outcomes: Mapping[int, JobResult], varied: Callable[[Job], Sequence[str]], folder: str
) -> str:
    """Returns a line on the sweep, and one for each job, of which those without an outcome weren't started."""
    special = [shortened(varied(job)) or "-" for job in jobs]
    found = [outcomes.get(job.number, JobResult("skipped", "not started")) for job in jobs]
    widths = [max(map(len, column), default=0) for column in (special, [outcome.status for outcome in found])]
    lines = [
        f"{job.number:>3}  {what:<{widths[0]}}  {outcome.status:<{widths[1]}}  {outcome.text}"
        for job, what, outcome in zip(jobs, special, found, strict=True)
    ]
    number = "1 job" if len(jobs) == 1 else f"{len(jobs)} jobs"
    return "\n".join([f"Sweep of {number} in {folder}: {counts_text(found)}", *lines])


def shortened(overrides: Sequence[str]) -> str:
    """Returns overrides for display, with drawn numbers rounded to 4 digits."""
    return " ".join(_LONG_NUMBER.sub(lambda found: f"{float(found[0]):.4g}", override) for override in overrides)


def counts_text(outcomes: Sequence[JobResult]) -> str:
    """Returns the number of results of each status: `20 ok, 1 failed`."""
    counts = Counter(outcome.status for outcome in outcomes)
    return ", ".join(f"{counts[word]} {word}" for word in get_args(JobStatus) if counts[word])


def varied_overrides(job: Job, jobs: Sequence[Job]) -> list[str]:
    """Returns the overrides that differ between jobs and that a run's results may depend on."""
    in_all = set.intersection(*(set(each.overrides) for each in jobs)) if len(jobs) > 1 else set()
    return [each for each in job.overrides if each not in in_all and is_experiment_key(key_of(each) or "")]


def _headline(value: Any) -> str:
    metrics = value.metrics if isinstance(value, Run) else value
    found = headline_of(metrics)
    headline = "done" if found is None else f"{found[0]} {found[1]:.4f}"
    return f"{headline}  {value.results['seconds']:.1f} s" if isinstance(value, Run) else headline
