"""Optuna's study of a sweep: where it is stored, what samples and prunes.

Which trials run belongs in `trials`; when one is given up, in `pruning`.
"""

import json
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from regraft.atomic import write_atomically
from regraft.composition import unknown
from regraft.sweeps.objectives import Direction
from regraft.sweeps.space import Axis, Choices, Space, listed

log = logging.getLogger(__name__)

JOURNAL = "study.journal"
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


def address(storage: str | None, folder: Path) -> str:
    """Returns where a study is stored, as any process finds it: a URL, or a journal file's path.

    Args:
        storage: what the user says; None for a file in the sweep's folder.
        folder: the sweep's.
    """
    if storage is None:
        return str(folder / JOURNAL)
    relative = "sqlite:///"
    if storage.startswith(relative) and not storage.startswith("sqlite:////") and storage != "sqlite:///:memory:":
        return f"{relative}{Path(storage.removeprefix(relative)).resolve()}"
    return storage if "://" in storage else str(Path(storage).expanduser().resolve())


def storage_at(place: str) -> optuna.storages.BaseStorage:
    """Returns the storage at an address.

    Raises:
        ValueError: there is no such database, or it needs a package that isn't installed.
    """
    # Optuna says what it does at each step; the sweep's own lines say it once.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if "://" not in place:
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        return optuna.storages.JournalStorage(JournalFileBackend(place))
    try:
        return optuna.storages.RDBStorage(place)
    except Exception as error:  # of SQLAlchemy, of the database's driver, of Optuna
        raise ValueError(f"sweep.storage: {place.partition('://')[0]} can't be opened: {error}") from error


def study_at(
    storage: optuna.storages.BaseStorage, name: str, metrics: Sequence[str], directions: Sequence[Direction]
) -> optuna.Study:
    """Returns the study, made if there is none of that name.

    Raises:
        ValueError: it is one of other metrics.
    """
    study = optuna.create_study(storage=storage, study_name=name, directions=list(directions), load_if_exists=True)
    asked = {"metrics": list(metrics), "directions": list(directions)}
    known = study.user_attrs.get("objectives", asked)
    if known != asked:
        raise ValueError(
            f"sweep.metrics: got {', '.join(metrics)} ({', '.join(directions)}), but the study {name} is of "
            f"{', '.join(known['metrics'])} ({', '.join(known['directions'])}). Leave it so, or start a new sweep."
        )
    study.set_user_attr("objectives", asked)
    return study


def require_same_kinds(study: optuna.Study, distributions: Mapping[str, optuna.distributions.BaseDistribution]) -> None:
    """Checks that what is to be drawn may go on with what was.

    Raises:
        ValueError: an axis is of another kind, or has other choices.
    """
    for trial in study.get_trials(deepcopy=False):
        for key, old in trial.distributions.items():
            try:
                optuna.distributions.check_distribution_compatibility(old, distributions.get(key, old))
            except ValueError as error:
                raise ValueError(
                    f"{key}: the study has it as {old}, the command as {distributions[key]}. A study may go on with "
                    f"other ends of an interval, but not with other choices: leave them, or start a new sweep."
                ) from error


def sampler(name: str, options: Mapping[str, Any], seed: int, space: Space) -> optuna.samplers.BaseSampler:
    """Returns a sampler by its short name.

    Raises:
        ValueError: there is no such sampler or option, or the space isn't one for it.
    """
    given = {"seed": seed} | dict(options)
    if name == "grid":
        given = {"search_space": {key: _grid_values(key, axis) for key, axis in space.axes.items()}} | given
    return _made("sampler", _SAMPLERS, name, given)


def grid_size(space: Space) -> int:
    """Returns how many trials the sampler `grid` has."""
    return math.prod(len(_grid_values(key, axis)) for key, axis in space.axes.items())


def pruner(name: str | None, options: Mapping[str, Any]) -> optuna.pruners.BasePruner:
    """Returns a pruner by its short name; of None one that gives nothing up.

    Raises:
        ValueError: there is no such pruner or option.
    """
    if name is None:
        return optuna.pruners.NopPruner()
    given = dict(options)
    if name == "patient":
        given = {"wrapped_pruner": None} | given
    return _made("pruner", _PRUNERS, name, given)


def distribution(axis: Axis) -> optuna.distributions.BaseDistribution:
    """Returns an axis as Optuna has it."""
    if isinstance(axis, Choices):
        return optuna.distributions.CategoricalDistribution(axis.values)
    if axis.is_whole:
        step = 1 if axis.is_log or axis.step is None else int(axis.step)
        return optuna.distributions.IntDistribution(int(axis.low), int(axis.high), axis.is_log, step)
    return optuna.distributions.FloatDistribution(axis.low, axis.high, axis.is_log, None if axis.is_log else axis.step)


def mend(journal: Path) -> None:
    """Makes a journal readable again that a full disk has left with half a line.

    What follows such a half, on the same line, is whole; Optuna would refuse all that comes after it.
    """
    if not journal.is_file():
        return
    lock = JournalFileSymlinkLock(str(journal))
    lock.acquire()
    try:
        lines = journal.read_bytes().split(b"\n")
        kept = [line for line in map(_whole, lines) if line]
        content = b"".join(line + b"\n" for line in kept)
        if content != b"\n".join(lines):
            log.warning("%s was damaged; what can be read of it is kept: %d entries.", journal, len(kept))
            write_atomically(journal, content)
    finally:
        lock.release()


def _whole(line: bytes) -> bytes:
    """Returns the part of a line that is an entry; empty without one."""
    for part in (line, line[max(line.rfind(b'{"op_code"'), 0) :]):
        try:
            json.loads(part)
        except ValueError:
            continue
        return part
    return b""


def _grid_values(key: str, axis: Axis) -> list[Any]:
    if isinstance(axis, Choices):
        return list(axis.values)
    if axis.step is None:
        raise ValueError(
            f"{key}: sweep.sampler=grid needs choice(...) or range(...); an interval has no end of values."
        )
    return list(listed(axis))


def _made(kind: str, known: Mapping[str, Any], name: str, options: Mapping[str, Any]) -> Any:
    if name not in known:
        raise ValueError(f"sweep.{kind}: {unknown(kind, str(name), list(known))}")
    try:
        with warnings.catch_warnings():
            # Some of them are marked experimental; who names one has chosen it.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return known[name](**options)
    except (TypeError, ValueError, ImportError) as error:
        raise ValueError(f"sweep.{kind}={name}: {error}") from error
