"""A command's values as Hydra's grammar reads them, without people having to quote them twice."""

import itertools
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from regraft.core.errors import ConfigError

_BRACKETS = ("[", "{", "'", '"')
_PLAIN_TEXT = re.compile(r"[\w./+-]+")
_HOME = re.compile(r"""(?:^|(?<=[\[,'"]))~[\w.-]*(?=/|['"]|$)""")
"""A `~` that begins a value, an element of a list or a quoted text."""


def readable(arguments: Sequence[str]) -> list[str]:
    """Returns a command's words, with quotes around values that Hydra's grammar can't read, such as `/Photos (old)`.

    What begins as a list, a mapping or a quoted text is left as it is. With `-m` the values between commas are quoted
    one by one; without it, a path that is there is one value, whatever commas it has. A `~` at the start of a path is
    replaced by the home folder.
    """
    is_sweep = not {"-m", "--multirun"}.isdisjoint(arguments)
    return [_readable(_with_home(argument), is_sweep=is_sweep) for argument in arguments]


def _with_home(argument: str) -> str:
    key, separator, value = argument.partition("=")
    if separator and (argument.startswith("-") or key_of(argument) is not None):
        return f"{key}={from_home(value, key)}"
    # Of words, those with a slash: ~key removes a key.
    return from_home(argument, argument) if "/" in argument else argument


def from_home(value: str, key: str) -> str:
    """Returns a value with the home folder in place of a `~`, or of `~user`, at the start of each of its paths.

    Raises:
        ConfigError: there is no home folder, or no such user.
    """

    def expanded(found: re.Match[str]) -> str:
        path = os.path.expanduser(found[0])  # noqa: PTH111  # unlike Path, it leaves what it doesn't know as it is
        if path == found[0] and (path == "~" or value[found.end() :].startswith("/")):
            whose = "you have no home folder (HOME isn't set)" if path == "~" else f"there is no user {path[1:]!r}"
            raise ConfigError(key, f"{whose}, which a path with ~ needs", got=value, fix="Write ./~ for a file's name.")
        return path

    return _HOME.sub(expanded, value)


def _readable(argument: str, *, is_sweep: bool) -> str:
    key, _, value = argument.partition("=")
    if not value or argument.startswith("-") or value.startswith(_BRACKETS):
        return argument
    is_path = os.path.exists(value)  # noqa: PTH110  (Path raises for a text that is too long)
    if not is_sweep and "," in value and is_path:
        return f"{key}={in_quotes(value)}"
    if _is_read(argument):
        return argument
    parts = value.split(",") if is_sweep else [value]
    return f"{key}={','.join(part if _is_read(f'{key}={part}') else in_quotes(part) for part in parts)}"


def as_typed(override: str) -> str:
    """Returns an override without the quotes around its value that nobody has to type, see `readable`."""
    key, _, value = override.partition("=")
    bare = f"{key}={unquoted(value)}"
    read = readable([bare])[0]
    return bare if _is_read(read) and parsed(read).value() == parsed(override).value() else override


def in_quotes(text: str) -> str:
    """Returns a text as `quoted` does, but in double quotes where it holds single ones alone."""
    quote = '"' if "'" in text else "'"
    return quoted(text) if quote in text or text.endswith("\\") else f"{quote}{text}{quote}"


def _is_read(override: str) -> bool:
    try:
        parsed(override)
    except HydraException:
        return False
    return True


@cache
def parsed(override: str) -> Override:
    """Returns an override as Hydra parses it."""
    (found,) = OverridesParser.create().parse_overrides([override])
    return found


_OVERRIDE = re.compile(r"^(?:\+\+|\+|~)?(?P<key>[\w./@:-]+)(?:=(?P<value>.*))?$", re.DOTALL)


def key_of(argument: str) -> str | None:
    """Returns the key of an override such as `++data.root=x`; None for a flag."""
    match = _OVERRIDE.match(argument)
    return None if match is None or argument.startswith("-") else match["key"]


