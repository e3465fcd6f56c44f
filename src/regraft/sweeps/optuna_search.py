"""The search by Optuna: trials are asked for, run as jobs, and told what they came to; a killed one goes on.

The study itself is made in `study`; what it holds is read in `stored`; what a trial is measured by, in `objectives`.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import optuna
from hydra.core.override_parser.types import Override
from optuna.trial import TrialState

from regraft.runs import state as run_state
from regraft.runs.folder import Run
from regraft.sweeps import locks
from regraft.sweeps import optuna_storage as storages
from regraft.sweeps import optuna_study as studies
from regraft.sweeps.manifest import Job
from regraft.sweeps.objectives import values_of
from regraft.sweeps.optuna_storage import RUN, StoredTrials, rebuild
from regraft.sweeps.optuna_study import Settings
from regraft.sweeps.outcomes import TAKEN, Outcome, outcome_in, succeeded
from regraft.sweeps.planning import Plan
from regraft.sweeps.space import some_values, space_of
from regraft.sweeps.trial_file import TrialFile

log = logging.getLogger(__name__)


class Trials:
    """A search that learns from what its jobs have found; see `search.Search`.

    Args:
        settings: of the search.

    Attributes:
        jobs: those so far.
        num_jobs: that there will be.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._is_rejoined = False
        self._left: list[Job] = []
        self.num_jobs = settings.n_trials
        self.jobs: list[Job] = []

    def look_at(self, overrides: Sequence[Override]) -> None:
        """Takes the space that overrides span."""
        self._space = space_of(overrides)
        self._settings.require_fit(self._space)

    def begin(self, plan: Plan, num_at_once: int) -> dict[int, Outcome]:
        """Opens the study, or makes it; returns what became of the trials that have ended."""
        self._plan, self._num_at_once, settings = plan, num_at_once, self._settings
        self.look_at(plan.overrides(settings.space))
        for values in some_values(self._space):
            plan.job(self._space.overrides(values))  # so that a mistake is found before anything runs
        if settings.is_grid:
            self.num_jobs = min(self.num_jobs, studies.grid_size(self._space))
        self._address = storages.kept_address(settings.storage, plan.folder)
        name = settings.study or plan.folder.name
        if "://" not in self._address:
            storages.mend(Path(self._address))
        storage = storages.storage_at(self._address)
        self._study = studies.study_at(storage, name, settings.metrics, settings.directions)
        self._distributions = {key: studies.distribution(axis) for key, axis in self._space.axes.items()}
        studies.require_same_kinds(self._study, self._distributions)
        self._stored = StoredTrials(self._study, storage, plan.folder, settings.metrics)
        with locks.changing(self._plan.folder):
            known = plan.known()
            stored = {**self._stored.of_the_folder(ended=True), **self._stored.of_the_folder(ended=False)}
            lost = [job for job in known if job.number not in stored]
            if lost:
                rebuild(self._study, plan.folder, lost, self._distributions, settings.metrics)
            self._take_up(known)
            plan.keep(self.jobs)
        if settings.pruner is not None and not settings.is_pruning:
            metrics = ", ".join(settings.metrics)
            print(f"Nothing is pruned: that takes a single validation metric, and this is {metrics}.")
        ended = self._stored.of_the_folder(ended=True)
        to_run = {*self._stored.of_the_folder(ended=False), *self._stored.failed()}
        return {number: self._stored.outcome(found[-1]) for number, found in ended.items() if number not in to_run}

    def ask(self) -> list[Job]:
        """Returns what was under way or had failed when the sweep ended, then new trials until there are enough.

        Those whose process was killed come last: one that kills its process would keep the others from ever running.
        """
        if not self._is_rejoined:
            self._is_rejoined = True
            unfinished = self._unfinished()
            self._left = [job for job in unfinished if self._was_killed(job)]
            if jobs := [job for job in unfinished if job not in self._left]:
                return jobs
        # Two who go on with the sweep at once would both ask for its last trial.
        with locks.changing(self._plan.folder):
            self._take_up(self._plan.known())
            jobs = []
            while len(jobs) < self._num_at_once and self._stored.num_asked() < self.num_jobs:
                if (new := self._asked()) is not None:
                    jobs.append(new)
            if jobs:
                self._plan.keep(self.jobs)
        if not jobs:
            jobs, self._left = [job for job in self._left if self._was_killed(job)], []
        return jobs

    def tell(self, job: Job, outcome: Outcome) -> Outcome:
        """Tells the study what a trial came to; returns it by what is searched for."""
        run = Run(self._plan.folder / str(job.number))
        trials = self._stored.of_the_folder(ended=False).get(job.number, [])
        if outcome.word == "skipped" and run.is_finished:
            outcome = succeeded(run)
        # Someone else who goes on with this sweep has told it, or will.
        if not trials or outcome.word == "skipped":
            self._left += [job] if outcome == TAKEN else []
            return self._told(job) or outcome
        values = None
        if outcome.word == "ok":
            try:
                values = values_of(run, self._settings.metrics)
            except ValueError as error:
                outcome = Outcome("failed", str(error))
        for trial in trials:
            self._stored.end(trial.number, outcome, values)
        return self._stored.outcome(self._stored.all()[trials[0].number])

    def elsewhere(self, job: Job) -> Outcome | None:
        """Returns what the study says of a trial that has ended; of another job, what its folder says."""
        return self._told(job) or outcome_in(Run(self._plan.folder / str(job.number)))

    def varied(self, job: Job) -> list[str]:
        """Returns the value of each axis."""
        return [override for override in job.overrides if override.partition("=")[0] in self._space.axes]

    def conclusion(self) -> str:
        """Returns the best trials and their folders."""
        best = self._stored.best_text()
        return f"{best}\nStudy {self._study.study_name} in {self._address}\n" if best else ""

    def _told(self, job: Job) -> Outcome | None:
        """Returns what the study says of a trial that has ended."""
        ended = self._stored.of_the_folder(ended=True).get(job.number)
        return self._stored.outcome(ended[-1]) if ended else None

    def _was_killed(self, job: Job) -> bool:
        return run_state.was_killed(Run(self._plan.folder / str(job.number)))

    def _unfinished(self) -> list[Job]:
        with locks.changing(self._plan.folder):
            trials = {number: self._stored.try_again(trial) for number, trial in self._stored.failed().items()}
        trials |= {number: found[0].number for number, found in self._stored.of_the_folder(ended=False).items()}
        jobs = [job for job in self.jobs if job.number in trials]
        for job in jobs:
            self._introduce(job, trials[job.number])
        return jobs

    def _take_up(self, known: Sequence[Job]) -> None:
        """Takes up the trials of this folder, those of others who go on with it too; call it with the lock held.

        None is being asked for then, so one without a folder was cut off before it had one.

        Args:
            known: jobs that the folder has by now.
        """
        jobs = {job.number: job for job in [*known, *self.jobs]}
        for trial in self._stored.all():
            number = self._stored.job_number(trial)
            if number is None and trial.state == TrialState.RUNNING and self._settings.storage is None:
                lost = Outcome("failed", "the sweep was killed before the trial had a folder")
                self._stored.end(trial.number, lost, None)
            elif number is not None and number not in jobs:
                overrides = self._space.overrides({key: trial.params.get(key) for key in self._space.axes})
                jobs[number] = self._plan.job(overrides, number)
        self.jobs = [jobs[number] for number in sorted(jobs)]

    def _asked(self) -> Job | None:
        """Returns the job of a new trial; None if there is nothing to run for it."""
        self._study.sampler = self._settings.sampler(len(self._stored.all()), self._space)
        trial = self._study.ask(self._distributions)
        # Optuna's grid would stop its own loop once it is done, and there is none.
        self._study.sampler = optuna.samplers.RandomSampler()
        overrides = self._space.overrides(trial.params)
        job = next((each for each in self.jobs if each.overrides == tuple(overrides)), None)
        if job is None:
            try:
                job = self._plan.job(overrides, max((each.number for each in self.jobs), default=-1) + 1)
            except Exception as error:  # whatever a combination makes Hydra or OmegaConf raise
                log.warning("Trial %d can't be composed (%s): %s", trial.number, " ".join(overrides), error)
                self._stored.end(trial.number, Outcome("failed", str(error)), None)
                return None
        equal = next((each for each in self.jobs if each.digest == job.digest), None)
        trial.set_user_attr(RUN, str(self._plan.folder / str((equal or job).number)))
        if equal is not None:
            self._tell_like(equal, trial.number)
            return None
        self.jobs.append(job)
        self._introduce(job, trial.number)
        return job

    def _tell_like(self, job: Job, number: int) -> None:
        """Ends a trial as an equal one has; if that hasn't yet, they will end together."""
        for earlier in self._stored.of_the_folder(ended=True).get(job.number, [])[-1:]:
            self._stored.end(number, self._stored.outcome(earlier), earlier.values)

    def _introduce(self, job: Job, trial_number: int) -> None:
        """Lets the job's process know which trial it is, if it may be given up."""
        settings = self._settings
        if settings.pruner is None or not settings.is_pruning:
            return
        name, metric = self._study.study_name, settings.metrics[0]
        file = TrialFile(self._address, name, trial_number, metric, settings.pruner, settings.pruner_options)
        file.write(self._plan.folder / str(job.number))
