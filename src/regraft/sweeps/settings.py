"""What `conf/sweep/optuna.yaml` says of a search: what it goes by, what samples and prunes, where it is stored."""

from collections.abc import Mapping
from typing import Any

import optuna

from regraft.sweeps import optuna_study as studies
from regraft.sweeps.grid_random import require_whole
from regraft.sweeps.objectives import checked_directions, checked_metrics
from regraft.sweeps.space import Space


class Settings:
    """A search's settings, checked.

    Args:
        n_trials: of the study, those of earlier commands included.
        sampler: short name; see `study.sampler`.
        sampler_options: of that, or None.
        pruner: short name, or None; see `study.pruner`.
        pruner_options: of that, or None.
        seed: of the sampler.
        metrics: what is optimised.
        directions: of the metrics; None for what their names say.
        storage: of the study; None for a file in the sweep's folder.
        study: its name; None for that of the sweep's folder.
        space: axes beside those of the command line, or None.

    Attributes:
        n_trials: as given.
        pruner: as given.
        pruner_options: as given, or empty.
        metrics: a list.
        directions: one a metric.
        storage: as given.
        study: as given.
        space: as given, or empty.
        is_grid: whether every combination is tried once.
        is_pruning: whether trials may be given up, which Optuna does by one metric only.

    Raises:
        ValueError: one of them isn't what it may be; of samplers and pruners see `require_fit`.
    """

    def __init__(
        self,
        *,
        n_trials: int,
        sampler: str,
        sampler_options: Mapping[str, Any] | None,
        pruner: str | None,
        pruner_options: Mapping[str, Any] | None,
        seed: int,
        metrics: Any,
        directions: Any,
        storage: str | None,
        study: str | None,
        space: Mapping[str, Any] | None,
    ) -> None:
        require_whole("sweep.n_trials", n_trials, 1)
        require_whole("sweep.seed", seed, 0)
        self.n_trials = n_trials
        self.metrics = checked_metrics(metrics)
        self.directions = checked_directions(directions, self.metrics)
        self.pruner, self.pruner_options = pruner, dict(pruner_options or {})
        self.storage, self.study, self.space = storage, study, space or {}
        self._sampler, self._sampler_options, self._seed = sampler, dict(sampler_options or {}), seed
        self.is_grid = sampler == "grid"
        self.is_pruning = pruner is not None and len(self.metrics) == 1 and self.metrics[0].startswith("val/")

    def require_fit(self, space: Space) -> None:
        """Checks that there is such a sampler, for such a space, and such a pruner.

        Raises:
            ValueError: there isn't.
        """
        studies.pruner(self.pruner, self.pruner_options)
        self.sampler(0, space)

    def sampler(self, number: int, space: Space) -> optuna.samplers.BaseSampler:
        """Returns the sampler of a trial by its number, so that a study that goes on draws nothing twice."""
        seed = self._seed if self.is_grid else self._seed + number
        return studies.sampler(self._sampler, self._sampler_options, seed, space)
