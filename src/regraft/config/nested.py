"""Lookup of a dotted key, such as `optimizer.lr`, in nested mappings."""

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
