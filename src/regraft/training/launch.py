"""One run from its composed config to the process that trains it; how it is trained there belongs in `fit`."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from regraft.config.trust import require_known_targets
from regraft.core.errors import ConfigError
from regraft.core.startup import quick_imports
from regraft.runs.folder import Run, run_of
from regraft.runs.provenance import Session
from regraft.runs.resuming import continued, newest_record, reset_parts, what_to_reset
from regraft.runs.state import require_not_running
from regraft.training import multi_process
from regraft.training.fit import Display, checkpoint_of, fit
from regraft.training.lightning import quiet_lightning

if TYPE_CHECKING:
    from regraft.runs.checkpoint import Checkpoint


Reference = Callable[[], dict[str, Any]]


def settle(config: dict[str, Any], overrides: Sequence[str], run: Run) -> tuple[dict[str, Any], "Checkpoint | None"]:
    """Returns the config that a run is really trained with, and the checkpoint that it goes on from.

    Raises:
        ValueError: the run's folder is another run's, or the config asks of a resumed run what it can't.
    """
    is_in_place, checkpoint = False, None
    if config["ckpt_path"] is not None:
        checkpoint = checkpoint_of(config)
        is_in_place = run_of(checkpoint.path) == run
        record = checkpoint.config
        if is_in_place:
            record = newest_record(run, checkpoint.config)
            require_known_targets(record, config["trust"], str(run.path / "config.yaml"))
        config = continued(record, config, overrides) | {"ckpt_path": str(checkpoint.path)}
        if is_in_place:
            config["resume"] = what_to_reset(run, config["resume"], checkpoint.config)
            require_not_running(run)
    elif reset_parts(config):
        raise ConfigError("resume.reset", "a new run has no state to reset. Leave it out, or go on with a run: run=...")
    if not is_in_place and (run.last_ckpt.exists() or run.has_results):
        raise ValueError(f"{run.path} already holds a run. Go on with it by ckpt_path=..., or name another folder.")
    return config, checkpoint


def launch(
    config: dict[str, Any],
    run: Run,
    session: Session,
    overrides: Sequence[str],
    display: Display,
    checkpoint: "Checkpoint | None" = None,
    choices: Reference | None = None,
) -> None:
    """Trains one run in this process, or in a group of its own if it takes several; see `fit`.

    Args:
        config: the resolved config, plain types.
        run: where everything is kept.
        session: where it comes from; see `provenance.new_session`.
        overrides: what was asked for.
        display: shows the run.
        checkpoint: see `settle`.
        choices: gives the config of the same choices without any other override, for what is wrong with this one.

    Raises:
        FaultsError: all that is wrong with the config; nothing has been written then.
    """
    with quick_imports():
        import pytorch_lightning as pl

        from regraft.training.data_fit import require_sound

    quiet_lightning()
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    checked = require_sound(config, run.path, checkpoint, choices)
    keep_overrides(run, overrides)
    if multi_process.needs_processes(config["trainer"]):
        if checkpoint is not None:
            # The group reads it itself; here it would fill memory as long as this process waits.
            checkpoint.content.clear()
        multi_process.launch(config, run, session)
    else:
        fit(config, run, session, display, checked, checkpoint)


def keep_overrides(run: Run, overrides: Sequence[str]) -> None:
    """Writes what was asked for into a run's folder, if it was asked from Python, where Hydra makes no folder."""
    if not (run.path / ".hydra").exists():
        (run.path / ".hydra").mkdir(parents=True)
        text = yaml.safe_dump(list(overrides), allow_unicode=True)
        (run.path / ".hydra" / "overrides.yaml").write_text(text, encoding="utf-8")
