"""What a sweep shows of itself: a line for each of its runs, when the last one has ended.

Hydra calls this as a callback; how jobs are launched is Hydra's business.
"""

from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from regraft.runs import Run


class SweepSummary(Callback):
    """Collects each job's run and prints them as one table."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, str, str]] = []

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Notes how a job ended: its metrics, or that it failed and why."""
        assert job_return.hydra_cfg is not None
        overrides = " ".join(job_return.overrides or [])
        folder = str(job_return.hydra_cfg.hydra.runtime.output_dir)
        if job_return.status is JobStatus.COMPLETED:
            outcome = _outcome(job_return.return_value)
        else:
            # The public property raises a failed job's error; here it is only shown.
            outcome = (f"failed: {job_return._return_value}", "")
        self._rows.append((overrides, *outcome, folder))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Prints the sweep's table."""
        from rich.console import Console
        from rich.table import Table

        table = Table("job", "overrides", "result", "seconds", title="sweep", title_justify="left")
        for job, (overrides, result, seconds, _) in enumerate(self._rows):
            table.add_row(str(job), overrides, result, seconds)
        console = Console()
        console.print(table)
        for job, row in enumerate(self._rows):
            console.print(f"{job}: {row[-1]}", soft_wrap=True, highlight=False)


def _outcome(value: Any) -> tuple[str, str]:
    """Returns the headline metric and the seconds of a job's return value: a run, or an evaluation's metrics."""
    metrics = value.metrics if isinstance(value, Run) else value
    seconds = f"{value.results['seconds']:.1f}" if isinstance(value, Run) else ""
    name = next((name for name in ("test/acc", "val/acc") if name in metrics), None)
    return (f"{name} {metrics[name]:.4f}" if name else "-"), seconds
