"""The config of a resumed run: what it keeps, and what the command line may change."""

import copy
import logging
import shlex
from collections.abc import Sequence
from typing import Any

from regraft.config.fitting import was_fitted_in_closed_form
from regraft.config.nested import ABSENT, at
from regraft.config.quoting import trusting
from regraft.core.errors import ConfigError
from regraft.runs.folder import Run
from regraft.runs.provenance import sessions

log = logging.getLogger(__name__)
_MAY_CHANGE = ("trainer", "logger", "callbacks", "output_dir", "ckpt_path", "trust", "sweep", "report")
WHERE_THINGS_LIE = (
    *("data.root", "data.path", "data.urls", "data.table", "data.num_workers", "data.verify", "data.cache"),
    *("features.cache", "features.dir", "features.max_gb"),
)
"""Keys that may change in sections that a run keeps, as they don't change its results: paths, loading, storing."""
# The keys that a choice of trainer (cpu, gpu, ddp, fsdp) sets; the run keeps the others.
_TRAINER_CHOICE = ("accelerator", "devices", "num_nodes", "strategy")
_RESETTABLE = ("optimizer", "scheduler")
# Their rate is a function of the number of steps alone.
_STATELESS_SCHEDULERS = {
    *("constant", "linear_warmup", "step", "multistep", "exponential"),
    *("polynomial", "cosine", "cosine_restarts"),
}
_STEPS_OF_A_RUN = (
    *("max_epochs", "max_steps", "accumulate_grad_batches", "devices", "num_nodes"),
    "limit_train_batches",
)
_SCHEDULED_RATES = ("base_lrs", "_last_lr")
_REASONS = {
    "data": "the rest of the training uses the run's own samples, splits and batches",
    "features": "the rest of the training uses the run's own features",
    "model": "the weights are those of the run's own backbone",
    "head": "the weights are those of the run's own head",
    "freezing": "which stages have trained depends on it",
    "seed": "order, augmentation and dropout depend on it",
    **dict.fromkeys(("augment", "loss", "penalty"), "metrics couldn't be compared with the run's so far"),
    "head_from": "a head is loaded at a run's start only",
    **dict.fromkeys(_RESETTABLE, "its state is restored; resume.reset=[optimizer,scheduler] resets both"),
}
# A run's config has the number that its data gave.
_SETTLED_BY_DATA = ("data.batch_size", "trainer.max_epochs")
_Change = tuple[str, Any, Any]


