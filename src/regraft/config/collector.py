"""Collects all errors of a config in one pass, resetting each wrong key to its default.

Each section is built as a run builds it, so that rules stand only where values are used.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pytorch_lightning.utilities.exceptions import MisconfigurationException

from regraft.config.hydra_messages import MISTAKES, mistakes_in
from regraft.config.instantiate import Config, type_errors
from regraft.config.nested import ABSENT, at
from regraft.core.errors import ConfigError

Built = TypeVar("Built")


class ErrorCollector:
    """Builds sections of a config and collects their errors.

    Args:
        config: the resolved config, which is copied.
        reference: returns the config of the same choices without any other override; None if there isn't one, as for a
            resumed run.
        blocked: sections that aren't built, because their errors have been reported.

    Attributes:
        config: with wrong keys reset to their defaults.
    """

    def __init__(self, config: Config, reference: Callable[[], Config] | None, blocked: set[str]) -> None:
        self.config = copy.deepcopy(config)
        self.errors: list[ConfigError] = []
        self._reference = reference
        self._blocked = blocked
        self._reset: set[str] = set()
        self._extra_types: dict[str, Mapping[str, Any]] = {}

    def add_types(self, section: str, types: Mapping[str, Any]) -> None:
        """Adds types of a section's keys that its target doesn't take itself."""
        self._extra_types[section] = types

    def reset_to_default(self, key: str) -> bool:
        """Sets a key to what the chosen YAML says, or removes it; returns whether that changes anything."""
        default = ABSENT if self._reference is None else at(self._reference(), key)
        node, name = self._parent(key)
        if self._reference is None or not isinstance(node, dict) or default in (node.get(name, ABSENT), "???"):
            return False
        if default is ABSENT and name == "_target_":  # without which nothing can be built from the rest
            return self.reset_to_default(key.removesuffix("._target_"))
        if default is ABSENT:
            del node[name]
        else:
            node[name] = copy.deepcopy(default)
        self._reset.add(key)
        return True

    def try_build(self, section: str, build: Callable[[], Built]) -> Built | None:
        """Builds a section such as `callbacks.best`, resetting its wrong keys; None if that doesn't help.

        `build` reads `self.config` each time it is called.
        """
        if section.partition(".")[0] in self._blocked:
            return None
        while True:
            built, found = self._try(build)
            if found:
                found = [each for error in found for each in self._with_key(section, error, build)]
            else:
                known = {error.key for error in self.errors}  # which the build of another section has refused
                found = [each for each in self._type_errors(section) if each.key not in known]
                if not found:
                    return built
            # What is wrong with a default is not the user's mistake.
            new = [each for each in found if not any(f"{each.key}.".startswith(f"{key}.") for key in self._reset)]
            if self._reference is None:  # nothing can be reset, so the same mistake is met again in other words
                keys = {error.key for error in self.errors if error.key is not None and "." in error.key}
                new = [each for each in new if each.key not in keys]
            self.errors += [error for error in new if error not in self.errors]
            if not [error for error in new if self.reset_to_default(error.key or section)]:
                return None

    def _try(self, build: Callable[[], Built]) -> tuple[Built | None, list[ConfigError]]:
        try:
            return build(), []
        except (*MISTAKES, MisconfigurationException) as error:
            return None, mistakes_in(error)

    def _with_key(self, section: str, error: ConfigError, build: Callable[[], Any]) -> list[ConfigError]:
        """Returns an error with the keys that it is about; a library's error names none."""
        if self._has_key(error, section):
            return [error]
        return self._type_errors(section) or self._each_alone(section, build) or [error.about(section)]

    def _each_alone(self, section: str, build: Callable[[], Any]) -> list[ConfigError]:
        """Returns the errors of changed keys, each tried alone; none if not even the defaults can be built."""
        default = ABSENT if self._reference is None else at(self._reference(), section)
        parent, name = self._parent(section)
        node = at(self.config, section)
        if not (isinstance(node, dict) and isinstance(default, Mapping)):
            return []
        default = {key: node.get(key) if value == "???" else value for key, value in default.items()}
        found = []
        try:
            parent[name] = copy.deepcopy(default)
            if self._try(build)[1]:
                return []
            for key in [key for key, value in node.items() if key in default and default[key] != value]:
                parent[name] = copy.deepcopy(default) | {key: node[key]}
                found += [self._about_value(error, section, key, node[key]) for error in self._try(build)[1]]
        finally:
            parent[name] = node
        return found

    def _about_value(self, error: ConfigError, section: str, key: str, value: Any) -> ConfigError:
        if self._has_key(error, section):
            return error
        key = f"{section}.{key}"
        return error.about(key) if error.got == value else ConfigError(key, error.text, got=value)

    def _has_key(self, error: ConfigError, section: str) -> bool:
        """Whether an error names a key of the config, not just the section that was built."""
        return error.key is not None and error.key != section and error.key.partition(".")[0] in self.config

    def _parent(self, key: str) -> tuple[Any, str]:
        path, _, name = key.rpartition(".")
        return (at(self.config, path) if path else self.config), name

    def _type_errors(self, section: str) -> list[ConfigError]:
        node = at(self.config, section)
        if not isinstance(node, Mapping) or "_target_" not in node:
            return []
        try:
            return type_errors(node, section, self._extra_types.get(section, {}))
        except ConfigError:  # there is no such target, which building it reports
            return []
