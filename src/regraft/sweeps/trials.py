"""The search by Optuna: trials are asked for, run as jobs, and told what they came to; a killed one goes on.

The study itself is `study`'s; what a trial is measured by, `objectives`'.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.trial import FrozenTrial, TrialState

from regraft.runs import Run
from regraft.sweeps import study as studies
from regraft.sweeps.listed import require_whole
from regraft.sweeps.manifest import Job
from regraft.sweeps.objectives import checked_directions, checked_metrics, values_of
from regraft.sweeps.outcomes import Outcome, outcome_in, shown
from regraft.sweeps.planning import Plan
from regraft.sweeps.space import Choices, Numbers, Space, space_of
from regraft.sweeps.trial_file import TrialFile

log = logging.getLogger(__name__)

_ASKING = ".asking"
_RUN = "run"
_ERROR = "error"


class Trials:
    """A search that learns from what its jobs have found; see `search.Search` and `conf/sweep/optuna.yaml`.

    Args:
        n_trials: of the study, those of earlier commands included.
        sampler: short name; see `study.sampler`.
        sampler_options: of that.
        pruner: short name, or None; see `study.pruner`.
        pruner_options: of that.
        seed: of the sampler.
        metrics: what is optimised.
        directions: of the metrics; None for what their names say.
        storage: of the study; None for a file in the sweep's folder.
        study: its name; None for that of the sweep's folder.
        space: axes beside those of the command line.
    """

    def __init__(
        self,
        *,
        n_trials: int,
        sampler: str,
        sampler_options: Mapping[str, Any],
        pruner: str | None,
        pruner_options: Mapping[str, Any],
        seed: int,
        metrics: Any,
        directions: Any,
        storage: str | None,
        study: str | None,
        space: Mapping[str, Any],
    ) -> None:
        require_whole("sweep.n_trials", n_trials, 1)
        require_whole("sweep.seed", seed, 0)
        self._metrics = checked_metrics(metrics)
        self._directions = checked_directions(directions, self._metrics)
        self._sampler, self._sampler_options, self._seed = sampler, dict(sampler_options), seed
        self._pruner, self._pruner_options = pruner, dict(pruner_options)
        self._storage, self._name, self._configured = storage, study, space
        self.num_jobs = n_trials
        self.jobs: list[Job] = []
        self._is_rejoined = False
        self._twins: dict[int, list[int]] = defaultdict(list)

    def begin(self, plan: Plan, num_at_once: int) -> dict[int, Outcome]:
        """Opens the study, or makes it; returns what became of the trials that have ended."""
        self._plan, self._num_at_once = plan, num_at_once
        self._space = space_of(plan.overrides(self._configured))
        self._require_composable(self._space)
        studies.pruner(self._pruner, self._pruner_options)
        self._sampler_for(0)
        self._distributions = {key: studies.distribution(axis) for key, axis in self._space.axes.items()}
        self._address = studies.address(self._storage, plan.folder)
        if "://" not in self._address:
            studies.mend(Path(self._address))
        name = self._name or plan.folder.name
        self._study = studies.study_at(studies.storage_at(self._address), name, self._metrics, self._directions)
        self._require_same_kinds()
        plan.keep([])
        self._rejoin()
        return {number: self._outcome_of(trial) for number, trial in self._own(finished=True).items()}

    def ask(self) -> list[Job]:
        """Returns trials that were under way when the sweep ended, and then new ones, until there are enough."""
        if not self._is_rejoined:
            self._is_rejoined = True
            unfinished = self._own(finished=False)
            jobs = [job for job in self.jobs if job.number in unfinished]
            for job in jobs:
                self._introduce(job, unfinished[job.number].number)
            if jobs:
                return jobs
        # Two who go on with the sweep at once would both ask for its last trial.
        with FileLock(self._plan.folder / _ASKING):
            jobs = []
            while len(jobs) < self._num_at_once and self._num_asked() < self.num_jobs:
                if (new := self._asked()) is not None:
                    jobs.append(new)
            if jobs:
                self._plan.keep(jobs)
        return jobs

    def tell(self, job: Job, outcome: Outcome) -> Outcome:
        """Tells the study what a trial came to; returns it by what is searched for."""
        run = Run(self._plan.folder / str(job.number))
        trial = self._own(finished=False).get(job.number)
        if trial is None:  # someone else who goes on with this sweep has told it
            return outcome
        if outcome.word == "skipped":
            outcome = outcome_in(run) or outcome
        if outcome.word == "skipped":
            return outcome
        values = None
        if outcome.word == "ok":
            try:
                values = values_of(run, self._metrics)
            except ValueError as error:
                outcome = Outcome("failed", str(error))
        for number in [trial.number, *self._twins.pop(job.number, [])]:
            self._end(number, outcome, values)
        return self._outcome_of(self._study.trials[trial.number])

    def varied(self, job: Job) -> list[str]:
        """Returns the value of each axis."""
        return list(job.overrides[-len(self._space.axes) :])

    def conclusion(self) -> str:
        """Returns the best trials and their folders."""
        trials = self._study.get_trials(deepcopy=False)
        if not any(trial.state == TrialState.COMPLETE for trial in trials):
            return ""
        is_single = len(self._metrics) == 1
        best = [self._study.best_trial] if is_single else self._study.best_trials
        head = "Best trial" if is_single else f"{len(best)} trials that no other one beats in everything"
        lines = [f"{head} of {len(trials)}, by {', '.join(self._metrics)}:"]
        for trial in best:
            what = shown([f"{key}={value}" for key, value in trial.params.items()])
            lines.append(f"  {self._shown(trial)}  {what}  {trial.user_attrs.get(_RUN, '')}")
        return "\n".join([*lines, f"Study {self._study.study_name} in {self._address}", ""])

    def _require_composable(self, space: Space) -> None:
        """Composes each value of each axis once, so that a mistake is found before anything runs."""
        values = {key: _values_at_the_ends(axis) for key, axis in space.axes.items()}
        first = {key: each[0] for key, each in values.items()}
        for key, each in values.items():
            for value in each:
                self._plan.job(space.overrides(first | {key: value}))

    def _require_same_kinds(self) -> None:
        for trial in self._study.get_trials(deepcopy=False):
            for key, old in trial.distributions.items():
                try:
                    new = self._distributions.get(key, old)
                    optuna.distributions.check_distribution_compatibility(old, new)
                except ValueError as error:
                    raise ValueError(
                        f"{key}: the study has it as {old}, the command as {new}. A study may go on with other ends "
                        f"of an interval, but not with other choices: leave them, or start a new sweep."
                    ) from error

    def _rejoin(self) -> None:
        """Takes up the trials of this folder, and ends those that were cut off before they had one."""
        known = {job.number: job for job in self._plan.known()}
        for trial in self._study.get_trials(deepcopy=False):
            number = self._number_of(trial)
            if number is not None:
                overrides = self._space.overrides({key: trial.params.get(key) for key in self._space.axes})
                self.jobs.append(known.get(number) or self._plan.job(overrides, number))
            elif trial.state == TrialState.RUNNING and self._storage is None:
                self._end(trial.number, Outcome("failed", "the sweep was killed before it had a folder"), None)
        self._next = max([*known, *(job.number for job in self.jobs)], default=-1) + 1

    def _asked(self) -> Job | None:
        """Returns the job of a new trial; None if there is nothing to run for it."""
        self._study.sampler = self._sampler_for(len(self._study.get_trials(deepcopy=False)))
        trial = self._study.ask(self._distributions)
        overrides = self._space.overrides(trial.params)
        try:
            job = self._plan.job(overrides, self._next)
        except Exception as error:  # whatever a combination makes Hydra or OmegaConf raise
            log.warning("Trial %d can't be composed (%s): %s", trial.number, " ".join(overrides), error)
            self._end(trial.number, Outcome("failed", str(error)), None)
            return None
        twin = next((each for each in self.jobs if each.digest == job.digest), None)
        if twin is not None and self._is_told_like(twin, trial):
            return None
        self._next += 1
        self.jobs.append(job)
        trial.set_user_attr(_RUN, str(self._plan.folder / str(job.number)))
        self._introduce(job, trial.number)
        return job

    def _is_told_like(self, twin: Job, trial: optuna.Trial) -> bool:
        """Tells a trial what an equal job has come to, or will; False if that came to nothing."""
        earlier = self._own(finished=True).get(twin.number)
        if earlier is None:
            self._twins[twin.number].append(trial.number)
            return True
        if earlier.state != TrialState.COMPLETE:
            return False
        trial.set_user_attr(_RUN, earlier.user_attrs[_RUN])
        self._end(trial.number, Outcome("ok", ""), earlier.values)
        return True

    def _introduce(self, job: Job, trial_number: int) -> None:
        """Lets the job's process know which trial it is, if it may be given up; Optuna does so by one metric only."""
        if self._pruner is None or len(self._metrics) > 1 or not self._metrics[0].startswith("val/"):
            return
        name, metric = self._study.study_name, self._metrics[0]
        file = TrialFile(self._address, name, trial_number, metric, self._pruner, self._pruner_options)
        file.write(self._plan.folder / str(job.number))

    def _end(self, number: int, outcome: Outcome, values: list[float] | None) -> None:
        if values is not None:
            self._study.tell(number, values, skip_if_finished=True)
            return
        trial = self._study.get_trials(deepcopy=False)[number]
        state = TrialState.PRUNED if outcome.word == "pruned" else TrialState.FAIL
        self._study._storage.set_trial_user_attr(trial._trial_id, _ERROR, outcome.text)
        self._study.tell(number, state=state, skip_if_finished=True)

    def _own(self, *, finished: bool) -> dict[int, FrozenTrial]:
        """Returns the trials with a folder here, by its number."""
        found: dict[int, FrozenTrial] = {}
        for trial in self._study.get_trials(deepcopy=False):
            number = self._number_of(trial)
            if number is not None and trial.state.is_finished() == finished:
                found.setdefault(number, trial)
        return found

    def _number_of(self, trial: FrozenTrial) -> int | None:
        place = Path(trial.user_attrs.get(_RUN, ""))
        is_here = place.parent.name == self._plan.folder.name and place.name.isdecimal()
        return int(place.name) if is_here else None

    def _num_asked(self) -> int:
        return sum(trial.state != TrialState.WAITING for trial in self._study.get_trials(deepcopy=False))

    def _sampler_for(self, number: int) -> optuna.samplers.BaseSampler:
        """Returns the sampler of a trial by its number, so that a study that goes on draws nothing twice."""
        is_order_fixed = self._sampler == "grid"
        seed = self._seed if is_order_fixed else self._seed + number
        return studies.sampler(self._sampler, self._sampler_options, seed, self._space)

    def _outcome_of(self, trial: FrozenTrial) -> Outcome:
        if trial.state == TrialState.COMPLETE:
            return Outcome("ok", self._shown(trial))
        reason = trial.user_attrs.get(_ERROR, "it doesn't say why")
        return Outcome("pruned" if trial.state == TrialState.PRUNED else "failed", reason)

    def _shown(self, trial: FrozenTrial) -> str:
        return "  ".join(f"{name} {value:.4g}" for name, value in zip(self._metrics, trial.values, strict=True))


def _values_at_the_ends(axis: Choices | Numbers) -> list[Any]:
    return list(axis.values) if isinstance(axis, Choices) else [axis.low, axis.high]
