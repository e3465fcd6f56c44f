"""The file in a job's folder that says which trial of which study it is, in whatever process it runs."""

import json
import logging
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from regraft.core.atomic import write_atomically

log = logging.getLogger(__name__)

TRIAL = "trial.json"


@dataclass(frozen=True)
class TrialFile:
    """A trial that may be given up.

    Attributes:
        storage: of the study; see `storage.address`.
        study: its name.
        number: of the trial.
        metric: what is reported.
        pruner: what gives it up; see `study.pruner`.
        pruner_options: of that.
    """

    storage: str
    study: str
    number: int
    metric: str
    pruner: str
    pruner_options: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Keeps it in a job's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / TRIAL, (json.dumps(asdict(self), indent=1) + "\n").encode())

    @cached_property
    def trial(self) -> Any:
        """Optuna's trial, to report to; None if it has ended."""
        import optuna

        from regraft.sweeps import optuna_storage, optuna_study

        storage = optuna_storage.storage_at(self.storage)
        # It is sampled by the sweep's own process.
        found = optuna.load_study(
            study_name=self.study,
            storage=storage,
            sampler=optuna.samplers.RandomSampler(),
            pruner=optuna_study.pruner(self.pruner, self.pruner_options),
        )
        frozen = next((trial for trial in found.get_trials(deepcopy=False) if trial.number == self.number), None)
        if frozen is None or frozen.state.is_finished():
            return None
        return optuna.trial.Trial(found, optuna_storage.trial_id(storage, self.study, self.number))

    def is_given_up(self, value: float, epoch: int) -> bool:
        """Reports a value, and returns whether the search gives the trial up; not, if the study can't be reached.

        Args:
            value: of the metric.
            epoch: after which; of a run that was killed and goes on, one that was reported before stays as it was.
        """
        if self.trial is None:
            return False
        from optuna.exceptions import StorageInternalError

        try:
            told = self.trial.study.get_trials(deepcopy=False)[self.number].intermediate_values
            if epoch not in told:
                self.trial.report(value, epoch)
            return bool(self.trial.should_prune())
        except (StorageInternalError, OSError) as error:
            # The run's results are worth more than the time that giving it up would save.
            log.warning("The study can't be reached after epoch %d, so the run goes on: %s", epoch, error)
            return False


def read(folder: Path) -> TrialFile | None:
    """Returns which trial a job is; None if it is none, or its study isn't where it was.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / TRIAL
    if not path.is_file():
        return None
    try:
        found = TrialFile(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged; remove it to train on as a run of no search.") from error
    if "://" not in found.storage and not Path(found.storage).is_file():
        log.warning("%s: the study isn't in %s any more; nothing is reported to it.", path, found.storage)
        return None
    return found
