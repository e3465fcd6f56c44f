"""Optuna's study of a sweep: its objectives, sampler and pruner, and the checked settings."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from regraft.core.errors import ConfigError, UnknownNameError
from regraft.sweeps.grid_random import require_integer
from regraft.sweeps.objectives import Direction, checked_directions, checked_metrics
from regraft.sweeps.space import Axis, Choices, Space, step_values

_SAMPLERS = {
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "grid": optuna.samplers.GridSampler,
    "nsgaii": optuna.samplers.NSGAIISampler,
    "gp": optuna.samplers.GPSampler,
}
_PRUNERS = {
    "median": optuna.pruners.MedianPruner,
    "percentile": optuna.pruners.PercentilePruner,
    "halving": optuna.pruners.SuccessiveHalvingPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "patient": optuna.pruners.PatientPruner,
    "threshold": optuna.pruners.ThresholdPruner,
    "wilcoxon": optuna.pruners.WilcoxonPruner,
}


def study_at(
    storage: optuna.storages.BaseStorage, name: str, metrics: Sequence[str], directions: Sequence[Direction]
) -> optuna.Study:
    """Returns the study of that name, created if there is none; raises ValueError if it has other objectives."""
    study = optuna.create_study(storage=storage, study_name=name, directions=list(directions), load_if_exists=True)
    wanted = {"metrics": list(metrics), "directions": list(directions)}
    known = study.user_attrs.get("objectives", wanted)
    if known != wanted:
        raise ConfigError(
            "sweep.metrics",
            f"got {', '.join(metrics)} ({', '.join(directions)}), but the study {name} has "
            f"{', '.join(known['metrics'])} ({', '.join(known['directions'])}). Keep those, or start a new sweep.",
        )
    study.set_user_attr("objectives", wanted)
    return study


def require_same_kinds(study: optuna.Study, distributions: Mapping[str, optuna.distributions.BaseDistribution]) -> None:
    """Raises ValueError if an axis is of another kind than in the study's trials, or has other choices."""
    for trial in study.get_trials(deepcopy=False):
        for key, old in trial.distributions.items():
            try:
                optuna.distributions.check_distribution_compatibility(old, distributions.get(key, old))
            except ValueError as error:
                raise ConfigError(
                    key,
                    f"the study has it as {old}, the command as {distributions[key]}. A study may continue with "
                    f"other ends of an interval, but not with other choices: keep them, or start a new sweep.",
                ) from error


def sampler(name: str, options: Mapping[str, Any], seed: int, space: Space) -> optuna.samplers.BaseSampler:
    """Returns a sampler by its short name; raises ValueError if it doesn't exist, or can't sample the space."""
    given = {"seed": seed} | dict(options)
    if name == "grid":
        given = {"search_space": {key: _grid_values(key, axis) for key, axis in space.axes.items()}} | given
    return _made("sampler", _SAMPLERS, name, given)


def grid_size(space: Space) -> int:
    """Returns the number of trials of the sampler `grid`."""
    return math.prod(len(_grid_values(key, axis)) for key, axis in space.axes.items())


def pruner(name: str | None, options: Mapping[str, Any]) -> optuna.pruners.BasePruner:
    """Returns a pruner by its short name; for None one that prunes nothing."""
    if name is None:
        return optuna.pruners.NopPruner()
    defaults = {"wrapped_pruner": None} if name == "patient" else {}
    return _made("pruner", _PRUNERS, name, defaults | dict(options))


def distribution(axis: Axis) -> optuna.distributions.BaseDistribution:
    """Returns Optuna's distribution of an axis."""
    if isinstance(axis, Choices):
        return optuna.distributions.CategoricalDistribution(axis.values)
    if axis.is_whole:
        step = 1 if axis.is_log or axis.step is None else int(axis.step)
        return optuna.distributions.IntDistribution(int(axis.low), int(axis.high), axis.is_log, step)
    return optuna.distributions.FloatDistribution(axis.low, axis.high, axis.is_log, None if axis.is_log else axis.step)


def _grid_values(key: str, axis: Axis) -> list[Any]:
    if isinstance(axis, Choices):
        return list(axis.values)
    if axis.step is None:
        raise ConfigError(
            key, "sweep.sampler=grid needs choice(...) or range(...); an interval has infinitely many values."
        )
    return list(step_values(axis))


def _made(kind: str, known: Mapping[str, Any], name: str, options: Mapping[str, Any]) -> Any:
    if name not in known:
        raise UnknownNameError(f"sweep.{kind}", kind, str(name), list(known))
    try:
        with warnings.catch_warnings():
            # Some are marked as experimental; the user has chosen them by name.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return known[name](**options)
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(f"sweep.{kind}", str(error), got=name) from error


class OptunaSettings:
    """The checked settings of a search by Optuna, from the section `sweep` of a config.

    Args:
        n_trials: trials of the study, those of earlier commands included.
        pruner: its short name; None for no pruning.
        directions: one per metric; None for the metrics' own.
        storage: the study's; None for a file in the sweep's folder.
        study: its name; None for that of the sweep's folder.

    Attributes:
        is_grid: whether every combination is tried once.
        is_pruning: whether trials may be pruned, for which Optuna needs a single metric.
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
        require_integer("sweep.n_trials", n_trials, 1)
        require_integer("sweep.seed", seed, 0)
        self.n_trials = n_trials
        self.metrics = checked_metrics(metrics)
        self.directions = checked_directions(directions, self.metrics)
        self.pruner, self.pruner_options = pruner, dict(pruner_options or {})
        self.storage, self.study, self.space = storage, study, space or {}
        self._sampler, self._sampler_options, self._seed = sampler, dict(sampler_options or {}), seed
        self.is_grid = sampler == "grid"
        self.is_pruning = pruner is not None and len(self.metrics) == 1 and self.metrics[0].startswith("val/")

    def require_fit(self, space: Space) -> None:
        """Raises an error if the sampler or pruner doesn't exist, or can't handle the space."""
        pruner(self.pruner, self.pruner_options)
        self.sampler(0, space)

    def sampler(self, number: int, space: Space) -> optuna.samplers.BaseSampler:
        """Returns a trial's sampler; its seed depends on the trial's number, so a resumed study repeats no draw."""
        seed = self._seed if self.is_grid else self._seed + number
        return sampler(self._sampler, self._sampler_options, seed, space)
