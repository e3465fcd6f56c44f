"""A study whose storage is gone, made anew from what the sweep's runs say of themselves."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from regraft.config.quoting import key_of
from regraft.runs.folder import Run
from regraft.sweeps.manifest import Job
from regraft.sweeps.objectives import values_of
from regraft.sweeps.optuna_storage import RUN
from regraft.sweeps.outcomes import outcome_in

log = logging.getLogger(__name__)

_STATES = {"ok": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


def rebuild(
    study: optuna.Study,
    folder: Path,
    jobs: Sequence[Job],
    distributions: Mapping[str, BaseDistribution],
    metrics: Sequence[str],
) -> None:
    """Adds a trial for each job of a sweep.

    Args:
        study: that has no trial of these jobs.
        folder: of the sweep.
        jobs: of the sweep.
        distributions: of the axes; a job that lacks one of them is left out.
        metrics: of the study.
    """
    found = [_trial(folder / str(job.number), job, distributions, metrics) for job in jobs]
    trials = [trial for trial in found if trial is not None]
    for trial in trials:
        study.add_trial(trial)
    log.warning("The study had no trials of %d jobs; %d are made anew from their runs.", len(jobs), len(trials))


def _trial(
    folder: Path, job: Job, distributions: Mapping[str, BaseDistribution], metrics: Sequence[str]
) -> FrozenTrial | None:
    said = {key_of(override): override.partition("=")[2] for override in job.overrides}
    try:
        params = {key: _value(said[key_of(f"{key}=")], kind) for key, kind in distributions.items()}
        outcome = outcome_in(Run(folder))
        # One that can go on is asked for as those are that were under way.
        state = _STATES.get(outcome.word, TrialState.RUNNING) if outcome else TrialState.RUNNING
        values = values_of(Run(folder), metrics) if state == TrialState.COMPLETE else None
        return optuna.trial.create_trial(
            state=state,
            values=values,
            params=params,
            distributions=dict(distributions),
            user_attrs={RUN: str(folder)},
        )
    except (KeyError, ValueError, OSError) as error:
        log.warning("%s is no trial of this search: %s", folder, error)
        return None


def _value(text: str, kind: BaseDistribution) -> Any:
    if isinstance(kind, CategoricalDistribution):
        return text
    return int(text) if isinstance(kind, IntDistribution) else float(text)
