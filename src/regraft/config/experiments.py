"""What the file of an experiment sets, as the overrides that it stands for, before anything is composed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from regraft.config.nested import leaves
from regraft.config.safe_yaml import load
from regraft.config.shipped import conf_dir
from regraft.core.errors import ConfigError

_GROUP = "experiment"


def overrides_of_experiment(name: str, config_dir: str | None) -> list[str]:
    """Returns what an experiment's file, and those that it builds on, set: `group=choice` and `key=value`.

    A file that isn't there or can't be read gives none; composing reports it.

    Args:
        config_dir: folder of a user's own configs, which come first.
    """
    return list(_overrides(name, config_dir, set()))


def _overrides(name: str, config_dir: str | None, read: set[str]) -> Iterator[str]:
    content = None if name in read else _content(name, config_dir)
    if not isinstance(content, Mapping):
        return
    read.add(name)
    defaults = content.get("defaults")
    for entry in defaults if isinstance(defaults, list) else []:
        if isinstance(entry, str) and entry != "_self_":
            yield from _overrides(_without_group(entry), config_dir, read)
        for key, choice in entry.items() if isinstance(entry, Mapping) else ():
            group = str(key).removeprefix("override ").strip().lstrip("/").partition("@")[0]
            if group == _GROUP:
                yield from _overrides(str(choice), config_dir, read)
            else:
                yield f"{group}={choice}"
    for key, value in leaves({key: value for key, value in content.items() if key != "defaults"}).items():
        yield f"{key}={'null' if value is None else str(value).lower() if isinstance(value, bool) else value}"


def _content(name: str, config_dir: str | None) -> Any:
    for root in (config_dir or conf_dir(), conf_dir()):
        path = Path(root) / _GROUP / f"{name}.yaml"
        try:
            return load(path)
        except (OSError, ConfigError):
            continue
    return None


def _without_group(entry: str) -> str:
    return entry.lstrip("/").removeprefix(f"{_GROUP}/").removesuffix(".yaml")
