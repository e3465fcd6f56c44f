"""Groups of samples, such as the images of a patient, of which none may be in two splits."""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from regraft.core.errors import ConfigError, ConfigErrors, listed
from regraft.data.findings import counted, readable


def shared_groups(groups: Mapping[str, Collection[str]]) -> list[ConfigError]:
    """Returns the mistakes of groups that are in two official splits.

    Args:
        groups: those of each split.
    """
    splits, found = list(groups), []
    for number, split in enumerate(splits):
        for other in splits[number + 1 :]:
            shared = sorted(set(groups[split]) & set(groups[other]))
            if shared:
                names = listed(map(readable, shared))
                reason = f"{counted(len(shared), 'group')} in both {split} and {other}: {names}"
                fix = "Correct the splits, or give all samples as train, from which the others are carved by group."
                found.append(ConfigError("data.group", reason, fix=fix))
    return found


def grouped_by_pattern(samples: Mapping[str, Any], pattern: str) -> dict[str, Any]:
    """Returns the samples of each split with the groups that a pattern finds in the names of their files.

    Args:
        pattern: a regular expression, whose first group (or the whole match) is a sample's group; with a slash it is
            searched in the path relative to the root, else in the file's name.

    Raises:
        ConfigErrors: the pattern isn't valid, names don't match, samples have no files, or a group is in two splits.
    """
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError, RecursionError) as error:
        raise ConfigError("data.group_pattern", f"it isn't a regular expression ({error})", got=pattern) from error
    found, errors = {}, []
    for split, each in samples.items():
        if not hasattr(each, "name"):
            reason = "these samples are in memory, without the names of files"
            raise ConfigError("data.group_pattern", reason, got=pattern)
        names = [each.name(index) for index in range(len(each))]
        names = names if "/" in pattern else [name.rpartition("/")[2] for name in names]
        matches = [compiled.search(name) for name in names]
        unmatched = [name for name, match in zip(names, matches, strict=True) if match is None]
        if unmatched:
            reason = f"{counted(len(unmatched), 'name')} in {split} without a match: {listed(map(readable, unmatched))}"
            errors.append(ConfigError("data.group_pattern", reason, got=pattern))
            continue
        groups = np.array([match[match.re.groups and 1] or "" for match in matches if match is not None])
        found[split] = replace(each, columns=replace(each.columns, groups=groups))
    errors += shared_groups({split: np.unique(each.columns.groups).tolist() for split, each in found.items()})
    if errors:
        raise ConfigErrors(errors)
    return found
