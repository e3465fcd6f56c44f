"""Whether all processes of a run were started with the same config."""

from collections.abc import Mapping
from typing import Any

import yaml

from regraft.config.nested import ABSENT, leaves
from regraft.core.errors import ConfigError, listed
from regraft.training.fit.group import Group


def differences(own: Mapping[str, Any], first: Mapping[str, Any]) -> list[str]:
    """Returns the keys whose values differ in two configs, with both values."""
    mine, theirs = leaves(own), leaves(first)
    # As text, as nan differs from itself.
    keys = [key for key in {**theirs, **mine} if repr(mine.get(key, ABSENT)) != repr(theirs.get(key, ABSENT))]
    shown = [["nothing" if key not in each else repr(each[key]) for each in (mine, theirs)] for key in keys]
    return [f"{key} is {here} here, {there} there" for key, (here, there) in zip(keys, shown, strict=True)]


def require_same_config(group: Group, own: Mapping[str, Any]) -> None:
    """Raises ConfigError if the command of this process has another config than that of the first one."""
    if group.is_first:
        group.give("config", dict(own))
        return
    first = group.take("config")
    found = differences(yaml.safe_load(yaml.safe_dump(dict(own))), first)
    if found:
        raise ConfigError(
            None,
            f"{group.place} has another config than rank 0: {listed(found, '; ')}",
            fix="Start the same command with the same files on each node.",
        )
