"""Dotted keys, such as `optimizer.lr`, of nested mappings."""

from collections.abc import Mapping
from typing import Any

ABSENT = object()
"""Stands for nothing, where None would be a value."""


def at(config: Mapping[str, Any], key: str) -> Any:
    """Returns the value of a dotted key; ABSENT if there is none."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return ABSENT
        node = node[part]
    return node


def leaves(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the values by their dotted keys; a list and an empty mapping are values."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return found
