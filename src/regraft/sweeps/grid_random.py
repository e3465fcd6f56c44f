"""Searches whose jobs are known from the start: every combination of some lists (grid), or random draws."""

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override

from regraft.config.quoting import grid_jobs, listed_values
from regraft.core.errors import ConfigError, require
from regraft.core.text import say
from regraft.runs import state as run_state
from regraft.sweeps.manifest import Job, is_done
from regraft.sweeps.outcomes import JobResult, result_in, skipped
from regraft.sweeps.planning import SweepPlan
from regraft.sweeps.space import draw, space_of

log = logging.getLogger(__name__)

_MAX_DRAWS = 100
"""For each job: a space may have fewer combinations than requested jobs."""


class FixedSearch:
    """A `Search` that doesn't depend on the results of its jobs.

    Args:
        expand: maps the overrides of a command to those of each job.
        space: axes in addition to those of the command line.
    """

    def __init__(self, expand: Callable[[Sequence[Override]], list[list[str]]], space: Mapping[str, Any]) -> None:
        self._expand = expand
        self._space = space
        self._waiting: list[Job] = []
        self._taken: list[Job] = []
        self.jobs: list[Job] = []
        self.num_jobs = 0

    def check(self, overrides: Sequence[Override]) -> None:
        """Expands the overrides, which raises if they aren't valid."""
        self._expand(overrides)

    def begin(self, plan: SweepPlan, num_at_once: int) -> dict[int, JobResult]:
        """Composes all jobs; returns the results of those that have finished before."""
        self._folder = plan.folder
        given = plan.overrides(self._space)
        self._axes = {override.get_key_element() for override in given if override.is_sweep_override()}
        wanted = [plan.job(overrides) for overrides in self._expand(given)]
        self.jobs = list({job.number: job for job in plan.numbered(wanted)}.values())
        self.num_jobs = len(self.jobs)
        if len(wanted) > self.num_jobs:
            num_repeated = len(wanted) - self.num_jobs
            say(f"{num_repeated} of {len(wanted)} jobs repeat another one's config, which is run once.")
        done = [job for job in self.jobs if is_done(job.run(plan.folder), job.config_hash)]
        # Killed jobs come last: one that kills its process would keep the jobs behind it from running.
        self._waiting = sorted(set(self.jobs) - set(done), key=lambda job: (self._was_killed(job), job.number))
        return {job.number: skipped("finished before", job.run(plan.folder)) for job in done}

    def ask(self) -> list[Job]:
        """Returns first all jobs that haven't finished, then those whose process, another one, was killed."""
        waiting, self._waiting = self._waiting, []
        taken, self._taken = self._taken, []
        return waiting or [job for job in taken if self._was_killed(job)]

    def tell(self, job: Job, outcome: JobResult) -> JobResult:
        """Returns the result unchanged."""
        if outcome.is_running:
            self._taken.append(job)
        return outcome

    def current_result(self, job: Job) -> JobResult | None:
        """Returns the result in a job's folder."""
        return result_in(job.run(self._folder))

    def varied(self, job: Job) -> list[str]:
        """Returns the value of each axis."""
        return [override for override in job.overrides if override.partition("=")[0] in self._axes]

    def report(self) -> str:
        """Returns an empty text, as no metric is optimised."""
        return ""

    def _was_killed(self, job: Job) -> bool:
        return run_state.was_killed(job.run(self._folder))


def grid_search(space: Mapping[str, Any] | None) -> FixedSearch:
    """Returns a grid search."""
    return FixedSearch(combinations, space or {})


def random_search(n_trials: int, seed: int, space: Mapping[str, Any] | None) -> FixedSearch:
    """Returns a random search; a larger `n_trials` keeps the first draws."""
    require_integer("sweep.n_trials", n_trials, 1)
    require_integer("sweep.seed", seed, 0)
    return FixedSearch(lambda overrides: random_combinations(overrides, n_trials, seed), space or {})


def combinations(overrides: Sequence[Override]) -> list[list[str]]:
    """Returns the overrides of each combination, as Hydra's basic sweeper does; ValueError for an interval."""
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


def random_combinations(overrides: Sequence[Override], num: int, seed: int) -> list[list[str]]:
    """Returns the overrides of `num` different random jobs, or of fewer if the space has no more."""
    space = space_of(overrides)
    generator = random.Random(seed)
    found: dict[tuple[str, ...], None] = {}
    for _ in range(num * _MAX_DRAWS):
        found[tuple(space.overrides({key: draw(axis, generator) for key, axis in space.axes.items()}))] = None
        if len(found) == num:
            break
    else:
        log.warning("sweep.n_trials: got %d, but the space seems to have %d jobs only.", num, len(found))
    return list(map(list, found))


def require_integer(key: str, value: Any, least: int) -> None:
    """Raises an error if a key's value isn't a whole number of at least `least`."""
    is_valid = isinstance(value, int) and not isinstance(value, bool) and value >= least
    require(is_valid, key, value, f"a whole number, {least} or more")
