"""`regraft resume`: go on with a run in its own folder; the training itself is `verbs.train`'s."""

import logging
from typing import Any

from regraft.runs.folder import Run
from regraft.runs.provenance import sessions

log = logging.getLogger(__name__)


_LIMITS = ("max_epochs", "max_steps")


def newest_record(run: Run, of_checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Returns what a run was last given: its own config, which knows of changes that no checkpoint has seen yet.

    Args:
        run: that is gone on with.
        of_checkpoint: the config that its checkpoint holds, for a folder that lost its own.
    """
    try:
        config = run.config
    except (OSError, ValueError) as error:
        log.warning("%s; the checkpoint's config is taken.", error)
        return of_checkpoint
    return config if isinstance(config, dict) and of_checkpoint.keys() <= config.keys() else of_checkpoint


def what_to_reset(run: Run, asked: dict[str, Any], of_checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Returns the `resume` section of a run that goes on in its folder.

    What was asked of an earlier session that ended before its first checkpoint is still to be done.

    Args:
        run: the run.
        asked: the section as the command has it.
        of_checkpoint: the config that the checkpoint holds.
    """
    number = len(sessions(run)) + 1
    if asked.get("reset"):
        return {"reset": asked["reset"], "session": number}
    try:
        pending = dict(run.config.get("resume") or {})
    except (OSError, ValueError, AttributeError):
        pending = {}
    if pending.get("reset") and pending.get("session") != (of_checkpoint.get("resume") or {}).get("session"):
        log.info("Starting afresh, as was asked before the run was stopped: %s.", " and ".join(pending["reset"]))
        return pending
    return {"reset": []}


def is_done(config: dict[str, Any], run: Run) -> bool:
    """Whether a run has finished and this config leaves it nothing to do; if so, says it.

    Args:
        config: what the run would go on with.
        run: where it is kept.
    """
    if not run.is_finished:
        return False
    try:
        earlier, results = run.config, run.results
    except (OSError, ValueError) as error:
        log.warning(
            "%s has finished, but its config or its results can't be read, so it ends anew: %s", run.path, error
        )
        return False
    limits = {key: config["trainer"][key] for key in _LIMITS}
    is_longer = any(
        limits[key] != earlier["trainer"][key] and _is_beyond(limits[key], results[counted])
        for key, counted in zip(_LIMITS, ("num_epochs", "num_steps"), strict=True)
    )
    # Without early stopping there may be epochs left.
    if is_longer or config["callbacks"] != earlier["callbacks"]:
        return False
    log.info(
        "%s has finished, after %d epochs and %d steps; nothing is left to do. To lengthen it: "
        "regraft resume run=%s trainer.max_epochs=%d",
        *(run.path, results["num_epochs"], results["num_steps"], run.path, results["num_epochs"] + 10),
    )
    return True


def _is_beyond(limit: Any, done: int) -> bool:
    """Whether a limit leaves something to do; one that isn't a number is for Lightning to refuse."""
    return not isinstance(limit, int) or limit == -1 or limit > done
