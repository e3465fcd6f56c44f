"""What a resumed run takes from the run that it goes on with, and what the command line may change in it.

Plain dicts and strings only; what a checkpoint holds is read in `checkpoints`.
"""

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regraft.runs import find_checkpoint, run_of

_OVERRIDE = re.compile(r"^(?:\+\+|\+|~)?(?P<key>[\w./@:-]+)(?:=(?P<value>.*))?$", re.DOTALL)
_RUN_ONLY = (
    *("model", "head", "augment", "loss", "penalty", "freezing", "optimizer", "scheduler"),
    *("callbacks", "logger", "seed"),
)
_RUN_SECTIONS = re.compile(r"^(data|trainer|features)\.")

_MAY_CHANGE = ("trainer", "logger", "callbacks", "output_dir", "ckpt_path", "trust")
_MAY_CHANGE_TOO = (
    *("data.root", "data.num_workers", "data.verify"),
    *("features.cache", "features.dir", "features.max_gb"),
)
# What a choice of trainer (cpu, gpu, ddp) is about; the rest of its section are knobs that the run has set.
_TRAINER_CHOICE = ("accelerator", "devices", "num_nodes", "strategy")

_ABSENT = object()


def in_its_folder(arguments: list[str]) -> list[str]:
    """Returns the arguments, made to go on in the folder of the run whose last checkpoint `ckpt_path=` names.

    Any other checkpoint starts a folder of its own.

    Raises:
        FileNotFoundError: `ckpt_path` names nothing that can be resumed; never a fresh start.
    """
    ckpt_path = _value_of("ckpt_path", arguments)
    if ckpt_path is None or not {"-m", "--multirun", "--cfg", "-c"}.isdisjoint(arguments):
        return arguments
    checkpoint = find_checkpoint(ckpt_path, prefer="last")
    run = run_of(checkpoint)
    if run is None or checkpoint != run.last_ckpt or "hydra.run.dir" in map(key_of, arguments):
        return arguments
    return [f"hydra.run.dir={_quoted(run.path)}", "hydra.output_subdir=null", *arguments]


def with_appended_sections(arguments: list[str]) -> list[str]:
    """Returns `regraft eval`'s arguments with overrides of the run's own config (`data.root=x`) made appendable.

    The run's config is not part of what Hydra composes here; the verb checks each key against it.
    """
    for argument in arguments:
        section = (key_of(argument) or "").partition(".")[0]
        if section in _RUN_ONLY:
            raise ValueError(
                f"{section}: an evaluation takes the run's own. What can be changed: data, trainer, features."
            )
    return [f"++{argument}" if _RUN_SECTIONS.match(argument) else argument for argument in arguments]


def continued(record: dict[str, Any], composed: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the config of a resumed run: the run's own, with what the command line may change in it.

    Args:
        record: the config that the checkpoint holds.
        composed: what the command line composes to.
        overrides: what the command line says; only these keys are looked at.

    Raises:
        ValueError: an override differs from the run in something that a resumed run keeps.
    """
    # A run of an older version may lack a section that has come since.
    config = {key: value for key, value in composed.items() if key not in record} | copy.deepcopy(record)
    refused: list[str] = []
    keys = [key for override in overrides if (key := key_of(override)) is not None]
    if "experiment" in keys:
        keys = [*(section for section in composed if section not in _MAY_CHANGE), *keys]
    for key in keys:
        section, _, rest = key.partition(".")
        if section not in composed and section not in record:
            continue
        if section in _MAY_CHANGE or key in _MAY_CHANGE_TOO:
            _apply(config, composed, section, rest)
        else:
            refused += _differences(key, _at(record, key), _at(composed, key))
    if refused:
        refused = list(dict.fromkeys(refused))
        raise ValueError(
            f"ckpt_path: a resumed run keeps what it was started with, but the command says {'; '.join(refused)}. "
            f"Leave that out, or start a new run; model=checkpoint model.path=RUN gives it this run's backbone."
        )
    return config


def key_of(argument: str) -> str | None:
    """Returns the key of an override such as `++data.root=x`; None for a flag."""
    match = _OVERRIDE.match(argument)
    return None if match is None or argument.startswith("-") else match["key"]


def _apply(config: dict[str, Any], composed: dict[str, Any], section: str, rest: str) -> None:
    if rest:
        node = config[section]
        *parents, last = rest.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        value = _at(composed, f"{section}.{rest}")
        if value is _ABSENT:
            node.pop(last, None)
        else:
            node[last] = value
    elif section not in composed:
        raise ValueError(f"ckpt_path: ~{section} takes a whole section away that the run needs. Leave it out.")
    elif section == "trainer":
        config[section] |= {key: composed[section][key] for key in _TRAINER_CHOICE}
    else:
        config[section] = composed[section]


def _differences(key: str, old: Any, new: Any) -> list[str]:
    """Returns a phrase for each leaf that differs; what one side lacks is named as such."""
    if key in _MAY_CHANGE_TOO or old == new:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*old, *(name for name in new if name not in old)]
        return [
            phrase
            for name in names
            for phrase in _differences(f"{key}.{name}", old.get(name, _ABSENT), new.get(name, _ABSENT))
        ]
    shown = ["nothing" if value is _ABSENT else repr(value) for value in (new, old)]
    return [f"{key}={shown[0]} (the run has {shown[1]})"]


def _at(config: dict[str, Any], key: str) -> Any:
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return _ABSENT
        node = node[part]
    return node


def _value_of(key: str, arguments: Sequence[str]) -> str | None:
    values = [argument.partition("=")[2] for argument in arguments if key_of(argument) == key]
    value = values[-1].strip("'\"") if values else "null"
    return None if value in ("null", "") else value


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
