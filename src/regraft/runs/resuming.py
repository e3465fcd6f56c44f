"""What a resumed run keeps of the run that it goes on with, and what the command line may change in it.

Plain dicts and strings only; what a checkpoint holds is read in `checkpoints`.
"""

import copy
import logging
from collections.abc import Sequence
from typing import Any

from regraft.config.nested import ABSENT, at
from regraft.core.errors import ConfigError
from regraft.runs.folder import Run
from regraft.runs.provenance import sessions

log = logging.getLogger(__name__)
_MAY_CHANGE = ("trainer", "logger", "callbacks", "output_dir", "ckpt_path", "trust", "sweep", "report")
WHERE_THINGS_LIE = (
    *("data.root", "data.num_workers", "data.verify", "data.cache"),
    *("features.cache", "features.dir", "features.max_gb"),
)
"""Keys of what a run keeps that don't change what it finds: where data lies and how it is read, what is stored."""


# What a choice of trainer (cpu, gpu, ddp) is about; the rest of its section are knobs that the run has set.
_TRAINER_CHOICE = ("accelerator", "devices", "num_nodes", "strategy")
_RESETTABLE = ("optimizer", "scheduler")


# Closed forms: where they stand is a number of steps, and the rate a function of it.
_FREE_OF_THE_OPTIMIZER = {"constant", "linear_warmup", "cosine"}
_STEPS_OF_A_RUN = (
    *("max_epochs", "max_steps", "accumulate_grad_batches", "devices", "num_nodes"),
    "limit_train_batches",
)
_SCHEDULED_RATES = ("base_lrs", "_last_lr")
_REASONS = {
    "data": "what is left is to be done on the run's own images, splits and batches",
    "features": "what is left is to be done on the run's own features",
    "model": "the weights are those of the run's own backbone",
    "head": "the weights are those of the run's own head",
    "freezing": "which stages have trained depends on it",
    "seed": "order, augmentation and dropout of what is left depend on it",
    **dict.fromkeys(("augment", "loss", "penalty"), "its figures would be others than the run's so far"),
    "head_from": "a head is taken over at a run's start only",
    **dict.fromkeys(_RESETTABLE, "its state is restored; resume.reset=[optimizer,scheduler] resets both"),
}
_Change = tuple[str, Any, Any]


