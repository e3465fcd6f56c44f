"""Objects that a call from Python gives in place of parts of a run.

A config is plain text, which a later process reads. It has an object's name, `given`, by which the process that was
given the object finds it.
"""

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from regraft.core.errors import ConfigError

_objects: dict[str, Any] = {}
_instead: dict[str, Any] = {}


def name_of(given: Any) -> str:
    """Returns the name of an object in configs, by which this process finds it from now on."""
    known = next((name for name, each in _objects.items() if each is given and name.startswith(_kind(given))), None)
    if known is None:
        known = f"{_kind(given)}-{secrets.token_hex(3)}"
        _objects[known] = given
    return known


@contextmanager
def used_instead(objects: Mapping[str, Any]) -> Iterator[None]:
    """Uses objects, by section, for those that the configs of earlier runs name, inside the block."""
    _instead.update(objects)
    try:
        yield
    finally:
        for section in objects:
            del _instead[section]


def given_object(section: str, name: str) -> Any:
    """Returns the object that a config's section names.

    Raises:
        ConfigError: this process wasn't given it, or was given another kind of object for it.
    """
    kind = name.rpartition("-")[0]
    if section in _instead:
        found = _instead[section]
        if _kind(found) != kind and "-" in kind:
            reason = f"it isn't of the class and the shapes of the run's own, which was a {kind.partition('-')[0]}"
            raise ConfigError(section, reason, got=type(found).__name__)
        return found
    if name not in _objects:
        again = f"regraft.resume(run, {section}=...), and so do load and evaluate"
        if "." in section:
            again = f"regraft.resume(run, **{{'{section}': ...}}); null leaves it out"
        reason = f"the run was given an object in Python for it ({kind or name}), which this process doesn't have"
        raise ConfigError(section, reason, fix=f"From Python it can be given again: {again}.")
    return _objects[name]


def is_given(node: Any) -> bool:
    """Whether a section of a config names an object."""
    return isinstance(node, Mapping) and isinstance(node.get("given"), str) and ".given." in str(node.get("_target_"))


def sections_given(config: dict[str, Any]) -> list[str]:
    """Returns the sections of a run's config that name objects, such as `model` and `callbacks.mine`."""
    groups = ("callbacks", "logger")
    nodes = {f"{group}.{name}": node for group in groups for name, node in (config.get(group) or {}).items()}
    return [section for section, node in (config | nodes).items() if is_given(node)]


def named(given: Any) -> str:
    """Returns an object's class for a message."""
    return f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__


def _kind(given: Any) -> str:
    """Returns an object's class, or a function's own name, and for a module a hash of its tensors' names and shapes."""
    name = getattr(given, "__name__", type(given).__name__).strip("<>")
    if not isinstance(given, type) and hasattr(given, "named_parameters"):
        shapes = [(key, tuple(value.shape)) for key, value in given.state_dict().items() if hasattr(value, "shape")]
        return f"{name}-{hashlib.blake2b(repr(shapes).encode(), digest_size=3).hexdigest()}"
    return name
