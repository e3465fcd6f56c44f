"""The JSON schema of a training's config files, with which editors complete and explain keys."""

from typing import Any

import yaml

from regraft.config.groups import Key, group_choices, group_names, keys_of
from regraft.config.meant import UNCONFIGURED

_TYPES = {bool: "boolean", int: "number", float: "number", list: "array", dict: "object"}


def training_schema() -> dict[str, Any]:
    """Returns the schema of a file such as `experiment/NAME.yaml`; a section has the keys of all its choices."""
    properties: dict[str, Any] = {}
    for key in keys_of("train").values():
        _add(properties, key.name, key)
    for group in group_names():
        if group not in UNCONFIGURED:
            section = properties.setdefault(group, {"type": "object", "properties": {}})
            section["description"] = f"one of {', '.join(group_choices(group))}"
            for choice in group_choices(group):
                for key in keys_of(f"{group}/{choice}").values():
                    _add(section["properties"], key.name, key)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Regraft: a config of a training",
        "type": "object",
        "properties": {"defaults": _defaults()} | properties,
        "additionalProperties": False,
    }


def _add(properties: dict[str, Any], name: str, key: Key) -> None:
    """Adds a key to the properties of its section; of two choices that have it, the first one describes it."""
    *sections, leaf = name.split(".")
    for section in sections:
        properties = properties.setdefault(section, {"type": "object", "properties": {}})["properties"]
    properties.setdefault(leaf, _property(key))


def _property(key: Key) -> dict[str, Any]:
    found: dict[str, Any] = {"description": key.comment} if key.comment else {}
    if key.default == "???":
        return found
    value = yaml.safe_load(key.default)
    kind = _TYPES.get(type(value))
    # Every value may refer to another one, ${...}; what is text or null by default may be anything.
    return found | {"default": value} | ({"type": [kind, "string", "null"]} if kind else {})


def _defaults() -> dict[str, Any]:
    """Returns the schema of Hydra's list of choices."""
    choices = {
        f"{word}{group}": {"enum": list(group_choices(group))}
        for group in group_names()
        for word in ("", "override /")
        if group_choices(group)
    }
    entry = {"type": "object", "properties": choices}
    return {"type": "array", "items": {"anyOf": [{"type": "string"}, entry]}}
