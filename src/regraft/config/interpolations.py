"""How large a config becomes once its interpolations are resolved, which a few lines can make larger than memory."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from regraft.config.nested import ABSENT, at
from regraft.core.errors import ConfigError

MAX_RESOLVED = 1_000_000
"""Characters that all values may have together."""
_INNERMOST = re.compile(r"\$\{([^${}]*)\}")
_HIDDEN_NAME = re.compile(r"\$\{[^:{}]*\$\{")
_NAME = re.compile(r"\.*[\w-]+(?:\.[\w-]+|\[[\w-]+\])*")


def require_bounded_references(content: Any, source: str) -> None:
    """Checks how large a config becomes, without resolving anything.

    Args:
        content: plain types, with interpolations as text; keys are absolute.

    Raises:
        ConfigError: it becomes larger than MAX_RESOLVED, or refers to a key whose name is an interpolation.
    """
    nested = {"": _by_key(content)}
    sizes: dict[str, int] = {}
    open_keys: set[str] = set()

    def size_of(key: str, node: Any) -> int:
        if key in open_keys:  # in a circle, which resolving it reports
            return 0
        if key not in sizes:
            open_keys.add(key)
            if isinstance(node, Mapping):
                sizes[key] = 1 + sum(size_of(f"{key}.{name}", child) for name, child in node.items())
            else:
                referred = _referred(node, key, nested)
                sizes[key] = len(str(node)) + sum(size_of(name, at(nested, name)) for name in referred)
            open_keys.remove(key)
            if sizes[key] > MAX_RESOLVED:
                reason = f"its interpolations make {key.lstrip('.')} longer than {MAX_RESOLVED:,} characters"
                raise ConfigError(source, reason, fix="Write out what they stand for.")
        return sizes[key]

    size_of("", nested[""])


def _by_key(node: Any) -> Any:
    """Returns a config with mappings in place of its lists."""
    if isinstance(node, Mapping):
        return {str(key): _by_key(value) for key, value in node.items()}
    return {str(index): _by_key(value) for index, value in enumerate(node)} if isinstance(node, list) else node


def _referred(value: Any, key: str, nested: Mapping[str, Any]) -> Iterator[str]:
    """Yields the key of each node that a value names in an interpolation, as often as it does."""
    if not isinstance(value, str) or "${" not in value:
        return
    if _HIDDEN_NAME.search(value):
        raise ConfigError(key.lstrip("."), f"in {value!r} the name that it refers to is an interpolation; write it out")
    while found := _INNERMOST.findall(value):
        # What comes before a colon is the name of a resolver.
        for name in [name for inner in found for name in _NAME.findall(inner.partition(":")[2] or inner)]:
            relative = name.lstrip(".")
            above = key.split(".")[: len(relative) - len(name)] if name != relative else [""]
            absolute = ".".join([*above, relative.replace("[", ".").replace("]", "")])
            if at(nested, absolute) is not ABSENT:
                yield absolute
        value = _INNERMOST.sub("", value)