def value_of(key: str, arguments: Sequence[str]) -> str | None:
    """Returns the last value that a key is given, without quotes; None if there is none, or it is null."""
    values = [argument.partition("=")[2] for argument in arguments if key_of(argument) == key]
    value = unquoted(values[-1]) if values else "null"
    return None if value in ("null", "") else value


def repeated(overrides: Sequence[str]) -> dict[str, str]:
    """Returns the keys that are given different values one after the other, and the last value of each."""
    values: dict[str, list[str]] = {}
    for each in overrides:
        if (key := key_of(each)) is not None and "=" in each:
            values.setdefault(key, []).append(each.partition("=")[2])
    return {key: found[-1] for key, found in values.items() if len(set(found)) > 1}


def quoted(path: str | Path) -> str:
    """Returns a path, or another text, as a value that Hydra reads unchanged."""
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def for_shell(key: str, value: object) -> str:
    """Returns an override as it is typed into a shell; `readable` adds the quotes that Hydra needs."""
    return shlex.quote(f"{key}={value}")


def text_of(value: Any, *, is_inside: bool = False) -> str:
    """Returns a value of Python as the text of an override; TypeError if it has none.

    Args:
        is_inside: whether it is an element of a list or a mapping.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(int(value) if isinstance(value, int) else float(value))  # without a subclass's own form
    if isinstance(value, os.PathLike):
        return quoted(Path(value))
    if isinstance(value, str):
        is_text = _PLAIN_TEXT.fullmatch(value) or (not is_inside and value.startswith(_BRACKETS))
        return value if is_text else quoted(value)
    if isinstance(value, list | tuple | set | frozenset | range):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return f"[{','.join(text_of(each, is_inside=True) for each in items)}]"
    if isinstance(value, Mapping) and all(isinstance(name, str | int) for name in value):
        # The keys of a mapping can't be quoted, but escaped.
        keys = {name: re.sub(r"([\\()\[\]{}:=, ])", r"\\\1", str(name)) for name in value}
        pairs = (f"{keys[name]}:{text_of(each, is_inside=True)}" for name, each in value.items())
        return f"{{{','.join(pairs)}}}"
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # a number of NumPy or torch
        return text_of(value.item())
    raise TypeError(f"a {type(value).__name__} has no text in a config")


def trusting(trust: Sequence[str]) -> list[str]:
    """Returns the override by which a command trusts modules and folders; none for nothing."""
    return [f"trust={text_of(trust)}"] if trust else []


def is_plain(value: Any) -> bool:
    """Whether a value of Python has a text in a config."""
    try:
        text_of(value)
    except TypeError:
        return False
    return True


def unquoted(value: str) -> str:
    """Inverse of `quoted`."""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return re.sub(rf"\\([\\{value[0]}])", r"\1", value[1:-1])
    return value


_ALLOWED = "choice(a,b), range(1,10), interval(0,1) or tag(log,interval(1e-5,1e-1))"


def listed_values(override: Override) -> tuple[str, ...]:
    """Returns the distinct values that an override lists; raises ConfigError if there are none, as for `range(1,1)`."""
    values = tuple(dict.fromkeys(override.sweep_string_iterator()))
    if not values:
        key, _, spelt = str(override.input_line).partition("=")
        raise ConfigError(key, "there is no value to choose from", got=spelt, allowed=_ALLOWED)
    return values


def grid_jobs(overrides: Sequence[Override]) -> list[list[str]]:
    """Returns the overrides of each job of a grid: every combination of the listed values."""
    axes = {
        override.get_key_element(): list(override.sweep_string_iterator())
        if override.is_sweep_override()
        else [override.get_value_element_as_str()]
        for override in overrides
    }
    return [
        [f"{key}={value}" for key, value in zip(axes, values, strict=True)]
        for values in itertools.product(*axes.values())
    ]
