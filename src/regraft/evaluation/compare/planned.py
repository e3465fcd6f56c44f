"""What the jobs of a sweep are to vary that haven't started: no config says it yet, only their commands do."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from regraft.config.nested import ABSENT, at
from regraft.config.quoting import key_of, value_of
from regraft.evaluation.compare.entries import Entry
from regraft.evaluation.compare.parameters import is_seed
from regraft.sweeps.manifest import is_of_experiment


def only_planned(entries: Sequence[Entry], known: Collection[str]) -> list[str]:
    """Returns the parameters that differ between the jobs of a sweep, but not between those that have started.

    Args:
        entries: all of a comparison.
        known: the parameters that differ between configs.
    """
    sweeps: dict[str, list[Entry]] = {}
    for entry in entries:
        sweeps.setdefault(str(entry.run.path.parent), []).append(entry)
    found: dict[str, None] = {}
    for jobs in sweeps.values():
        waiting = [override for job in jobs if not job.composed.config for override in job.overrides]
        for key in filter(None, map(key_of, waiting)):
            if len({value_of(key, job.overrides) for job in jobs}) > 1:
                found[key] = None
    return [key for key in found if key not in known and is_of_experiment(key) and not is_seed(key)]


def planned_value(name: str, entry: Entry) -> Any:
    """Returns what a run has of a parameter, or is to have: by its config, its choices, or its command."""
    value = at(entry.composed.config, name)
    if value is not ABSENT and not isinstance(value, Mapping):
        return value
    asked = entry.composed.choices.get(name) or value_of(name, entry.overrides)
    return ABSENT if asked is None else asked
