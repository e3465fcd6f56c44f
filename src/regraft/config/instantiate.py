"""A config node becomes a call of its `_target_`, whose errors are put in the user's terms."""

import contextlib
import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from hydra.utils import get_object, instantiate

from regraft.config.annotations import described, fits, hints_of
from regraft.config.shipped import shipped_targets
from regraft.core.errors import ConfigError, UnknownNameError, require, unknown
from regraft.core.memory import is_out_of_memory

Config = dict[str, Any]
_EXTRAS = ("wandb", "mlflow")


def factory(node: Mapping[str, Any], section: str, further_keys: Sequence[str] = ()) -> Callable[..., Any]:
    """Returns what calls the node's `_target_` with the node's keys and the caller's arguments.

    Args:
        further_keys: keys that the section may have besides the target's own, to list when one is unknown.

    Raises:
        ConfigError: the target doesn't exist, or doesn't take a key of the node.
    """
    parameters = inspect.signature(target_of(node, section)).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    for key in node:
        if not takes_any and key not in parameters and not key.startswith("_"):
            allowed = [*further_keys, *(name for name in parameters if name != "self")]
            raise UnknownNameError(f"{section}.{key}", "key", key, allowed)
    return checked_call(instantiate(node, _partial_=True, _convert_="all"), section, {})


def target_of(node: Mapping[str, Any], section: str) -> Any:
    """Returns what a node's `_target_` names; raises ConfigError if it doesn't exist."""
    path = node["_target_"]
    log = logging.getLogger("hydra.utils")  # which logs the error in three lines before it is raised

    def nothing(_: logging.LogRecord) -> bool:
        return False

    log.addFilter(nothing)
    try:
        found = get_object(path)
    except Exception as error:  # a module may raise anything when it is imported
        raise ConfigError(f"{section}._target_", _why_absent(path, error), got=path) from error
    finally:
        log.removeFilter(nothing)
    is_function = not isinstance(found, type) and str(getattr(found, "__module__", "")).startswith("regraft")
    if is_function and path not in shipped_targets():  # such as regraft.train, which would train to be looked at
        raise ConfigError(f"{section}._target_", "it isn't a part of a run, but a function of Regraft's", got=path)
    return found


def targets_subclass(node: Mapping[str, Any], section: str, base: type | tuple[type, ...]) -> bool:
    """Whether a node's `_target_` is a class derived from another, or that class."""
    target = target_of(node, section)
    return isinstance(target, type) and issubclass(target, base)


def _why_absent(path: str, error: Exception) -> str:
    module, _, name = path.rpartition(".")
    try:
        holder = import_module(module)
    except ModuleNotFoundError as missing:
        return f"there is no module {missing.name!r}."
    except Exception:
        return f"{' '.join(str(error).split())}."
    return unknown(f"name in {module}", name, _names_in(holder))


def _names_in(module: Any) -> list[str]:
    public = getattr(module, "__all__", None)
    if public is None:  # what is defined there, not what is imported
        public = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    return sorted(name for name in public if not name.startswith("_") and callable(getattr(module, name, None)))


def checked_call(make: Callable[..., Any], section: str, options: Mapping[str, Any]) -> Callable[..., Any]:
    """Returns `make` with the options given; its errors of types, memory and missing packages become ConfigErrors."""

    def checked(*arguments: Any, **given: Any) -> Any:
        keys = {**getattr(make, "keywords", {}), **options}
        for key in keys.keys() & given.keys():
            raise ConfigError(f"{section}.{key}", "a run sets it itself", got=keys[key], fix="Leave it out.")
        try:
            return make(*arguments, **options, **given)
        except TypeError as error:
            missing = _missing(make, arguments, {**options, **given})
            if missing is not None:
                raise ConfigError(f"{section}.{missing}", "it has no value", fix="Give it one.") from error
            shown = ", ".join(f"{key}={value!r}" for key, value in keys.items())
            raise ConfigError(section, f"got {shown}; one of these has a type that it can't have ({error}).") from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            shown = ", ".join(f"{key}={value!r}" for key, value in keys.items())
            raise ConfigError(section, f"this takes more memory than there is: {shown}.") from error
        except ModuleNotFoundError as error:
            reason = str(error).splitlines()[0]
            extra = next((f" Run pip install 'regraft[{name}]'." for name in _EXTRAS if name in reason), "")
            raise ConfigError(section, f"{reason.partition(' HINT')[0]}{extra}") from error

    return checked


def _missing(make: Callable[..., Any], arguments: Sequence[Any], given: Mapping[str, Any]) -> str | None:
    """Returns the first parameter without a default that a call leaves out; None if there is none."""
    with contextlib.suppress(TypeError, ValueError):
        signature = inspect.signature(make)
        taken = signature.bind_partial(*arguments, **given).arguments
        for name, parameter in signature.parameters.items():
            is_needed = parameter.default is parameter.empty and parameter.kind not in (
                parameter.VAR_POSITIONAL,
                parameter.VAR_KEYWORD,
            )
            if is_needed and name not in taken:
                return name
    return None


def require_optimizer_numbers(config: Config) -> None:
    """Checks learning rate, weight decay and penalties, which are computed with before the optimizer is built."""
    keys = [("optimizer", "weight_decay"), ("penalty", "l1"), ("penalty", "l2")]
    if "lr" in inspect.signature(target_of(config["optimizer"], "optimizer")).parameters:
        keys.insert(0, ("optimizer", "lr"))
    for section, key in keys:
        value = config[section].get(key, 0.0)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        is_valid = is_number and (value > 0 if key == "lr" else value >= 0)
        least = "above 0" if key == "lr" else "of at least 0"
        require(is_valid, f"{section}.{key}", value, f"a number {least}, such as 1e-3")


def type_errors(node: Mapping[str, Any], section: str, extra: Mapping[str, Any]) -> list[ConfigError]:
    """Returns an error for each key whose value isn't of its type; `extra` are types that the target doesn't name."""
    hints = {**extra, **hints_of(target_of(node, section))}
    return [
        ConfigError(f"{section}.{key}", got=value, allowed=described(hints[key]))
        for key, value in node.items()
        if key in hints and not fits(value, hints[key])
    ]
