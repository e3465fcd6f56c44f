"""Compute and store the features that a training reads, in any number of processes or machines."""

import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from regraft.cli.command import Command
from regraft.cli.hydra_app import require_known_flags, run_app
from regraft.cli.interrupts import saying_what_is_kept
from regraft.cli.training_command import parse
from regraft.config import compose
from regraft.config.check import reference
from regraft.config.quoting import key_of
from regraft.config.top_level import require_known_keys
from regraft.core import launcher
from regraft.core.errors import ConfigError, ConfigErrors
from regraft.core.processes import exit_with_parent
from regraft.core.startup import quick_imports
from regraft.core.text import LogFormatter, say
from regraft.runs.folder import Run


def run(arguments: Sequence[str]) -> None:
    """Fills the store, or a share of it; with -m, each of several shares in a job of Hydra's launcher."""
    require_known_flags(arguments)
    place = launcher.place()
    if place is None:
        launcher.require_alone()  # each of several would fill all of it
    else:
        exit_with_parent(launcher.agent())  # else a filler would outlive the torchrun that has started it
    with launcher.alone():  # as many processes needn't train
        command = parse(arguments)
    if not command.is_single_run:
        run_app(COMMAND, [*command.implied, *arguments])
        return
    if command.errors:
        raise ConfigErrors(command.errors)
    if _is_shown(place):
        for sentence in command.explanations:
            say(sentence)
    words = [*command.implied, *command.given]
    composed = compose.compose_once("fill", words, command.config_dir)
    _show_logs(is_shown=_is_shown(place))
    with compose.as_current(composed):
        _fill(composed, Path(composed.hydra.run.dir), words, command.config_dir, is_job=False)


def _show_logs(*, is_shown: bool) -> None:
    """Shows what is logged about features, of which a training's log has much else; errors alone if it isn't shown."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(LogFormatter())
    logging.basicConfig(level=logging.WARNING if is_shown else logging.ERROR, handlers=[handler])
    if is_shown:
        for name in ("regraft.features", "regraft.training.caching.feature_plan"):
            logging.getLogger(name).setLevel(logging.INFO)


def fill_job(composed: DictConfig) -> dict[str, Any]:
    """Fills the share of a job of Hydra's launcher."""
    hydra = HydraConfig.get()
    return _fill(composed, Path(hydra.runtime.output_dir) / "training", list(hydra.overrides.task), None, is_job=True)


def _fill(
    composed: DictConfig, folder: Path, words: Sequence[str], config_dir: str | None, *, is_job: bool
) -> dict[str, Any]:
    """Fills a share of the store; returns figures for the table of a sweep, of which there are none.

    Args:
        folder: of the training, which isn't made.
        is_job: whether it is one of several that a launcher of Hydra's may have started on the same terminal.
    """
    config = compose.plain(composed, words)
    with_hydra = composed.copy()
    with open_dict(with_hydra):
        with_hydra.hydra = HydraConfig.get()
    require_known_keys(config, with_hydra, "fill", config_dir)
    if not isinstance(config["fill"], dict) or set(config["fill"]) != {"share"}:
        raise ConfigError("fill", got=config["fill"], allowed="a section with share, such as fill.share=3/16")
    if config["ckpt_path"] is not None:
        raise ConfigError("ckpt_path", "a resumed run reads what it stored when it began", fix="Leave it out.")
    with quick_imports():
        from regraft.report import fill_progress
        from regraft.training.fit.filling import fill_store, on_one_device, share_of
        from regraft.training.lightning import quiet_lightning
        from regraft.training.plan import plan

    quiet_lightning()
    place = launcher.place()
    share, is_shown = share_of(config, place), _is_shown(place)
    with launcher.alone():
        config = on_one_device(config, place)
        keys = [key_of(word) or word for word in words]
        job = plan(config, Run(folder.resolve()), keys, reference=partial(reference, HydraConfig.get()))
        shown = fill_progress.shown(share, has_bar=not is_job) if is_shown else nullcontext(_show_nothing)
        with saying_what_is_kept(), shown as show:
            filled = fill_store(job, share, show)
    training = ["regraft", "train", *(word for word in words if key_of(word) != "fill.share")]
    if config_dir is not None:
        training += ["--config-dir", config_dir]
    lines = fill_progress.summary(share, filled.state, filled.nouns, filled.folder, training)
    say(lines if is_shown else lines.partition("\n")[0])
    return {}


def _is_shown(place: launcher.Place | None) -> bool:
    """Whether what is the same for all processes of a machine is shown by this one."""
    return place is None or place.local_rank == 0


def _show_nothing(state: Any, nouns: str) -> None:
    """Leaves a machine's terminal to its first process."""


COMMAND = Command(
    name="fill",
    run=run,
    shares_work=True,
    usage="regraft fill [key=value | group=choice]... [fill.share=K/N] [-m] [--config-dir FOLDER]",
    details="""
The other keys are those of a training (regraft train --help), which then computes no features. The share of a process
that torchrun or Slurm has started follows from its rank; -m fill.share=1/4,2/4,3/4,4/4 starts a job for each share,
with any launcher of Hydra's (hydra/launcher=NAME).""",
    config_name="fill",
    job=fill_job,
)