def continued(record: dict[str, Any], composed: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Returns the config of a resumed run: the run's own, with what the command line may change; the log says what.

    Args:
        record: the config that the checkpoint holds.
        composed: what the command line composes to.
        keys: that the command line gives; the others are the run's own.

    Raises:
        ValueError: an override differs from the run in something that a resumed run keeps, or `resume.reset` names
            something that can't be reset.
    """
    reset = reset_parts(composed)
    config = copy.deepcopy(record)
    # Not kept: what was reset once isn't again, and a checkpoint can't say what is trusted.
    config |= {key: composed[key] for key in ("resume", "trust") if key in composed}
    applied: list[_Change] = []
    refused: list[_Change] = []
    for key in _compared(keys, composed):
        section, _, rest = key.partition(".")
        if section == "resume" or (section not in composed and section not in record):
            continue
        if section in (*_MAY_CHANGE, *reset) or key in WHERE_THINGS_LIE:
            _apply(config, composed, section, rest)
            applied += _changes(key, at(record, key), at(config, key))
        else:
            changes = _changes(key, at(record, key), at(composed, key))
            refused += [change for change in changes if change[0] not in WHERE_THINGS_LIE]
    if refused:
        raise _refusal(refused)
    _require_consistent_reset(record, config, reset)
    _require_same_weights(record, config)
    _say(applied, reset)
    return config


def reset_parts(composed: dict[str, Any]) -> list[str]:
    """Returns what is to start from scratch in a resumed run: `optimizer`, `scheduler`, or both.

    Raises:
        ValueError: something else.
    """
    got = (composed.get("resume") or {}).get("reset", [])
    if not isinstance(got, list) or not set(got) <= set(_RESETTABLE):
        raise ConfigError(
            "resume.reset",
            got=got,
            allowed=f"a list of {', '.join(_RESETTABLE)}, such as resume.reset=[{','.join(_RESETTABLE)}]",
        )
    return got


def without_state(content: dict[str, Any], parts: Sequence[str]) -> dict[str, Any]:
    """Returns a checkpoint's content without the state of parts that start from scratch; the rest is shared.

    Args:
        content: what Lightning wrote; it stays as it is.
        parts: of `optimizer`, `scheduler`. Where only one of them is reset, the rates of the other follow it.
    """
    content = dict(content)
    if "optimizer" in parts:
        content["optimizer_states"] = []
        content["lr_schedulers"] = [_without_rates(state) for state in content["lr_schedulers"]]
    if "scheduler" in parts:
        content["lr_schedulers"] = []
        content["optimizer_states"] = [
            state | {"param_groups": [_at_its_peak(group) for group in state["param_groups"]]}
            for state in content["optimizer_states"]
        ]
    return content


def _without_rates(state: Any) -> Any:
    """Returns a scheduler's state, and those inside it, without the rates that it would give a new optimizer."""
    if isinstance(state, dict):
        return {key: _without_rates(value) for key, value in state.items() if key not in _SCHEDULED_RATES}
    return [_without_rates(part) for part in state] if isinstance(state, list) else state


def _at_its_peak(group: dict[str, Any]) -> dict[str, Any]:
    """Returns an optimizer's group at the rate that it was given, before any schedule."""
    return group | {"lr": group.get("initial_lr", group["lr"])}


def _compared(keys: Sequence[str], composed: dict[str, Any]) -> list[str]:
    if "experiment" in keys:
        keys = [*(section for section in composed if section not in _MAY_CHANGE), *keys]
    # A choice first: what a key of its section means depends on it.
    return sorted(dict.fromkeys(keys), key=lambda key: "." in key)


def _refusal(refused: Sequence[_Change]) -> ConfigError:
    phrases = list(dict.fromkeys(f"{key}={_shown(new)} (the run has {_shown(old)})" for key, old, new in refused))
    sections = dict.fromkeys(key.partition(".")[0] for key, _, _ in refused)
    reasons = dict.fromkeys(f"{section}: {_REASONS[section]}" for section in sections if section in _REASONS)
    why = "".join(f"; {reason}" for reason in reasons)
    return ConfigError(
        "ckpt_path",
        f"a resumed run keeps what it was started with, but the command says {'; '.join(phrases)}{why}",
        fix="Leave that out, or start a new run; model=checkpoint model.path=RUN gives it this run's backbone.",
    )


def _require_consistent_reset(record: dict[str, Any], config: dict[str, Any], reset: Sequence[str]) -> None:
    targets = [str((node.get("scheduler") or {}).get("_target_")) for node in (record, config)]
    names = [target.rpartition(".")[2] for target in targets]
    if len(set(reset)) == 1 and not set(names) <= _FREE_OF_THE_OPTIMIZER:
        raise ConfigError(
            "resume.reset",
            f"{' and '.join(dict.fromkeys(names))} and the optimizer hold parts of each other's state",
            got=reset,
            fix="Reset both: resume.reset=[optimizer,scheduler].",
        )
    trainers = [node.get("trainer") or {} for node in (record, config)]
    changed = [key for key in _STEPS_OF_A_RUN if trainers[0].get(key) != trainers[1].get(key)]
    if changed and names[0] == "onecycle" and not reset:
        raise ConfigError(
            f"trainer.{changed[0]}",
            "onecycle can't be made longer or shorter once it has begun",
            fix="Leave it out, or start the schedule from scratch over what is left: "
            "resume.reset=[optimizer,scheduler].",
        )


def _require_same_weights(record: dict[str, Any], config: dict[str, Any]) -> None:
    had, has = (bool((node.get("callbacks") or {}).get("ema")) for node in (record, config))
    if had != has:
        raise ConfigError(
            "callbacks.ema",
            f"the run {'has' if had else 'has no'} averaged weights, which are what its checkpoints "
            f"hold; it can't go on {'without' if had else 'with'} them. Leave callbacks as they were; "
            f"model=checkpoint model.path=RUN starts a new run.",
        )


def _say(applied: Sequence[_Change], reset: Sequence[str]) -> None:
    changes = [f"{key}={_shown(new)} (was {_shown(old)})" for key, old, new in applied if key != "ckpt_path"]
    if changes:
        log.info("Changed in the resumed run: %s.", "; ".join(dict.fromkeys(changes)))
    if reset:
        log.info("Starting from scratch, as resume.reset says: the state of %s.", " and ".join(reset))


def _apply(config: dict[str, Any], composed: dict[str, Any], section: str, rest: str) -> None:
    if rest:
        node = config[section]
        *parents, last = rest.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        value = at(composed, f"{section}.{rest}")
        if last not in node and value is not ABSENT and section != "trainer":
            raise ConfigError(f"{section}.{rest}", f"unknown key {last!r}. The run has: {', '.join(node)}.")
        if value is ABSENT:
            node.pop(last, None)
        else:
            node[last] = value
    elif section not in composed:
        raise ConfigError("ckpt_path", f"~{section} takes a whole section away that the run needs. Leave it out.")
    elif section == "trainer":
        config[section] |= {key: composed[section][key] for key in _TRAINER_CHOICE}
    else:
        config[section] = composed[section]


def _changes(key: str, old: Any, new: Any) -> list[_Change]:
    """Returns (key, old, new) of each leaf that differs; what one side lacks is named as such."""
    if old == new:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*old, *(name for name in new if name not in old)]
        pairs = {name: (old.get(name, ABSENT), new.get(name, ABSENT)) for name in names}
        return [change for name, pair in pairs.items() for change in _changes(f"{key}.{name}", *pair)]
    return [(key, old, new)]


def _shown(value: Any) -> str:
    return "nothing" if value is ABSENT else repr(value)


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
        log.info("Starting from scratch, as was asked before the run was stopped: %s.", " and ".join(pending["reset"]))
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
            "%s has finished, but its config or its results can't be read, so it is finished again: %s", run.path, error
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
