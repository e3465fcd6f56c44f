"""A config node becomes a call of what its `_target_` names, its mistakes put in the user's terms."""

import inspect
import logging
import math
import types
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra.utils import get_object, instantiate

from regraft.core.errors import ConfigError, UnknownNameError, unknown
from regraft.core.memory import is_out_of_memory

Config = dict[str, Any]
_EXTRAS = ("wandb", "mlflow")


def factory(node: Mapping[str, Any], section: str, further_keys: Sequence[str] = ()) -> Callable[..., Any]:
    """Returns what the node's `_target_` makes, called with the node's keys and whatever the caller adds.

    Args:
        node: of the config.
        section: where it stands.
        further_keys: keys that the section may have besides the node's own, to list when one is unknown.

    Raises:
        ValueError: there is no such target, or the node has a key or a type that it doesn't take.
    """
    parameters = inspect.signature(target_of(node, section)).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    for key in node:
        if not takes_any and key not in parameters and not key.startswith("_"):
            allowed = [*further_keys, *(name for name in parameters if name != "self")]
            raise UnknownNameError(f"{section}.{key}", "key", key, allowed)
    return checked_call(instantiate(node, _partial_=True, _convert_="all"), section, {})


def target_of(node: Mapping[str, Any], section: str) -> Any:
    """Returns what a node's `_target_` names.

    Args:
        node: of the config.
        section: where it stands.

    Raises:
        ValueError: there is no such thing.
    """
    path = node["_target_"]
    log = logging.getLogger("hydra.utils")  # says what is wrong, in three lines, before it raises
    log.addFilter(_nothing)
    try:
        return get_object(path)
    except Exception as error:  # a module may raise anything when it is imported
        raise ConfigError(f"{section}._target_", f"got {path!r}; {_why_absent(path, error)}") from error
    finally:
        log.removeFilter(_nothing)


def _nothing(_: logging.LogRecord) -> bool:
    return False


def _why_absent(path: str, error: Exception) -> str:
    """Returns why a dotted name can't be had, one sentence."""
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
    """Returns `make` with the options given, its complaints of a type put in the user's terms."""

    def checked(*arguments: Any, **given: Any) -> Any:
        keys = {**getattr(make, "keywords", {}), **options}
        for key in keys.keys() & given.keys():
            raise ConfigError(f"{section}.{key}", f"got {keys[key]!r}, but a run sets it itself. Leave it out.")
        try:
            return make(*arguments, **options, **given)
        except TypeError as error:
            shown = ", ".join(f"{key}={value!r}" for key, value in keys.items())
            raise ConfigError(section, f"got {shown}; one of these has a type that it can't have ({error}).") from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            shown = ", ".join(f"{key}={value!r}" for key, value in keys.items())
            raise ConfigError(section, f"this takes more memory than there is: {shown}.") from error
        except ModuleNotFoundError as error:
            reason = str(error).splitlines()[0]
            extra = next((f" pip install 'regraft[{name}]'." for name in _EXTRAS if name in reason), "")
            raise ConfigError(section, f"{reason.partition(' HINT')[0]}{extra}") from error

    return checked


def require_numbers(config: Config) -> None:
    """Checks what is computed with before the objects that it belongs to are made."""
    for section, key in (("optimizer", "lr"), ("optimizer", "weight_decay"), ("penalty", "l1"), ("penalty", "l2")):
        value = config[section].get(key, 0.0)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not (is_number and (value > 0 if key == "lr" else value >= 0)):
            least = "above 0" if key == "lr" else "of at least 0"
            raise ConfigError(f"{section}.{key}", f"got {value!r}; it must be a number {least}, such as 1e-3.")


_LISTS = ("list", "tuple", "Sequence", "Iterable", "Collection")
_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}


_NAMES |= {Path: "a path"}


def type_errors(node: Mapping[str, Any], section: str, extra: Mapping[str, Any]) -> list[ConfigError]:
    """Returns a mistake for each key whose value isn't of its type.

    Args:
        node: with a `_target_`.
        section: where it stands, such as `callbacks.best`.
        extra: types of keys that the target doesn't take itself.
    """
    hints = {**extra, **hints_of(target_of(node, section))}
    return [
        ConfigError(f"{section}.{key}", got=value, allowed=described(hints[key]))
        for key, value in node.items()
        if key in hints and not fits(value, hints[key])
    ]


def hints_of(target: Any) -> dict[str, Any]:
    """Returns the types of a function's or a class's parameters; none of one whose annotations can't be read."""
    try:
        return get_type_hints(target.__init__ if isinstance(target, type) else target)  # type: ignore[misc]
    except (NameError, TypeError, AttributeError):
        return {}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from YAML is what a type asks for; of types that YAML has no word for, any value is."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, option) for option in get_args(hint))
    if origin is Literal:
        return any(value == option and type(value) is type(option) for option in get_args(hint))
    if _is_list(hint):
        return isinstance(value, list | tuple) and _fit_elements(value, get_args(hint))
    if (isinstance(origin, type) and issubclass(origin, Mapping)) or hint is dict:
        return isinstance(value, Mapping)
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    if hint is Path:
        return isinstance(value, str | Path)
    if isinstance(hint, type) and origin is None:
        return isinstance(value, hint) or (hint not in _NAMES and isinstance(value, Mapping))
    return True


def described(hint: Any) -> str:
    """Returns a type in words: what may be written in a config."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if float in options:
        options = tuple(option for option in options if option is not int)
    words = [word for option in options for word in _words(option)]
    return ", ".join(dict.fromkeys(words))


def _words(hint: Any) -> list[str]:
    """Returns what may be written for one type; nothing for a class, which has no word in YAML."""
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    if _is_list(hint):
        kinds = [kind for kind in get_args(hint) if kind is not Ellipsis]
        element = described(kinds[0]).removeprefix("a ") if kinds else ""
        count = f"{len(kinds)} " if len(kinds) > 1 else ""
        return [f"a list of {count}{element}s" if element.endswith("number") else "a list"]
    return [_NAMES[hint]] if hint in _NAMES else ["a mapping"] if get_origin(hint) is dict else []


def _is_list(hint: Any) -> bool:
    return getattr(get_origin(hint) or hint, "__name__", "") in _LISTS


def _fit_elements(values: Any, kinds: tuple[Any, ...]) -> bool:
    if not kinds:
        return True
    if len(kinds) == 1 or Ellipsis in kinds:
        return all(fits(value, kinds[0]) for value in values)
    return len(values) == len(kinds) and all(fits(value, kind) for value, kind in zip(values, kinds, strict=True))
