"""Safe loading of files that may be a stranger's: counted before they are built, so that a few lines can't fill memory.

A node that YAML's aliases, or a pickle's references, repeat is one node in the file and thousands once it is copied.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from regraft.core.atomic import read_text
from regraft.core.errors import ConfigError

MAX_REPEATED = 10_000
"""Nodes that aliases may add."""

MAX_DIGITS = 300
"""Of a whole number; one of more is larger than any other number."""

MAX_DEPTH = 50
"""Lists and mappings inside one another."""

# The one in C reads a config ten times as fast; `regraft runs` reads hundreds.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class _Open:
    """A list or mapping whose end isn't reached yet; `start` is how many nodes came before it."""

    anchor: str | None
    start: int
    height: int = 0


def load(path: Path) -> Any:
    """Returns the content of a YAML file in plain types; raises ConfigError if it isn't bounded YAML."""
    try:
        text = read_text(path)
        require_bounded(text, path)
        return yaml.load(text, Loader=_LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            str(path), f"can't be read as YAML ({' '.join(str(error).split())}). Fix that line."
        ) from error


def require_bounded(text: str, source: str | Path) -> None:
    """Checks how much a YAML document becomes once its aliases are replaced by what they stand for.

    The text is parsed, but not built.

    Raises:
        ConfigError: aliases repeat more than MAX_REPEATED nodes or stand in what they name, or it is nested more than
            MAX_DEPTH deep.
        yaml.YAMLError: it isn't YAML.
    """
    found: dict[str, tuple[int, int]] = {}
    outer: list[_Open] = [_Open(None, 0)]
    num_nodes = num_repeated = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in found:
                raise ConfigError(
                    str(source), f"the alias *{event.anchor} stands for nothing, or for a part of itself."
                )
            size, height = found[event.anchor]
            num_nodes, num_repeated = num_nodes + size, num_repeated + size
            outer[-1].height = max(outer[-1].height, height)
        elif isinstance(event, yaml.CollectionStartEvent):
            if event.anchor is not None:
                found.pop(event.anchor, None)
            outer.append(_Open(event.anchor, num_nodes))
            num_nodes += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = outer.pop()
            outer[-1].height = max(outer[-1].height, ended.height + 1)
            if ended.anchor is not None:
                found[ended.anchor] = (num_nodes - ended.start, ended.height + 1)
        elif isinstance(event, yaml.ScalarEvent):
            num_nodes += 1
            if event.implicit[0] and len(event.value) > MAX_DIGITS and event.value.lstrip("+-").isdecimal():
                raise ConfigError(str(source), f"it holds a whole number of {len(event.value)} digits. Shorten it.")
            if event.anchor is not None:
                found[event.anchor] = (1, 0)
        if num_repeated > MAX_REPEATED:
            raise ConfigError(
                str(source),
                f"its aliases repeat more than {MAX_REPEATED:,} values, which would fill memory. Write out "
                f"what they stand for.",
            )
        if len(outer) - 1 + outer[-1].height > MAX_DEPTH:
            raise _too_deep(source)


def require_bounded_tree(node: Any, source: str | Path) -> None:
    """Checks the same of data that has been built, whose parts may be one object many times over."""
    sizes: dict[int, int] = {}
    num_objects = 0

    def size_of(part: Any, depth: int) -> int:
        nonlocal num_objects
        if not isinstance(part, Mapping | list | tuple):
            return 1
        if depth > MAX_DEPTH:
            raise _too_deep(source)
        if id(part) not in sizes:
            children = part.values() if isinstance(part, Mapping) else part
            num_objects += 1 + len(part)
            sizes[id(part)] = 1 + sum(size_of(child, depth + 1) for child in children)
        return sizes[id(part)]

    if size_of(node, 0) > MAX_REPEATED + 2 * num_objects:
        raise ConfigError(str(source), f"it repeats more than {MAX_REPEATED:,} values, which would fill memory.")


def _too_deep(source: str | Path) -> ConfigError:
    return ConfigError(str(source), f"it is nested more than {MAX_DEPTH} deep, or without end")
