"""The search by Optuna: its ask-and-tell interface with jobs in between; killed trials are resumed."""

import logging
from collections.abc import Sequence
from pathlib import Path

import optuna
from hydra.core.override_parser.types import Override
from optuna.trial import TrialState

from regraft.core.text import say
from regraft.runs import state as run_state
from regraft.sweeps import locks
from regraft.sweeps import optuna_storage as storages
from regraft.sweeps import optuna_study as studies
from regraft.sweeps.manifest import Job
from regraft.sweeps.objectives import values_of
from regraft.sweeps.optuna_storage import RUN, StoredTrials, rebuild
from regraft.sweeps.optuna_study import OptunaSettings
from regraft.sweeps.outcomes import JobResult, result_in, succeeded
from regraft.sweeps.planning import SweepPlan
from regraft.sweeps.space import some_values, space_of
from regraft.sweeps.trial_file import TrialFile

log = logging.getLogger(__name__)


class OptunaSearch:
    """A `Search` that learns from the results of its jobs."""

    def __init__(self, settings: OptunaSettings) -> None:
        self._settings = settings
        self._has_resumed = False
        self._killed: list[Job] = []
        self.num_jobs = settings.n_trials
        self.jobs: list[Job] = []

    def check(self, overrides: Sequence[Override]) -> None:
        """Sets the search space, which raises if it isn't valid."""
        self._space = space_of(overrides)
        self._settings.require_fit(self._space)

    def begin(self, plan: SweepPlan, num_at_once: int) -> dict[int, JobResult]:
        """Opens or creates the study; returns the results of the trials that have ended."""
        self._plan, self._num_at_once, settings = plan, num_at_once, self._settings
        self.check(plan.overrides(settings.space))
        for values in some_values(self._space):
            plan.job(self._space.overrides(values))  # finds mistakes before anything runs
        if settings.is_grid:
            self.num_jobs = min(self.num_jobs, studies.grid_size(self._space))
        self._address = storages.address(settings.storage, plan.folder)
        name = settings.study or plan.folder.name
        if "://" not in self._address:
            storages.cut_half_entry(Path(self._address))
        storage = storages.storage_at(self._address)
        self._study = studies.study_at(storage, name, settings.metrics, settings.directions)
        self._distributions = {key: studies.distribution(axis) for key, axis in self._space.axes.items()}
        studies.require_same_kinds(self._study, self._distributions)
        self._stored = StoredTrials(self._study, storage, plan.folder, settings.metrics)
        with locks.manifest_lock(self._plan.folder):
            known = plan.known()
            stored = {**self._stored.in_folder(ended=True), **self._stored.in_folder(ended=False)}
            lost = [job for job in known if job.number not in stored]
            if lost:
                rebuild(self._study, plan.folder, lost, self._distributions, settings.metrics)
            self._adopt_trials(known)
            plan.keep(self.jobs)
        if settings.pruner is not None and not settings.is_pruning:
            metrics = ", ".join(settings.metrics)
            say(f"Nothing is pruned: pruning needs a single validation metric; got {metrics}.")
        ended = self._stored.in_folder(ended=True)
        to_run = {*self._stored.in_folder(ended=False), *self._stored.failed()}
        return {number: self._stored.outcome(found[-1]) for number, found in ended.items() if number not in to_run}

    def ask(self) -> list[Job]:
        """Returns trials that were running or had failed when the sweep ended, then new ones until there are enough.

        Killed ones come last: a trial that kills its process would keep the others from running.
        """
        if not self._has_resumed:
            self._has_resumed = True
            unfinished = self._unfinished()
            self._killed = [job for job in unfinished if self._was_killed(job)]
            if jobs := [job for job in unfinished if job not in self._killed]:
                return jobs
        # Two processes that resume the sweep at once would both start its last trial.
        with locks.manifest_lock(self._plan.folder):
            self._adopt_trials(self._plan.known())
            jobs = []
            while len(jobs) < self._num_at_once and self._stored.num_started() < self.num_jobs:
                if (new := self._new_job()) is not None:
                    jobs.append(new)
            if jobs:
                self._plan.keep(self.jobs)
        if not jobs:
            jobs, self._killed = [job for job in self._killed if self._was_killed(job)], []
        return jobs

    def tell(self, job: Job, outcome: JobResult) -> JobResult:
        """Tells the study the result of a trial; returns it with the values of the metrics."""
        run = job.run(self._plan.folder)
        trials = self._stored.in_folder(ended=False).get(job.number, [])
        if outcome.status == "skipped" and run.is_finished:
            outcome = succeeded(run)
        # Another process that resumes this sweep has told the study, or will.
        if not trials or outcome.status == "skipped":
            self._killed += [job] if outcome.is_running else []
            return self._ended_result(job) or outcome
        values = None
        if outcome.status == "ok":
            try:
                values = values_of(run, self._settings.metrics)
            except ValueError as error:
                outcome = JobResult("failed", str(error))
        for trial in trials:
            self._stored.end(trial.number, outcome, values)
        return self._stored.outcome(self._stored.all()[trials[0].number])

    def current_result(self, job: Job) -> JobResult | None:
        """Returns the study's result of a trial that has ended; for others, the result in their folders."""
        return self._ended_result(job) or result_in(job.run(self._plan.folder))

    def varied(self, job: Job) -> list[str]:
        """Returns the value of each axis."""
        return [override for override in job.overrides if override.partition("=")[0] in self._space.axes]

    def report(self) -> str:
        """Returns the best trials and their folders."""
        best = self._stored.best_text()
        return f"{best}\nStudy {self._study.study_name} in {self._address}\n" if best else ""

    def _ended_result(self, job: Job) -> JobResult | None:
        ended = self._stored.in_folder(ended=True).get(job.number)
        return self._stored.outcome(ended[-1]) if ended else None

    def _was_killed(self, job: Job) -> bool:
        return run_state.was_killed(job.run(self._plan.folder))

    def _unfinished(self) -> list[Job]:
        with locks.manifest_lock(self._plan.folder):
            trials = {number: self._stored.retry(trial) for number, trial in self._stored.failed().items()}
        trials |= {number: found[0].number for number, found in self._stored.in_folder(ended=False).items()}
        jobs = [job for job in self.jobs if job.number in trials]
        for job in jobs:
            self._write_trial_file(job, trials[job.number])
        return jobs

    def _adopt_trials(self, known: Sequence[Job]) -> None:
        """Sets `jobs` from the known jobs and the study's trials in this folder; call it with the manifest's lock held.

        No process starts a trial meanwhile, so a running one without a folder was killed before it had one.
        """
        jobs = {job.number: job for job in [*known, *self.jobs]}
        for trial in self._stored.all():
            number = self._stored.job_number(trial)
            if number is None and trial.state == TrialState.RUNNING and self._settings.storage is None:
                lost = JobResult("failed", "the sweep was killed before the trial had a folder")
                self._stored.end(trial.number, lost, None)
            elif number is not None and number not in jobs:
                overrides = self._space.overrides({key: trial.params.get(key) for key in self._space.axes})
                jobs[number] = self._plan.job(overrides, number)
        self.jobs = [jobs[number] for number in sorted(jobs)]

    def _new_job(self) -> Job | None:
        """Returns the job of a new trial; None if there is nothing to run for it."""
        self._study.sampler = self._settings.sampler(len(self._stored.all()), self._space)
        trial = self._study.ask(self._distributions)
        # Optuna's grid sampler would stop its own optimisation loop at the end, and there is none.
        self._study.sampler = optuna.samplers.RandomSampler()
        overrides = self._space.overrides(trial.params)
        job = next((each for each in self.jobs if each.overrides == tuple(overrides)), None)
        if job is None:
            try:
                job = self._plan.job(overrides, max((each.number for each in self.jobs), default=-1) + 1)
            except Exception as error:  # of Hydra or OmegaConf, for this combination
                log.warning("Trial %d can't be composed (%s): %s", trial.number, " ".join(overrides), error)
                self._stored.end(trial.number, JobResult("failed", str(error)), None)
                return None
        equal = next((each for each in self.jobs if each.config_hash == job.config_hash), None)
        trial.set_user_attr(RUN, str((equal or job).run(self._plan.folder).path))
        if equal is not None:
            # If the equal job's trial hasn't ended yet, they will end together.
            for earlier in self._stored.in_folder(ended=True).get(equal.number, [])[-1:]:
                self._stored.end(trial.number, self._stored.outcome(earlier), earlier.values)
            return None
        self.jobs.append(job)
        self._write_trial_file(job, trial.number)
        return job

    def _write_trial_file(self, job: Job, trial_number: int) -> None:
        """Writes for a job's process which trial it is, if it may be pruned."""
        settings = self._settings
        if settings.pruner is None or not settings.is_pruning:
            return
        name, metric = self._study.study_name, settings.metrics[0]
        file = TrialFile(self._address, name, trial_number, metric, settings.pruner, settings.pruner_options)
        file.write(job.run(self._plan.folder).path)
