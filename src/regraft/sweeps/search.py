"""What every search is: the side of a sweep that says which jobs there are."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Protocol

from hydra.core.override_parser.types import Override

from regraft.sweeps.manifest import Job
from regraft.sweeps.outcomes import Outcome
from regraft.sweeps.planning import Plan


class Search(Protocol):
    """What says which jobs a sweep has.

    Attributes:
        jobs: those so far.
        num_jobs: that there will be.
    """

    jobs: list[Job]
    num_jobs: int

    def look_at(self, overrides: Sequence[Override]) -> None:
        """Looks at what would be searched, without making anything.

        Args:
            overrides: of the command and of `sweep.space`.

        Raises:
            ValueError: there is nothing to search, or not by this search.
        """

    def begin(self, plan: Plan, num_at_once: int) -> dict[int, Outcome]:
        """Takes the sweep's command; returns what became of jobs that this command needn't run."""

    def ask(self) -> list[Job]:
        """Returns the jobs to run next; none at the end."""

    def tell(self, job: Job, outcome: Outcome) -> Outcome:
        """Takes what became of a job; returns it as people are to read it."""

    def elsewhere(self, job: Job) -> Outcome | None:
        """Returns what became of a job that this process was stopped at, or that another one runs."""

    def varied(self, job: Job) -> list[str]:
        """Returns the overrides that are special of a job."""

    def conclusion(self) -> str:
        """Returns what the search has found; empty if nothing was searched for."""


def by_optuna(**settings: Any) -> Search:
    """Returns Optuna's search.

    Args:
        settings: see `settings.Settings`.

    Raises:
        ValueError: Optuna isn't installed.
    """
    if find_spec("optuna") is None:
        raise ValueError("sweep=optuna: Optuna isn't installed. To have it: pip install 'regraft[optuna]'")
    from regraft.sweeps.optuna_search import Trials
    from regraft.sweeps.optuna_study import Settings

    return Trials(Settings(**settings))
