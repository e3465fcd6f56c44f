"""What stands at a dotted key of nested mappings, such as `optimizer.lr` of a config."""

from collections.abc import Mapping
from typing import Any

ABSENT = object()
"""Stands for nothing, where None would be a value."""


def at(config: Mapping[str, Any], key: str) -> Any:
    """Returns what stands at a key; ABSENT if nothing does."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return ABSENT
        node = node[part]
    return node
