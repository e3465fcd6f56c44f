"""Optuna's storage: the trials of a sweep, where the study is stored, and how a lost or damaged one is rebuilt."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState

from regraft.config.quoting import key_of
from regraft.core.errors import ConfigError
from regraft.runs.folder import Run
from regraft.sweeps.manifest import Job
from regraft.sweeps.objectives import values_of
from regraft.sweeps.outcomes import JobResult, result_in, shortened

log = logging.getLogger(__name__)

RUN = "run"
"""Attribute of a trial: the folder of its run."""
_ERROR = "error"


@dataclass(frozen=True)
class StoredTrials:
    """Reads and ends the trials of a study, which in a database may have trials of other sweeps too."""

    study: optuna.Study
    storage: optuna.storages.BaseStorage
    folder: Path
    metrics: Sequence[str]

    def all(self) -> list[FrozenTrial]:
        """Returns all trials, without a copy."""
        return self.study.get_trials(deepcopy=False)

    def num_started(self) -> int:
        """Returns how many trials have been started; one that failed and is run again counts once."""
        started = [trial for trial in self.all() if trial.state != TrialState.WAITING]
        latest = {trial.user_attrs.get(RUN): trial.number for trial in started}
        return sum(
            trial.state != TrialState.FAIL
            or trial.number == latest[trial.user_attrs.get(RUN)]
            or RUN not in trial.user_attrs
            for trial in started
        )

    def failed(self) -> dict[int, FrozenTrial]:
        """Returns the trials of the folder whose last try has failed, by job number."""
        unfinished = self.in_folder(ended=False)
        last = {number: trials[-1] for number, trials in self.in_folder(ended=True).items()}
        return {
            number: trial
            for number, trial in last.items()
            if trial.state == TrialState.FAIL and number not in unfinished
        }

    def retry(self, trial: FrozenTrial) -> int:
        """Adds a new trial with the parameters of a failed one; returns its number."""
        attributes = {RUN: trial.user_attrs[RUN]}
        again = optuna.trial.create_trial(
            state=TrialState.RUNNING, params=trial.params, distributions=trial.distributions, user_attrs=attributes
        )
        self.study.add_trial(again)
        return self.all()[-1].number

    def in_folder(self, *, ended: bool) -> dict[int, list[FrozenTrial]]:
        """Returns the trials with a run in the sweep's folder, by job number, the oldest first."""
        found: dict[int, list[FrozenTrial]] = {}
        for trial in self.all():
            number = self.job_number(trial)
            if number is not None and trial.state.is_finished() == ended:
                found.setdefault(number, []).append(trial)
        return found

    def job_number(self, trial: FrozenTrial) -> int | None:
        """Returns the number of a trial's job; None if its run isn't in this folder."""
        run = Path(trial.user_attrs.get(RUN, ""))
        # Compare names only, as folders may have been moved.
        is_here = run.parent.name == self.folder.name and run.name.isdecimal()
        return int(run.name) if is_here else None

    def end(self, number: int, outcome: JobResult, values: Sequence[float] | None) -> None:
        """Ends a trial, unless it has ended before; `values` are None if it was pruned or has failed."""
        trial = self.all()[number]
        if trial.state.is_finished():
            return
        if values is not None:
            self.study.tell(number, list(values), skip_if_finished=True)
            return
        state = TrialState.PRUNED if outcome.status == "pruned" else TrialState.FAIL
        self.storage.set_trial_user_attr(trial_id(self.storage, self.study.study_name, number), _ERROR, outcome.text)
        self.study.tell(number, state=state, skip_if_finished=True)

    def outcome(self, trial: FrozenTrial) -> JobResult:
        """Returns the result of a trial that has ended."""
        if trial.state == TrialState.COMPLETE:
            return JobResult("ok", self._values_text(trial))
        reason = trial.user_attrs.get(_ERROR, "it doesn't say why")
        return JobResult("pruned" if trial.state == TrialState.PRUNED else "failed", reason)

    def best_text(self) -> str:
        """Returns the best trials and their folders, a line each; empty if no trial is complete."""
        if not any(trial.state == TrialState.COMPLETE for trial in self.all()):
            return ""
        is_single = len(self.metrics) == 1
        equal = [self.study.best_trial] if is_single else self.study.best_trials
        best = list({trial.user_attrs.get(RUN): trial for trial in equal}.values())
        head = "Best trial" if is_single else f"Pareto front: {len(best)}"
        lines = [f"{head} of {len(self.all())}{'' if is_single else ' trials'}, by {', '.join(self.metrics)}:"]
        for trial in best:
            what = shortened([f"{key}={value}" for key, value in trial.params.items()])
            lines.append(f"  {self._values_text(trial)}  {what}  {trial.user_attrs.get(RUN, '')}")
        return "\n".join(lines)

    def _values_text(self, trial: FrozenTrial) -> str:
        return "  ".join(
            f"{name} {_shown(name, value)}" for name, value in zip(self.metrics, trial.values, strict=True)
        )


