"""Fit heads in closed form and a grid of trained ones on stored features; the best one becomes a run."""

import itertools
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from regraft.cli.command import Command
from regraft.cli.commands.train import keep_overrides
from regraft.cli.hydra_app import run_app
from regraft.cli.interrupts import saying_what_is_kept
from regraft.cli.training_command import split_flags
from regraft.config import compose
from regraft.config.groups import own_keys
from regraft.config.quoting import key_of
from regraft.config.task_choice import explained_task, found_task
from regraft.config.top_level import require_known_keys
from regraft.config.trust import look_beside, named_in
from regraft.core.atomic import write_json
from regraft.core.errors import ConfigError
from regraft.core.startup import quick_imports
from regraft.core.text import say, warnings_shown_once
from regraft.runs import provenance
from regraft.runs.folder import PROBE, Run
from regraft.tasks import task_of
from regraft.training.fit.train import fit
from regraft.training.lightning import quiet_lightning

if TYPE_CHECKING:
    from regraft.training.probe.grid import GridPoint

log = logging.getLogger(__name__)

_TABLE = "grid.csv"
_CLOSED_FORM = {"head": "mix", "optimizer": "mix", "scheduler": "constant"}
"""What fitting=closed_form chooses."""


def run(arguments: list[str]) -> None:
    """Probes; see the command's help."""
    flags, rest = split_flags(arguments)
    words = [word for word in rest if not word.startswith("-")]
    run_app(COMMAND, [*arguments, *_implied(words, flags.config_dir)])


def probe_once(overrides: Sequence[str], config_dir: str | None) -> Run:
    """Probes; see `regraft.probe`."""
    overrides = [*overrides, *_implied(overrides, config_dir)]
    composed = compose.compose_once("probe", overrides, config_dir)
    with compose.as_current(composed), warnings_shown_once():
        run = Run(Path(composed.hydra.run.dir).resolve())
        keep_overrides(run, overrides)
        return _probe(composed, run, overrides)


def _implied(overrides: Sequence[str], config_dir: str | None) -> list[str]:
    """Returns the override of the task that the data is plainly for, where none is named, and says so."""
    with suppress(HydraException):  # what can't be parsed is reported where it is composed
        look_beside(named_in(overrides))
        if (found := found_task(overrides, config_dir)) is not None:
            say(explained_task(*found))
            return [f"task={found[0]}"]
    return []


def probe_job(composed: DictConfig) -> Run:
    """Probes with the config that Hydra composed, in Hydra's folder."""
    hydra = HydraConfig.get()
    with warnings_shown_once():
        return _probe(composed, Run(Path(hydra.runtime.output_dir).resolve()), hydra.overrides.task)


def _probe(composed: DictConfig, run: Run, overrides: Sequence[str]) -> Run:
    """Fits all heads and fits the best one again, alone, which makes an ordinary run."""
    if run.last_ckpt.exists() or run.has_results:
        raise ConfigError(None, f"{run.path} is already a run's folder", fix="Name another folder.")
    points = _points(composed)
    if points:
        _require_free_axes(overrides)
    _require_known_keys(composed, overrides)
    started, session = time.perf_counter(), provenance.new_session(overrides)
    with quick_imports():
        import pytorch_lightning as pl

        from regraft.core.console import image_progress_bar
        from regraft.report.run.finish import RunDisplay
        from regraft.report.tables import heads as heads_table
        from regraft.training.plan import checked_job
        from regraft.training.probe.compare import compare_heads
        from regraft.training.trainer import prepared_device

    quiet_lightning()
    configs = {point: _config_of(composed, point, overrides) for point in points}
    of_probe = next(iter(configs.values())) if configs else _config_of(composed, None, overrides)
    closed_forms = _closed_forms(composed, points, overrides)
    device = prepared_device(of_probe)
    pl.seed_everything(of_probe["seed"], workers=True, verbose=False)
    progress = image_progress_bar(is_shown=of_probe["trainer"]["enable_progress_bar"])
    with saying_what_is_kept():
        found = compare_heads(of_probe, configs, closed_forms, device, progress)
    if found.trained:
        heads_table.write_grid(
            run.path / _TABLE,
            {point: each.fit for point, each in found.trained.items()},
            task_of(composed.task.name).headline,
        )
    write_json(run.path / PROBE, found.record)
    log.info(
        "Heads: %d in %.1f s. The best one is now fitted alone, as a run.",
        *(sum(row.recipe is not None for row in found.rows) + len(found.trained), time.perf_counter() - started),
    )
    assert found.best.config is not None, "a baseline isn't chosen"
    job = checked_job(found.best.config, run)
    job.require_sound()
    fit(job, session, RunDisplay())
    return run


