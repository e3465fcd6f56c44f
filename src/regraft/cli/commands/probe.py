"""Fit a grid of linear heads at once on stored features; the best one becomes a run."""

import itertools
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from regraft.cli.command import Command
from regraft.cli.commands.train import keep_overrides
from regraft.cli.hydra_app import run_app
from regraft.config import compose
from regraft.config.quoting import key_of
from regraft.core.errors import ConfigError
from regraft.core.startup import keep_freed_memory, quick_imports, stop_looking_for_gpus
from regraft.runs import provenance
from regraft.runs.folder import Run
from regraft.training.fit import fit
from regraft.training.lightning import quiet_lightning

if TYPE_CHECKING:
    from regraft.training.probe.fit import HeadFit
    from regraft.training.probe.setup import GridPoint

log = logging.getLogger(__name__)

_TABLE = "grid.csv"


def run(arguments: list[str]) -> None:
    """Probes; see the command's help."""
    run_app(COMMAND, arguments)


def probe_once(overrides: Sequence[str], config_dir: str | None) -> Run:
    """Probes; see `regraft.probe`."""
    composed = compose.compose_once("probe", list(overrides), config_dir)
    with compose.as_current(composed):
        run = Run(Path(composed.hydra.run.dir).resolve())
        keep_overrides(run, overrides)
        return _probe(composed, run, overrides)


def probe_job(composed: DictConfig) -> Run:
    """Probes with the config that Hydra composed, in Hydra's folder."""
    hydra = HydraConfig.get()
    return _probe(composed, Run(Path(hydra.runtime.output_dir).resolve()), hydra.overrides.task)


def _probe(composed: DictConfig, run: Run, overrides: Sequence[str]) -> Run:
    """Fits the grid and trains its best head again, alone, which makes an ordinary run."""
    if run.last_ckpt.exists() or run.has_results:
        raise ConfigError(None, f"{run.path} is already a run's folder", fix="Name another folder.")
    _require_free_axes(overrides)
    started, session = time.perf_counter(), provenance.new_session(overrides)
    with quick_imports():
        import pytorch_lightning as pl
        import torch

        from regraft.core.console import image_progress_bar
        from regraft.report import grid_table
        from regraft.report.run.finish import RunDisplay
        from regraft.training.plan import checked_job
        from regraft.training.probe.setup import fit_grid
        from regraft.training.trainer import build_trainer

    quiet_lightning()
    configs = {point: _config_of(composed, point, overrides) for point in _points(composed)}
    some_config = next(iter(configs.values()))
    device = build_trainer(some_config, logger=False, enable_checkpointing=False).strategy.root_device
    if device.type == "cpu":
        keep_freed_memory()
    if not torch.cuda.is_available():
        stop_looking_for_gpus()
    pl.seed_everything(some_config["seed"], workers=True, verbose=False)
    progress = image_progress_bar(is_shown=some_config["trainer"]["enable_progress_bar"])
    fits = fit_grid(configs, device, progress)
    best = best_of(fits)
    grid_table.write(run.path / _TABLE, fits)
    grid_table.show(fits, best)
    log.info(
        "Heads: %d in %.1f s. The best one is now trained alone, as a run.", len(fits), time.perf_counter() - started
    )
    job = checked_job(configs[best], run)
    job.require_sound()
    fit(job, session, RunDisplay())
    return run


def best_of(fits: "dict[GridPoint, HeadFit]") -> "GridPoint":
    """Returns the head with the highest validation accuracy; of equals, the one with the lowest validation loss."""
    sound = [point for point, fit in fits.items() if not fit.is_diverged]
    if not sound:
        raise ConfigError("grid.lr", "every head diverged", fix="Give lower learning rates.")
    return min(sound, key=lambda point: (-fits[point].val_acc, fits[point].val_loss))


def _points(composed: DictConfig) -> "list[GridPoint]":
    """Returns the grid's heads: the product of its axes."""
    from regraft.training.probe.setup import GridPoint

    grid = OmegaConf.to_container(composed.grid, resolve=True) if OmegaConf.is_dict(composed.grid) else None
    if not isinstance(grid, dict) or set(grid) != set(_AXES):
        got = list(grid) if isinstance(grid, dict) else grid
        raise ConfigError("grid", got=got, allowed=f"the axes {', '.join(_AXES)}, each a list, such as grid.lr=[1e-3]")
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


def _config_of(composed: DictConfig, point: "GridPoint", overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the config of a run that trains this head alone."""
    own = composed.copy()
    own.seed = point.seed
    own.data.shots = point.shots
    own.optimizer.lr = point.lr
    own.optimizer.weight_decay = point.weight_decay
    config = compose.plain(own, overrides)
    del config["grid"]
    return config


COMMAND = Command(
    name="probe",
    run=run,
    usage="regraft probe [key=value | group=choice]... [grid.lr=[...]] [-m] [--config-dir FOLDER]",
    config_name="probe",
    job=probe_job,
)
