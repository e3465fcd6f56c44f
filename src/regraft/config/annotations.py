"""Whether values from YAML are of the types that parameters are annotated with, and those types in words."""

import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_LISTS = ("list", "tuple", "Sequence", "Iterable", "Collection")
_NAMES: dict[Any, str] = {
    **{int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"},
    Path: "a path",
}


def hints_of(target: Any) -> dict[str, Any]:
    """Returns the types of a function's or a class's parameters; empty if its annotations can't be read."""
    try:
        return get_type_hints(target.__init__ if isinstance(target, type) else target)  # type: ignore[misc]
    except (NameError, TypeError, AttributeError):
        return {}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from YAML is of a type; true for types that YAML can't express."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, option) for option in get_args(hint))
    if origin is Literal:
        return any(value == option and type(value) is type(option) for option in get_args(hint))
    if _is_list(hint):
        return isinstance(value, list | tuple) and _fit_elements(value, get_args(hint))
    if _is_mapping(hint):
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
    """Returns the words for one type; none for a class, which YAML can't express."""
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    if _is_list(hint):
        kinds = [kind for kind in get_args(hint) if kind is not Ellipsis]
        element = described(kinds[0]).removeprefix("a ") if kinds else ""
        count = f"{len(kinds)} " if len(kinds) > 1 else ""
        return [f"a list of {count}{element}s" if element.endswith("number") else "a list"]
    return [_NAMES[hint]] if hint in _NAMES else ["a mapping"] if _is_mapping(hint) else []


def _is_mapping(hint: Any) -> bool:
    origin = get_origin(hint)
    return hint is dict or (isinstance(origin, type) and issubclass(origin, Mapping))


def _is_list(hint: Any) -> bool:
    return getattr(get_origin(hint) or hint, "__name__", "") in _LISTS


def _fit_elements(values: Any, kinds: tuple[Any, ...]) -> bool:
    if not kinds:
        return True
    if len(kinds) == 1 or Ellipsis in kinds:
        return all(fits(value, kinds[0]) for value in values)
    return len(values) == len(kinds) and all(fits(value, kind) for value, kind in zip(values, kinds, strict=True))