def _shown(name: str, value: float) -> str:
    return f"{value:,.0f}" if name.startswith("num_") else f"{value:.1f}" if name == "seconds" else f"{value:.4f}"


JOURNAL = "study.journal"


def address(storage: str | None, folder: Path) -> str:
    """Returns where a study is stored, valid in any process: a URL, or the path of a journal file.

    Args:
        storage: the value of `sweep.storage`; None for a file in the sweep's folder.
    """
    if storage is None:
        return str(folder / JOURNAL)
    if storage.startswith(("sqlite:", "postgresql:", "mysql:")) and "://" not in storage:
        raise ConfigError(
            "sweep.storage",
            got=storage,
            allowed="a URL such as sqlite:///study.db or postgresql://host/db, or a journal's path",
        )
    relative = "sqlite:///"
    if storage.startswith(relative) and not storage.startswith("sqlite:////") and storage != "sqlite:///:memory:":
        return f"{relative}{Path(storage.removeprefix(relative)).resolve()}"
    return storage if "://" in storage else str(Path(storage).expanduser().resolve())


def storage_at(place: str) -> optuna.storages.BaseStorage:
    """Returns the storage at an address; raises ValueError if it can't be opened."""
    # Optuna logs each step; the sweep's own lines are enough.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if "://" not in place:
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        try:
            return optuna.storages.JournalStorage(JournalFileBackend(place))
        except Exception as error:  # any kind, depending on the missing entries
            raise ConfigError(
                "sweep.storage", f"{place} can't be read. Move it away, and the study is rebuilt from the sweep's runs."
            ) from error
    kind = place.partition("://")[0]
    try:
        return optuna.storages.RDBStorage(place)
    except ImportError as error:
        raise ConfigError(
            "sweep.storage",
            f"{kind} needs a driver that isn't installed. For PostgreSQL: pip install "
            "'regraft[postgresql]'; for others, the one that their URL names (see SQLAlchemy).",
        ) from error
    except Exception as error:  # of SQLAlchemy, of the database's driver, of Optuna
        reason = " ".join(str(error.__cause__ or error).split())
        raise ConfigError("sweep.storage", f"{kind} can't be opened: {reason}") from error


def trial_id(storage: optuna.storages.BaseStorage, study: str, number: int) -> int:
    """Returns the id that a storage gave to the trial of a study."""
    return storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(study), number)


def cut_half_entry(journal: Path) -> None:
    """Cuts off half an entry at a journal's end, which a full disk leaves, as Optuna rejects everything after it."""
    if not journal.is_file():
        return
    lock = JournalFileSymlinkLock(str(journal))
    lock.acquire()
    try:
        os.truncate(journal, journal.read_bytes().rfind(b"\n") + 1)
    finally:
        lock.release()


_STATES = {"ok": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


def rebuild(
    study: optuna.Study,
    folder: Path,
    jobs: Sequence[Job],
    distributions: Mapping[str, BaseDistribution],
    metrics: Sequence[str],
) -> None:
    """Adds a trial for each job of a sweep that the study doesn't have; a job that lacks an axis is left out."""
    found = [_trial(job.run(folder), job, distributions, metrics) for job in jobs]
    trials = [trial for trial in found if trial is not None]
    study.add_trials(trials)
    log.warning("The study had no trials of %d jobs; %d were recreated from their runs.", len(jobs), len(trials))


def _trial(
    run: Run, job: Job, distributions: Mapping[str, BaseDistribution], metrics: Sequence[str]
) -> FrozenTrial | None:
    texts = {key_of(override): override.partition("=")[2] for override in job.overrides}
    try:
        params = {key: _value(texts[key_of(f"{key}=")], kind) for key, kind in distributions.items()}
        outcome = result_in(run)
        # A run that can be resumed is a running trial.
        state = _STATES.get(outcome.status, TrialState.RUNNING) if outcome else TrialState.RUNNING
        values = values_of(run, metrics) if state == TrialState.COMPLETE else None
        attributes = {RUN: str(run.path)}
        return optuna.trial.create_trial(
            state=state, values=values, params=params, distributions=dict(distributions), user_attrs=attributes
        )
    except (KeyError, ValueError, OSError) as error:
        log.warning("%s is not a trial of this search: %s", run.path, error)
        return None


def _value(text: str, kind: BaseDistribution) -> Any:
    if isinstance(kind, CategoricalDistribution):
        return text
    return int(text) if isinstance(kind, IntDistribution) else float(text)
