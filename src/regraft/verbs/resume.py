"""`regraft resume`: go on with a run in its own folder; the training itself is `verbs.train`'s."""

import logging
from collections.abc import Sequence
from typing import Any

from regraft.arguments import key_of, to_resume
from regraft.runs import Run

log = logging.getLogger(__name__)

_LIMITS = ("max_epochs", "max_steps")


def resume_once(overrides: Sequence[str], config_dir: str | None) -> Run:
    """Goes on with a run as the command line does; see `regraft.resume`."""
    from regraft.verbs.train import train_once

    return train_once(to_resume(overrides), config_dir)


def with_its_length(config: dict[str, Any], run: Run, overrides: Sequence[str]) -> dict[str, Any]:
    """Returns a resumed run's config with the length that the run was last given.

    It may have been lengthened and then killed before its next checkpoint, which says the length otherwise.
    """
    given = set(map(key_of, overrides))
    trainer = run.config["trainer"]
    lengths = {key: trainer[key] for key in _LIMITS if key in trainer and f"trainer.{key}" not in given}
    return config | {"trainer": config["trainer"] | lengths}


def is_done(config: dict[str, Any], run: Run) -> bool:
    """Whether a run has finished and this config leaves it nothing to do; if so, says it.

    Args:
        config: what the run would go on with.
        run: where it is kept.
    """
    if not run.is_finished:
        return False
    earlier, results = run.config, run.results
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
