"""Sweeps whose jobs are known from the start: every combination of some lists, or random draws."""

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override

from regraft.config.quoting import grid_jobs, listed_values
from regraft.core.errors import ConfigError
from regraft.runs import state as run_state
from regraft.runs.folder import Run
from regraft.sweeps.manifest import Job, is_done
from regraft.sweeps.outcomes import TAKEN, Outcome, outcome_in, skipped
from regraft.sweeps.planning import Plan
from regraft.sweeps.space import draw, space_of

log = logging.getLogger(__name__)

_MOST_DRAWS = 100
"""For each job that is asked for: a space may have fewer."""


class Listed:
    """A search that doesn't look at what its jobs have found; see `search.Search`.

    Args:
        expand: from a command to the overrides of each job.
        space: axes beside those of the command line.
    """

    def __init__(self, expand: Callable[[Sequence[Override]], list[list[str]]], space: Mapping[str, Any]) -> None:
        self._expand = expand
        self._space = space
        self._waiting: list[Job] = []
        self._taken: list[Job] = []
        self.jobs: list[Job] = []
        self.num_jobs = 0

    def look_at(self, overrides: Sequence[Override]) -> None:
        """Lists the jobs that overrides give."""
        self._expand(overrides)

    def begin(self, plan: Plan, num_at_once: int) -> dict[int, Outcome]:
        """Composes all jobs; returns what those had come to that are finished."""
        self._folder = plan.folder
        given = plan.overrides(self._space)
        self._axes = {override.get_key_element() for override in given if override.is_sweep_override()}
        wanted = [plan.job(overrides) for overrides in self._expand(given)]
        self.jobs = list({job.number: job for job in plan.numbered(wanted)}.values())
        self.num_jobs = len(self.jobs)
        if len(wanted) > self.num_jobs:
            num_repeated = len(wanted) - self.num_jobs
            print(f"{num_repeated} of {len(wanted)} jobs repeat another one's config, which is run once.")
        done = [job for job in self.jobs if is_done(self._run(job), job.digest)]
        # A job that kills its process would keep those behind it from ever running.
        self._waiting = sorted(set(self.jobs) - set(done), key=lambda job: (self._was_killed(job), job.number))
        return {job.number: skipped("finished before", self._run(job)) for job in done}

    def ask(self) -> list[Job]:
        """Returns all jobs that aren't done at first, then those that another process had taken and was killed at."""
        waiting, self._waiting = self._waiting, []
        taken, self._taken = self._taken, []
        return waiting or [job for job in taken if self._was_killed(job)]

    def tell(self, job: Job, outcome: Outcome) -> Outcome:
        """Returns the outcome as it is."""
        if outcome == TAKEN:
            self._taken.append(job)
        return outcome

    def elsewhere(self, job: Job) -> Outcome | None:
        """Returns what a job's folder says."""
        return outcome_in(self._run(job))

    def varied(self, job: Job) -> list[str]:
        """Returns the value of each axis."""
        return [override for override in job.overrides if override.partition("=")[0] in self._axes]

    def conclusion(self) -> str:
        """Returns nothing: no metric was searched by."""
        return ""

    def _was_killed(self, job: Job) -> bool:
        return run_state.was_killed(self._run(job))

    def _run(self, job: Job) -> Run:
        return Run(self._folder / str(job.number))


def grid(space: Mapping[str, Any] | None) -> Listed:
    """Returns the search of every combination."""
    return Listed(combinations, space or {})


def draws(n_trials: int, seed: int, space: Mapping[str, Any] | None) -> Listed:
    """Returns the search of random draws; with more of them, the first ones stay what they were.

    Raises:
        ValueError: there are to be none.
    """
    require_whole("sweep.n_trials", n_trials, 1)
    require_whole("sweep.seed", seed, 0)
    return Listed(lambda overrides: drawn(overrides, n_trials, seed), space or {})


def combinations(overrides: Sequence[Override]) -> list[list[str]]:
    """Returns the overrides of each combination, as Hydra's own sweeper makes them.

    Raises:
        ValueError: an interval, which has no end of values, or a list without any.
    """
    for override in overrides:
        if override.is_interval_sweep():
            raise ConfigError(
                override.key_or_group,
                "an interval has no list of values to combine. Give choice(...) or "
                "range(...), or search it: sweep=random or sweep=optuna.",
            )
        if override.is_sweep_override():
            listed_values(override)
    return grid_jobs(overrides)


def drawn(overrides: Sequence[Override], num: int, seed: int) -> list[list[str]]:
    """Returns the overrides of some different random jobs; of fewer, where the space has no more."""
    space = space_of(overrides)
    generator = random.Random(seed)
    found: dict[tuple[str, ...], None] = {}
    for _ in range(num * _MOST_DRAWS):
        found[tuple(space.overrides({key: draw(axis, generator) for key, axis in space.axes.items()}))] = None
        if len(found) == num:
            break
    else:
        log.warning("sweep.n_trials: got %d, but the space seems to have %d jobs only.", num, len(found))
    return list(map(list, found))


def require_whole(key: str, value: Any, least: int) -> None:
    """Checks that a key's value is a whole number.

    Raises:
        ValueError: it isn't, or is too small.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(key, got=value, allowed=f"a whole number, {least} or more")
