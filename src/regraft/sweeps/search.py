"""The interface of a search, which decides the jobs of a sweep."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Protocol

from hydra.core.override_parser.types import Override

from regraft.core.errors import ConfigError
from regraft.sweeps.manifest import Job
from regraft.sweeps.outcomes import JobResult
from regraft.sweeps.planning import SweepPlan


class Search(Protocol):
    """Decides the jobs of a sweep, by the ask-and-tell pattern."""

    jobs: list[Job]
    num_jobs: int

    def check(self, overrides: Sequence[Override]) -> None:
        """Checks the overrides of the command and of `sweep.space`; raises ValueError if it can't search them."""

    def begin(self, plan: SweepPlan, num_at_once: int) -> dict[int, JobResult]:
        """Starts or resumes the sweep; returns the results of jobs that have ended before, by number."""

    def ask(self) -> list[Job]:
        """Returns the jobs to run next; an empty list at the end."""

    def tell(self, job: Job, outcome: JobResult) -> JobResult:
        """Reports the result of a job; returns it as shown to the user."""

    def current_result(self, job: Job) -> JobResult | None:
        """Returns the result of a job at which this process was stopped, or that another one runs."""

    def varied(self, job: Job) -> list[str]:
        """Returns a job's overrides that differ between jobs."""

    def report(self) -> str:
        """Returns what the search has found, as text; empty if it optimises nothing."""


def optuna_search(**settings: Any) -> Search:
    """Returns a search by Optuna, with the arguments of `OptunaSettings`; raises ValueError if it isn't installed."""
    if find_spec("optuna") is None:
        raise ConfigError("sweep=optuna", "Optuna isn't installed", fix="Run pip install 'regraft[optuna]'.")
    from regraft.sweeps.optuna_search import OptunaSearch
    from regraft.sweeps.optuna_study import OptunaSettings

    return OptunaSearch(OptunaSettings(**settings))