def continued(record: dict[str, Any], composed: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Returns the config of a resumed run: the run's own, with the allowed changes of the command line, which it logs.

    Args:
        record: the run's config.
        composed: the config of the command line.
        keys: the keys given on the command line; the others are the run's own.

    Raises:
        ValueError: an override would change what a resumed run keeps, or `resume.reset` isn't valid.
    """
    reset = reset_parts(composed)
    config = copy.deepcopy(record)
    # Not the run's: a reset isn't repeated, and a checkpoint can't decide what is trusted.
    config |= {"resume": {"reset": reset}, "trust": composed["trust"]}
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
    _require_same_fitting(record, config)
    _require_consistent_reset(record, config, reset)
    _require_same_weights(record, config)
    _log(applied, reset)
    return config


def resume_command(run: Run) -> str:
    """Returns the command that resumes a run, with what it trusts, which only a command line may say."""
    return shlex.join(["regraft", "resume", f"run={run.path}", *trusting(run.readable_config.get("trust") or ())])


def reset_parts(composed: dict[str, Any]) -> list[str]:
    """Returns which of `optimizer` and `scheduler` start from scratch in a resumed run."""
    section = composed.get("resume")
    got = section.get("reset", []) if isinstance(section, dict) else []  # anything else is refused elsewhere
    if not isinstance(got, list) or not set(got) <= set(_RESETTABLE):
        raise ConfigError(
            "resume.reset",
            got=got,
            allowed=f"a list of {', '.join(_RESETTABLE)}, such as resume.reset=[{','.join(_RESETTABLE)}]",
        )
    return got


def without_state(content: dict[str, Any], parts: Sequence[str]) -> dict[str, Any]:
    """Returns a copy of Lightning's checkpoint without the state of `optimizer`, `scheduler`, or both.

    If only one of them is reset, the learning rates in the other's state are reset, too.
    """
    content = dict(content)
    if "optimizer" in parts:
        content["optimizer_states"] = []
        content["lr_schedulers"] = [_without_rates(state) for state in content["lr_schedulers"]]
    if "scheduler" in parts:
        content["lr_schedulers"] = []
        content["optimizer_states"] = [_without_schedule(state) for state in content["optimizer_states"]]
    return content


def _without_schedule(state: dict[str, Any]) -> dict[str, Any]:
    """Returns an optimizer's state with the learning rates from before any schedule."""
    groups = [group | {"lr": group.get("initial_lr", group["lr"])} for group in state["param_groups"]]
    return state | {"param_groups": groups}


def _without_rates(state: Any) -> Any:
    """Returns the state of a scheduler, and of schedulers inside it, without learning rates."""
    if isinstance(state, dict):
        return {key: _without_rates(value) for key, value in state.items() if key not in _SCHEDULED_RATES}
    return [_without_rates(part) for part in state] if isinstance(state, list) else state


def _compared(keys: Sequence[str], composed: dict[str, Any]) -> list[str]:
    if "experiment" in keys:
        keys = [*(section for section in composed if section not in _MAY_CHANGE), *keys]
    # Choices first, as the meaning of a section's keys depends on its choice.
    return sorted(dict.fromkeys(keys), key=lambda key: "." in key)


def _refusal(refused: Sequence[_Change]) -> ConfigError:
    phrases = list(dict.fromkeys(f"{key}={_shown(new)} (the run has {_shown(old)})" for key, old, new in refused))
    sections = dict.fromkeys(key.partition(".")[0] for key, _, _ in refused)
    known = [section for section in sections if section in _REASONS]
    reasons = dict.fromkeys(f"{f'{each}: ' if len(known) > 1 else ''}{_REASONS[each]}" for each in known)
    why = "".join(f"; {reason}" for reason in reasons)
    return ConfigError(
        refused[0][0] if len(refused) == 1 else None,
        f"a resumed run keeps its settings, but the command has {'; '.join(phrases)}{why}",
        fix="Leave that out, or start a new run; model=checkpoint model.path=RUN gives it this run's backbone.",
    )


def _require_same_fitting(record: dict[str, Any], config: dict[str, Any]) -> None:
    """Refuses steps after a closed form, whose best checkpoint would stay the best one without validation images."""
    if was_fitted_in_closed_form(record) and not was_fitted_in_closed_form(config):
        raise ConfigError(
            "optimizer",
            "the run's head was found in closed form, which a resumed run keeps to",
            fix="head_from=RUN starts a new run with this head, and any optimizer.",
        )


def _require_consistent_reset(record: dict[str, Any], config: dict[str, Any], reset: Sequence[str]) -> None:
    targets = [str((node.get("scheduler") or {}).get("_target_")) for node in (record, config)]
    names = [target.rpartition(".")[2] for target in targets]
    if len(set(reset)) == 1 and not set(names) <= _STATELESS_SCHEDULERS:
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
            fix="Leave it out, or start the schedule from scratch for the remaining steps: "
            "resume.reset=[optimizer,scheduler].",
        )


def _require_same_weights(record: dict[str, Any], config: dict[str, Any]) -> None:
    had, has = map(_averages, (record, config))
    if had != has:
        raise ConfigError(
            "callbacks",
            f"its checkpoints hold {'averaged' if had else 'no averaged'} weights, so the run can't be resumed "
            f"{'without' if had else 'with'} them. Leave callbacks as they were; "
            f"model=checkpoint model.path=RUN starts a new run.",
        )


def _averages(config: dict[str, Any]) -> bool:
    """Whether a run's checkpoints hold an average of the weights, by whatever name its callback has."""
    nodes = (config.get("callbacks") or {}).values()
    return any(isinstance(each, dict) and str(each.get("_target_")).endswith("WeightAveraging") for each in nodes)


def _log(applied: Sequence[_Change], reset: Sequence[str]) -> None:
    changes = [f"{key}={_shown(new)} (was {_shown(old)})" for key, old, new in applied if key != "ckpt_path"]
    if changes:
        log.info("Changed in the resumed run: %s.", "; ".join(dict.fromkeys(changes)))
    if reset:
        log.info("Starting from scratch (resume.reset): the state of %s.", " and ".join(reset))


