"""trial.json: the trial of a study that a job is, for the process that runs it."""

import json
import logging
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from regraft.core.atomic import load_json, write_atomically
from regraft.core.errors import ConfigError

log = logging.getLogger(__name__)

TRIAL = "trial.json"


@dataclass(frozen=True)
class TrialFile:
    """A trial that may be pruned.

    Attributes:
        storage: where the study is stored, a URL or a path.
        metric: reported after each epoch.
    """

    storage: str
    study: str
    number: int
    metric: str
    pruner: str
    pruner_options: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Writes trial.json into a job's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / TRIAL, (json.dumps(asdict(self), indent=1) + "\n").encode())

    @cached_property
    def trial(self) -> Any:
        """Optuna's trial; None if it has ended."""
        import optuna

        from regraft.sweeps import optuna_storage, optuna_study

        storage = optuna_storage.storage_at(self.storage)
        # Only the sweep's own process samples.
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

    def should_prune(self, value: float, epoch: int) -> bool:
        """Reports the metric after an epoch; returns whether to prune the trial, False if the study can't be reached.

        A resumed run doesn't report an epoch again.
        """
        if self.trial is None:
            return False
        from optuna.exceptions import StorageInternalError

        try:
            reported = self.trial.study.get_trials(deepcopy=False)[self.number].intermediate_values
            if epoch not in reported:
                self.trial.report(value, epoch)
            return bool(self.trial.should_prune())
        except (StorageInternalError, OSError) as error:
            # The run's results are worth more than the time that pruning would save.
            log.warning("The study can't be reached after epoch %d, so the run continues: %s", epoch + 1, error)
            return False


def read(folder: Path) -> TrialFile | None:
    """Returns the trial of a job; None if it has none, or its study has been moved. ValueError if it is damaged."""
    path = folder / TRIAL
    if not path.is_file():
        return None
    try:
        found = TrialFile(**load_json(path))
    except (OSError, ValueError, TypeError) as error:
        fix = "Remove it to continue the run outside of the search."
        raise ConfigError(None, f"{path} is damaged", fix=fix) from error
    if "://" not in found.storage and not Path(found.storage).is_file():
        log.warning("%s: the study isn't at %s any more; nothing is reported to it.", path, found.storage)
        return None
    return found
