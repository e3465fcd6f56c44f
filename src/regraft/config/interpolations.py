"""How large a config becomes once its interpolations are resolved, which a few lines can make larger than memory."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from regraft.config.nested import ABSENT, at
from regraft.core.errors import ConfigError

MAX_RESOLVED = 1_000_000
"""Characters that all values may have together."""
MAX_CHAIN = 20
"""References that may follow one another; OmegaConf, which resolves them in a recursion, takes about 40."""
_INNERMOST = re.compile(r"\$\{([^${}]*)\}")
_HIDDEN_NAME = re.compile(r"\$\{[^:{}]*\$\{")
_NAME = re.compile(r"\.*[\w-]+(?:\.[\w-]+|\[[\w-]+\])*")


def require_bounded_references(content: Any, source: str) -> None:
    """Checks how large a config becomes, without resolving anything.

    Args:
        content: plain types, with interpolations as text; keys are absolute.

    Raises:
        ConfigError: it becomes larger than MAX_RESOLVED, has a chain of more than MAX_CHAIN references, or refers to a
            key whose name is an interpolation.
    """
    nested = {"": _by_key(content)}
    sizes: dict[str, int] = {}
    chains: dict[str, int] = {}  # the longest below each key
    parts: dict[str, list[tuple[str, Any]]] = {}
    pending = [("", nested[""])]
    while pending:  # in place of a recursion, which a long chain would exhaust
        key, node = pending[-1]
        if key in sizes:
            pending.pop()
        elif key not in parts:
            parts[key] = (
                [(f"{key}.{name}", child) for name, child in node.items()]
                if isinstance(node, Mapping)
                else [(name, at(nested, name)) for name in _referred(node, key, nested)]
            )
            pending += [part for part in parts[key] if part[0] not in parts]
        else:
            # Parts without a size are in a circle, which resolving it reports.
            names = [name for name, _ in parts[key] if name in sizes]
            is_reference = bool(names) and not isinstance(node, Mapping)
            sizes[key] = (1 if isinstance(node, Mapping) else len(str(node))) + sum(sizes[name] for name in names)
            chains[key] = max((chains[name] for name in names), default=0) + is_reference
            _require_bounded(key.lstrip("."), sizes[key], chains[key], source)


def _require_bounded(key: str, size: int, chain: int, source: str) -> None:
    if size > MAX_RESOLVED:
        reason = f"its interpolations make {key} longer than {MAX_RESOLVED:,} characters"
        raise ConfigError(source, reason, fix="Write out what they stand for.")
    if chain > MAX_CHAIN:
        reason = f"{key} refers to a key that refers to another, and so on, more than {MAX_CHAIN} times"
        raise ConfigError(source, reason, fix="Refer to the last key itself.")


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
