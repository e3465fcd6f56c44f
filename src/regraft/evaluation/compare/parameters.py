"""Finds the parameters that differ between runs, by pure functions of their configs."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regraft.config.nested import ABSENT, leaves


@dataclass(frozen=True)
class ComparedConfig:
    """The config of a run, and where its values come from.

    Attributes:
        config: resolved, plain types, from `sweeps.manifest.experiment_config`.
        choices: Hydra's choice in each group, such as `{"freezing": "lp_ft"}`; empty if it isn't known.
        typed: the keys given on the command line.
    """

    config: Mapping[str, Any]
    choices: Mapping[str, str]
    typed: frozenset[str]


def is_repetition(key: str) -> bool:
    """Whether a key, such as `seed`, `data.subset_seed` or `data.fold`, makes repetitions of one configuration."""
    return key == "data.fold" or key.rpartition(".")[2].endswith("seed")


def seeds_of(config: Mapping[str, Any]) -> tuple[tuple[str, Hashable], ...]:
    """Returns the seeds of a config, and its fold, by key."""
    return tuple((key, comparable(value)) for key, value in sorted(leaves(config).items()) if is_repetition(key))


def configuration_of(config: Mapping[str, Any]) -> Hashable:
    """Returns a key that is equal for runs that differ only in their seeds or folds."""
    return tuple((key, comparable(value)) for key, value in sorted(_compared(config).items()))


def varied(runs: Sequence[ComparedConfig]) -> dict[str, list[Any]]:
    """Returns each parameter that differs between the runs, with its value in each of them.

    A section that was chosen as a whole (`freezing=lp_ft`) is one parameter. Its keys are further parameters only if
    they differ between runs of the same choice, or if a command gave them. Where the parameters that commands gave tell
    all configurations apart, those that follow from them are left out.
    """
    compared = [_compared(run.config) for run in runs]
    keys = list(dict.fromkeys(key for each in compared for key in each))
    sections: dict[str, list[str]] = {}
    for key in keys:
        sections.setdefault(key.partition(".")[0], []).append(key)
    found: dict[str, list[Any]] = {}
    for section, of_section in sections.items():
        labels = _labels(section, runs)
        distinct = {tuple(comparable(each.get(key, ABSENT)) for key in of_section) for each in compared}
        is_chosen = len(set(labels)) > 1 and len(distinct) > 1
        if is_chosen:
            found[section] = labels
        for key in of_section:
            values = [each.get(key, ABSENT) for each in compared]
            if is_chosen and (key == f"{section}._target_" or not _is_own(key, values, labels, runs)):
                continue
            if len(set(map(comparable, values))) > 1:
                found[key] = values
    typed = {key: values for key, values in found.items() if any(key in run.typed for run in runs)}
    return typed if _num_told_apart(typed, len(runs)) == _num_told_apart(found, len(runs)) else found


def _num_told_apart(parameters: Mapping[str, Sequence[Any]], num_runs: int) -> int:
    """Returns how many combinations of values the runs have."""
    return len({tuple(comparable(values[index]) for values in parameters.values()) for index in range(num_runs)})


def comparable(value: Any) -> Hashable:
    """Returns a hashable that is equal for equal values: for 1 and 1.0, but not for 1 and true."""
    return float(value) if is_number(value) else f"{type(value).__name__} {value!r}"


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def text_of(value: Any, *, is_exact: bool = False) -> str:
    """Returns a value as in YAML, empty for `ABSENT`; numbers have six digits unless `is_exact`."""
    if value is ABSENT:
        return ""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return repr(value) if is_exact else f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(text_of(each, is_exact=is_exact) for each in value)}]"
    return str(value)


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in leaves(config).items() if value != {} and not is_repetition(key)}


def _labels(section: str, runs: Sequence[ComparedConfig]) -> list[str]:
    """Returns the choice in a section, or the name of its class if not all runs know their choices."""
    if all(section in run.choices for run in runs):
        return [run.choices[section] for run in runs]
    nodes = [run.config.get(section) for run in runs]
    targets = [str(node.get("_target_", "")) if isinstance(node, Mapping) else "" for node in nodes]
    return [target.rpartition(".")[2] for target in targets]


def _is_own(key: str, values: Sequence[Any], labels: Sequence[str], runs: Sequence[ComparedConfig]) -> bool:
    """Whether a key of a chosen section differs between runs of the same choice, or was given by a command."""
    pairs = [(label, comparable(value)) for label, value in zip(labels, values, strict=True)]
    present = {comparable(value) for value in values if value is not ABSENT}
    is_asked_for = any(key in run.typed for run in runs) and len(present) > 1
    return is_asked_for or len(set(pairs)) > len(set(labels))