def _apply(config: dict[str, Any], composed: dict[str, Any], section: str, rest: str) -> None:
    if rest:
        node = config[section]
        *parents, last = rest.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        value = at(composed, f"{section}.{rest}")
        if last not in node and value is not ABSENT and section not in ("trainer", "callbacks", "logger"):
            raise ConfigError(f"{section}.{rest}", f"unknown key {last!r}. The run has: {', '.join(node)}.")
        if value is ABSENT:
            node.pop(last, None)
        else:
            node[last] = value
    elif section not in composed:
        raise ConfigError(section, f"~{section} removes a section that the run needs", fix="Leave it out.")
    elif section == "trainer":
        config[section] |= {key: composed[section][key] for key in _TRAINER_CHOICE}
    else:
        config[section] = composed[section]


def _changes(key: str, old: Any, new: Any) -> list[_Change]:
    """Returns (key, old, new) of each leaf that differs; ABSENT for one that only the other side has."""
    if old == new or (key in _SETTLED_BY_DATA and new == "auto"):
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*old, *(name for name in new if name not in old)]
        pairs = {name: (old.get(name, ABSENT), new.get(name, ABSENT)) for name in names}
        return [change for name, pair in pairs.items() for change in _changes(f"{key}.{name}", *pair)]
    return [(key, old, new)]


def _shown(value: Any) -> str:
    return "nothing" if value is ABSENT else repr(value)


_LIMITS = {"max_epochs": "num_epochs", "max_steps": "num_steps"}
"""Keys of `trainer`, and what they limit, in a run's results."""


def newest_record(run: Run, of_checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Returns the run's latest config, which may be newer than its checkpoint's; the latter if it can't be read."""
    config = run.readable_config
    if of_checkpoint.keys() <= config.keys():
        return config
    log.warning("%s can't be read; using the checkpoint's config.", run.path / "config.yaml")
    return of_checkpoint


def pending_reset(run: Run, requested: dict[str, Any], of_checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Returns the `resume` section of a run that is resumed in its folder.

    It is the requested one, or that of an earlier session that ended before its first checkpoint.
    """
    if requested.get("reset"):
        return {"reset": requested["reset"], "session": len(sessions(run)) + 1}
    pending = run.readable_config.get("resume")
    if not isinstance(pending, dict):
        return {"reset": []}
    if pending.get("reset") and pending.get("session") != (of_checkpoint.get("resume") or {}).get("session"):
        log.info("Starting from scratch (an earlier resume.reset): the state of %s.", " and ".join(pending["reset"]))
        return pending
    return {"reset": []}


def is_done(config: dict[str, Any], run: Run) -> bool:
    """Whether a run has finished and this config leaves nothing to do, which is logged."""
    if not run.is_finished:
        return False
    earlier, results = run.readable_config, run.readable_results
    if not (earlier and results):
        log.warning("%s has finished, but its config or its results can't be read, so it is resumed.", run.path)
        return False
    limits = {key: config["trainer"][key] for key in _LIMITS}
    reached = [key for key, counted in _LIMITS.items() if not _is_beyond(limits[key], results[counted])]
    is_changed = limits != {key: earlier["trainer"][key] for key in _LIMITS}
    # Without early stopping there may be epochs left; a limit of time starts again.
    if not reached and (is_changed or config["callbacks"] != earlier["callbacks"] or run.state["status"] == "limited"):
        return False
    lengthened = reached[-1] if reached else "max_epochs"
    longer = results[_LIMITS[lengthened]] + (10 if lengthened == "max_epochs" else results["num_steps"])
    fix = f" To lengthen it: {resume_command(run)} trainer.{lengthened}={longer}"
    log.info(
        "%s has finished (epochs: %d, steps: %d); nothing is left to do.%s",
        *(run.path, results["num_epochs"], results["num_steps"], "" if was_fitted_in_closed_form(config) else fix),
    )
    return True


def require_length(config: dict[str, Any], content: dict[str, Any]) -> None:
    """Checks that a resumed run isn't shorter than its checkpoint, Lightning's `content`."""
    least = {"max_epochs": int(content["epoch"]) + 1, "max_steps": int(content["global_step"])}
    for key, done in least.items():
        limit = config["trainer"].get(key)
        if isinstance(limit, int) and -1 < limit < done:
            raise ConfigError(
                f"trainer.{key}", "the run is longer already", got=limit, allowed=f"{done} or more, or -1"
            )


def _is_beyond(limit: Any, done: int) -> bool:
    """Whether a limit leaves something to do; Lightning refuses one that isn't a number."""
    return not isinstance(limit, int) or limit == -1 or limit > done
