"""What a sweep shows of itself: a line for each of its runs, when the last one has ended.

Hydra calls this as a callback; how jobs are launched is Hydra's business.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from regraft.runs import Run


@dataclass(frozen=True)
class _Job:
    overrides: tuple[str, ...]
    outcome: str
    folder: str


class SweepSummary(Callback):
    """Collects each job's run and prints a line for each."""

    def __init__(self) -> None:
        self._jobs: list[_Job] | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Starts the summary; a single run has none."""
        self._jobs = []

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Notes how a job ended: its metrics, or that it failed and why."""
        if self._jobs is None:
            return
        assert job_return.hydra_cfg is not None
        folder = os.path.relpath(job_return.hydra_cfg.hydra.runtime.output_dir)
        self._jobs.append(_Job(tuple(job_return.overrides or ()), _outcome(job_return.return_value), folder))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Prints the lines: what differs between the jobs, how each ended and where it lies."""
        print(summary(self._jobs or []))


def summary(jobs: Sequence[_Job]) -> str:
    """Returns a line for each job, below a line on the sweep itself."""
    in_all = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    varied = [" ".join(override for override in job.overrides if override not in in_all) for job in jobs]
    widths = [max(map(len, column), default=0) for column in (varied, [job.outcome for job in jobs])]
    lines = [
        f"{number:>3}  {what:<{widths[0]}}  {job.outcome:<{widths[1]}}  {job.folder}"
        for number, (what, job) in enumerate(zip(varied, jobs, strict=True))
    ]
    return "\n".join([f"Sweep of {len(jobs)} jobs", *lines])


def _outcome(value: Any) -> str:
    """Returns the headline of what a job returned: a run, an evaluation's metrics, or the error that ended it."""
    if isinstance(value, Exception):
        return f"failed: {' '.join(str(value).splitlines())}"
    metrics = value.metrics if isinstance(value, Run) else value
    name = next((name for name in ("test/acc", "val/acc") if name in metrics), None)
    headline = f"{name} {metrics[name]:.4f}" if name else "done"
    return f"{headline}  {value.results['seconds']:.1f} s" if isinstance(value, Run) else headline