def _require_known_keys(composed: DictConfig, overrides: Sequence[str]) -> None:
    with_hydra = composed.copy()
    with open_dict(with_hydra):
        with_hydra.hydra = HydraConfig.get()
    require_known_keys(_config_of(composed, None, overrides), with_hydra, "probe")


def _points(composed: DictConfig) -> "list[GridPoint]":
    """Returns the grid's heads: the product of its axes; none for `grid=null`."""
    from regraft.training.probe.grid import GridPoint

    grid = composed.grid
    if OmegaConf.is_config(grid):
        grid = OmegaConf.to_container(grid, resolve=True)
    if grid is None:
        return []
    if not isinstance(grid, dict) or set(grid) != set(_AXES):
        got = list(grid) if isinstance(grid, dict) else grid
        allowed = f"the axes {', '.join(_AXES)}, each a list, such as grid.lr=[1e-3]; null for no trained heads"
        raise ConfigError("grid", got=got, allowed=allowed)
    axes = []
    for name, (is_allowed, allowed) in _AXES.items():
        values = grid[name] if isinstance(grid[name], list) else [grid[name]]
        if not values or not all(map(is_allowed, values)) or len(set(values)) < len(values):
            raise ConfigError(f"grid.{name}", got=grid[name], allowed=f"a list of different values, each {allowed}")
        axes.append(values)
    return [GridPoint(**dict(zip(_AXES, values, strict=True))) for values in itertools.product(*axes)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


_AXES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "lr": (lambda value: _is_number(value) and value > 0, "above 0"),
    "weight_decay": (lambda value: _is_number(value) and value >= 0, "0 or more"),
    "seed": (lambda value: _is_whole(value, 0) and value < 2**32, f"a whole number from 0 to {2**32 - 1}"),
    "shots": (lambda value: value is None or _is_whole(value, 1), "1, 2, 3, ... or null for all"),
}


def _require_free_axes(overrides: Sequence[str]) -> None:
    """Checks that no override sets what the grid varies."""
    varied = {"seed": "seed", "optimizer.lr": "lr", "optimizer.weight_decay": "weight_decay"}
    for key in filter(None, map(key_of, overrides)):
        if key in varied:
            raise ConfigError(key, "a probe varies it", fix=f"Give its values with grid.{varied[key]}=[...].")


def _config_of(composed: DictConfig, point: "GridPoint | None", overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the config of a run that trains this head alone; None for what is composed."""
    own = composed.copy()
    if point is not None:
        own.seed, own.data.shots = point.seed, point.shots
        own.optimizer.lr, own.optimizer.weight_decay = point.lr, point.weight_decay
    config = compose.plain(own, overrides)
    del config["grid"]
    return config


def _closed_forms(
    composed: DictConfig, points: "Sequence[GridPoint]", overrides: Sequence[str]
) -> dict[int | None, dict[str, Any]]:
    """Returns by shots the config of a run that fits the mix of heads in closed form, with the grid's first seed."""
    found = {}
    seed = points[0].seed if points else composed.seed
    for shots in dict.fromkeys(point.shots for point in points) or [composed.data.shots]:
        own = composed.copy()
        own.seed, own.data.shots = seed, shots
        for group, choice in _CLOSED_FORM.items():
            own[group] = own_keys(group, choice)
        own.trainer.max_epochs = 1
        config = compose.plain(own, overrides)
        del config["grid"]
        found[shots] = config
    return found


COMMAND = Command(
    name="probe",
    run=run,
    usage="regraft probe [key=value | group=choice]... [grid.lr=[...]] [-m] [--config-dir FOLDER]",
    config_name="probe",
    job=probe_job,
)
