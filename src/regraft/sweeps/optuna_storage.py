"""The trials of a study, those of one sweep's folder among them, and how they end."""

from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from regraft.sweeps.outcomes import Outcome, shown

RUN = "run"
"""Attribute of a trial: its run's folder."""
_ERROR = "error"


class StoredTrials:
    """Reads and ends the trials of a study.

    Args:
        study: Optuna's.
        folder: of the sweep; a study in a database may have trials of others too.
        metrics: that it optimises.
    """

    def __init__(self, study: optuna.Study, folder: Path, metrics: Sequence[str]) -> None:
        self._study = study
        self._folder = folder
        self._metrics = metrics

    def all(self) -> list[FrozenTrial]:
        """Returns all of them; not to be changed."""
        return self._study.get_trials(deepcopy=False)

    def num_asked(self) -> int:
        """Returns how many have been asked for; one that failed and is run again counts once."""
        asked = [trial for trial in self.all() if trial.state != TrialState.WAITING]
        latest = {trial.user_attrs.get(RUN): trial.number for trial in asked}
        return sum(
            trial.state != TrialState.FAIL
            or trial.number == latest[trial.user_attrs.get(RUN)]
            or RUN not in trial.user_attrs
            for trial in asked
        )

    def failed(self) -> dict[int, FrozenTrial]:
        """Returns those of the folder whose last try has failed, by the number of the job."""
        unfinished = self.of_the_folder(ended=False)
        last = {number: trials[-1] for number, trials in self.of_the_folder(ended=True).items()}
        return {
            number: trial
            for number, trial in last.items()
            if trial.state == TrialState.FAIL and number not in unfinished
        }

    def try_again(self, trial: FrozenTrial) -> int:
        """Adds a trial like one that has failed, which stays as it is; returns the new one's number."""
        attributes = {RUN: trial.user_attrs[RUN]}
        again = optuna.trial.create_trial(
            state=TrialState.RUNNING, params=trial.params, distributions=trial.distributions, user_attrs=attributes
        )
        self._study.add_trial(again)
        return self.all()[-1].number

    def of_the_folder(self, *, ended: bool) -> dict[int, list[FrozenTrial]]:
        """Returns those with a run in the sweep's folder, by the number of the job they share, oldest first."""
        found: dict[int, list[FrozenTrial]] = {}
        for trial in self.all():
            number = self.job_number(trial)
            if number is not None and trial.state.is_finished() == ended:
                found.setdefault(number, []).append(trial)
        return found

    def job_number(self, trial: FrozenTrial) -> int | None:
        """Returns the number of a trial's job; None if it isn't of this folder."""
        place = Path(trial.user_attrs.get(RUN, ""))
        # By its name alone: folders are moved.
        is_here = place.parent.name == self._folder.name and place.name.isdecimal()
        return int(place.name) if is_here else None

    def end(self, number: int, outcome: Outcome, values: Sequence[float] | None) -> None:
        """Ends a trial, unless that was done before.

        Args:
            number: of the trial.
            outcome: of its job.
            values: of the metrics; None for a trial that was pruned or failed.
        """
        trial = self.all()[number]
        if trial.state.is_finished():
            return
        if values is not None:
            self._study.tell(number, list(values), skip_if_finished=True)
            return
        state = TrialState.PRUNED if outcome.word == "pruned" else TrialState.FAIL
        self._study._storage.set_trial_user_attr(trial._trial_id, _ERROR, outcome.text)
        self._study.tell(number, state=state, skip_if_finished=True)

    def outcome(self, trial: FrozenTrial) -> Outcome:
        """Returns what became of a trial that has ended."""
        if trial.state == TrialState.COMPLETE:
            return Outcome("ok", self._values_text(trial))
        reason = trial.user_attrs.get(_ERROR, "it doesn't say why")
        return Outcome("pruned" if trial.state == TrialState.PRUNED else "failed", reason)

    def best_text(self) -> str:
        """Returns the best trials and their folders, a line each; empty without one."""
        if not any(trial.state == TrialState.COMPLETE for trial in self.all()):
            return ""
        is_single = len(self._metrics) == 1
        equal = [self._study.best_trial] if is_single else self._study.best_trials
        best = list({trial.user_attrs.get(RUN): trial for trial in equal}.values())
        head = "Best trial" if is_single else f"Pareto front: {len(best)}"
        lines = [f"{head} of {len(self.all())}{'' if is_single else ' trials'}, by {', '.join(self._metrics)}:"]
        for trial in best:
            what = shown([f"{key}={value}" for key, value in trial.params.items()])
            lines.append(f"  {self._values_text(trial)}  {what}  {trial.user_attrs.get(RUN, '')}")
        return "\n".join(lines)

    def _values_text(self, trial: FrozenTrial) -> str:
        return "  ".join(
            f"{name} {_shown(name, value)}" for name, value in zip(self._metrics, trial.values, strict=True)
        )


def _shown(name: str, value: float) -> str:
    return f"{value:,.0f}" if name.startswith("num_") else f"{value:.1f}" if name == "seconds" else f"{value:.4f}"
